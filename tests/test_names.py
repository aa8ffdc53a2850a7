"""Whoever searches for a class finds one."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "harness"


def shared(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Public classes at the top of more than one module, by name; `sources` are paths and texts."""
    places = defaultdict(list)
    for path, text in sources:
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    return {name: found for name, found in places.items() if len(found) > 1}


def harness() -> list[tuple[str, str]]:
    return [(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]


def test_every_public_class_has_a_name_of_its_own() -> None:
    assert shared(harness()) == {}


def test_a_name_that_is_given_twice_is_found() -> None:
    planted = ("report/planted.py", "class Cell:\n    pass\n\n\nclass _Cell:\n    pass\n")
    assert shared([*harness(), planted]) == {"Cell": ["core/cells.py", "report/planted.py"]}
