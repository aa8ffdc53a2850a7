"""Every rule of preflight is on its page, and the page marks those that no test names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from preflight_faults import KINDS, page, planted
from preflight_faults import PAGE as FAULTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "reports" / "preflight_rules.md").read_text(encoding="utf-8")

ONE_FOR_EACH_ISSUE = "known-ID"


def documented() -> dict[str, bool]:
    """Each rule of the page, and whether it is marked as untested."""
    cells = (line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    return {name: bool(mark) for cell in cells for name, mark in re.findall(r"`([a-zA-Z0-9-]+)`( ²)?", cell)}


def in_code() -> Iterator[str]:
    """What is given as `rule=` in preflight's code, as far as it is a plain text."""
    for path in (ROOT / "harness" / "preflight").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "rule" and isinstance(node.value, ast.Constant):
                yield str(node.value.value)


def text_of(folder: str, pattern: str) -> str:
    """All files of a folder but this one, which names rules without testing them."""
    paths = (path for path in sorted((ROOT / folder).rglob(pattern)) if path.name != Path(__file__).name)
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_every_rule_of_the_code_is_documented() -> None:
    found = set(in_code())
    assert len(found) > 100
    assert found - set(documented()) == set()


def test_every_documented_rule_is_in_the_code() -> None:
    code = text_of("harness/preflight", "*.py")
    # Two are made of a field's name.
    made = {"row-target-changed", "row-source-changed", ONE_FOR_EACH_ISSUE}
    assert [name for name in documented() if name not in made and not re.search(rf"[\"']{name}[\"']", code)] == []


def test_the_page_marks_the_rules_that_no_test_names() -> None:
    tests = text_of("tests", "test_preflight*.py")
    untested = {name for name in documented() if not re.search(rf"[\"' ,(]{name}[\"' ,)]", tests)} - {
        ONE_FOR_EACH_ISSUE
    }
    assert untested == {name for name, marked in documented().items() if marked}
    total = len(documented())
    assert f"{total - len(untested)} of the {total} rules" in PAGE


def test_a_rule_that_is_missing_from_the_page_is_found() -> None:
    assert "no-such-rule" not in documented()
    assert "lfs-pointer" in documented()


def test_the_table_of_planted_faults_is_that_of_the_tests() -> None:
    assert FAULTS.read_text(encoding="utf-8") == page(), "write it: python tests/preflight_faults.py"
    assert len(planted()) >= 40
    assert {one.kind for one in planted()} == set(KINDS)
