"""Which releases need a module without saying so, and which compatibility shims were made use of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from report_factory import RELEASES, cell, judged, outcome

from harness.config.expansion import import_cell
from harness.core.versions import Order, in_words
from harness.environments import environment
from harness.report.labels import SHIM_MEANING
from harness.report.run_info import shims_used, undeclared_modules
from harness.worker.release import shims

ROOT = Path(__file__).parent.parent
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


def test_shims_come_with_the_checks_that_used_them():
    name = "cuda-calls-stay-on-cpu"
    found = judged([outcome(cell("1.0.0", check), shims=(name,)) for check in ("construct", "finetune@train")])
    (use,) = shims_used(found, ORDER)
    assert (use.cells, use.checks, in_words(use.spans)) == (2, ("construct", "finetune"), "1.0.0")
    assert ".cuda()" in use.meaning


def notes_of(tree: ast.AST) -> Iterator[ast.expr]:
    """The arguments of the calls by which a shim says that it took effect."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("shims.note", "_used.add"):
            yield node.args[0]


def test_every_shim_that_can_be_noted_has_its_description_in_the_reports_and_in_the_design():
    assert set(SHIM_MEANING) == set(shims.SHIMS)
    assert environment.WITHOUT_NATIVE_LIBRARIES in shims.SHIMS
    table = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/design.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(shims.SHIMS) <= set(table)
    assert len(set(shims.SHIMS)) == len(shims.SHIMS)


def test_nothing_is_noted_under_a_name_that_is_not_among_the_shims():
    names = {name for name in vars(shims) if vars(shims)[name] in shims.SHIMS}
    noted = [
        argument
        for path in sorted((ROOT / "harness/worker").rglob("*.py"))
        for argument in notes_of(ast.parse(path.read_text(encoding="utf-8")))
    ]
    told = {ast.unparse(argument).removeprefix("shims.") for argument in noted}
    # `name` is what a child of the process noted, or what the request says of the environment.
    assert told - {"name"} <= names
    assert len(told & names) == len(names) - 1
