"""Which releases need a module without saying so, and which adaptations were made use of."""

from __future__ import annotations

from report_factory import RELEASES, cell, judged, outcome

from harness.matrix.expansion import import_cell
from harness.report.order import Order, in_words
from harness.report.surroundings import adaptations_used, undeclared_modules

ORDER = Order.of(RELEASES, ())


def imported(release, *modules):
    return outcome(import_cell(release), evidence={"undeclared": list(modules)})


def test_modules_come_with_the_ranges_of_releases_that_need_them():
    found = judged(
        [
            imported("1.0.0", "tiktoken"),
            imported("1.0.1", "tiktoken", "jamo"),
            imported("1.0.2"),
            imported("1.0.3", "jamo"),
        ]
    )
    assert [(entry.module, entry.releases, in_words(entry.spans)) for entry in undeclared_modules(found, ORDER)] == [
        ("jamo", 2, "1.0.1, 1.0.3"),
        ("tiktoken", 2, "1.0.0, 1.0.1"),
    ]


def test_adaptations_come_with_the_rungs_that_used_them():
    name = "cuda-calls-stay-on-cpu"
    found = judged([outcome(cell("1.0.0", rung), adaptations=(name,)) for rung in ("construct", "finetune@train")])
    (use,) = adaptations_used(found, ORDER)
    assert (use.cells, use.checks, in_words(use.spans)) == (2, ("construct", "finetune"), "1.0.0")
    assert ".cuda()" in use.meaning
