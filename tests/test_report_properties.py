"""The report's records of properties; the runs are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.core.cells import Cell, Outcome, Severity, Status
from harness.core.versions import Order
from harness.report.properties import WORDS, variant_properties

ORDER = Order(labels=("1.0.0", "1.0.1", "1.1.0", "1.2.0"))


def item(
    release: str, *found: tuple[str, str], variant: str = "paraformer", check: str = "properties", **more: Any
) -> Any:
    evidence = {
        "properties": [
            {"name": name, "status": status, "examples": 7, "message": f"{name} in {release}"} for name, status in found
        ],
        "counterexamples": [
            {"property": name, "config": f"model: {name} of {release}\nexample:\n  seed: 0\n", "message": ""}
            for name, status in found
            if status in ("fails", "known")
        ],
    }
    cell = Cell.parse(f"{release}/{variant}/v8404-h320/reduced/{check}/cpu-fp32")
    fields = {"evidence": evidence, "metrics": {"examples": 7 * len(found)}, **more}
    wrong = {name for name, status in found if status in ("fails", "known")}
    return SimpleNamespace(
        outcome=Outcome(cell=cell, status=Status.PASSED, reason="", **fields),
        severity_of=lambda name: Severity.WRONG if name in wrong else None,
    )


def test_releases_of_which_the_same_is_true_are_reported_together() -> None:
    judged = [
        item("1.2.0", ("lengths_agree", "holds"), ("classes_fit", "holds")),
        item("1.0.1", ("lengths_agree", "fails"), ("classes_fit", "holds")),
        item("1.0.0", ("lengths_agree", "fails"), ("classes_fit", "holds")),
    ]
    (section,) = variant_properties(judged, ORDER)
    assert (section.variant, section.cells, section.examples, section.fewest) == ("paraformer", 3, 42, 14)
    classes, lengths = section.rows
    assert (classes.name, classes.words, classes.status) == ("classes_fit", WORDS["classes_fit"], "holds")
    assert (lengths.name, lengths.status) == ("lengths_agree", "fails")
    fails, holds = lengths.uses
    assert (fails.severity, holds.severity) == (Severity.WRONG, None)
    assert [str(span) for span in fails.spans] == ["1.0.0, 1.0.1"]
    assert [str(span) for span in holds.spans] == ["1.2.0"]
    assert fails.examples == 14


def test_message_and_counter_example_are_those_of_the_newest_release() -> None:
    judged = [item("1.1.0", ("lengths_agree", "fails")), item("1.0.0", ("lengths_agree", "fails"))]
    (section,) = variant_properties(judged, ORDER)
    (use,) = section.rows[0].uses
    assert use.message == "lengths_agree in 1.1.0"
    assert use.counterexample.startswith("model: lengths_agree of 1.1.0\nexample:\n")
    assert use.cell == "1.1.0/paraformer/v8404-h320/reduced/properties/cpu-fp32"


def test_the_gravest_comes_first_and_speaks_for_the_row() -> None:
    status = ("does_not_apply", "holds", "not_tested", "known", "fails")
    judged = [item(release, ("lengths_agree", one)) for release, one in zip(ORDER.labels * 2, status, strict=False)]
    (section,) = variant_properties(judged, ORDER)
    assert [use.status for use in section.rows[0].uses] == ["fails", "known", "holds", "not_tested", "does_not_apply"]
    assert section.rows[0].status == "fails"
    assert [bool(use.counterexample) for use in section.rows[0].uses] == [True, True, False, False, False]


def test_each_variant_has_its_own_and_a_property_of_another_harness_comes_last() -> None:
    judged = [
        item("1.0.0", ("news", "holds"), ("parts_add_up", "holds")),
        item("1.0.0", ("parts_add_up", "holds"), variant="paraformer_streaming"),
    ]
    sections = variant_properties(judged, ORDER)
    assert [section.anchor for section in sections] == ["properties-paraformer", "properties-paraformer_streaming"]
    assert [row.name for row in sections[0].rows] == ["parts_add_up", "news"]
    assert sections[0].rows[1].words == "news"


def test_cells_without_results_are_skipped() -> None:
    blocked = item("1.0.0", evidence={}, metrics={})
    assert variant_properties([blocked], ORDER) == ()
    other = item("1.0.0", check="construct", evidence={})
    assert variant_properties([other], ORDER) == ()


def test_a_cell_without_a_count_counts_for_nothing() -> None:
    (section,) = variant_properties([item("1.0.0", ("parts_add_up", "holds"), metrics={})], ORDER)
    assert (section.examples, section.fewest) == (0, 0)
