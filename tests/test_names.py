"""Whoever searches for a class finds one, and names say what they are."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harness"

SAY_NOTHING = frozenset(
    [
        "alike",
        "apart",
        "asked",
        "asking",
        "each",
        "elsewhere",
        "every",
        "found",
        "given",
        "gone",
        "heard",
        "here",
        "kept",
        "lacking",
        "made",
        "one",
        "ours",
        "rest",
        "room",
        "said",
        "seen",
        "stated",
        "taken",
        "telling",
        "there",
        "told",
        "wanted",
        "was",
        "whole",
    ]
)
"""Participles, adverbs and pronouns, which say nothing until the code around is read: no function, parameter or
variable is called so. Fields of records may be, where files have them."""


def shared(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Public classes at the top of more than one module, by name; `sources` are paths and texts."""
    places = defaultdict(list)
    for path, text in sources:
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    return {name: found for name, found in places.items() if len(found) > 1}


def names(sources: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Where functions, parameters and variables get a name, each without underscores; fields of classes left out."""
    named = []
    for path, text in sources:
        tree = ast.parse(text)
        fields = {id(line.target) for line in _lines_of_classes(tree) if isinstance(line, ast.AnnAssign)}
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name, ctx=ast.Store()) if id(node) not in fields:
                    named.append((f"{path}:{node.lineno}", name))
                case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ExceptHandler(name=str(name)):
                    named.append((f"{path}:{node.lineno}", name))
    return [(place, name.strip("_")) for place, name in named]


def _lines_of_classes(tree: ast.Module) -> Iterable[ast.stmt]:
    return (line for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for line in node.body)


def harness() -> list[tuple[str, str]]:
    return [(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]


def test_every_public_class_has_a_name_of_its_own() -> None:
    assert shared(harness()) == {}


def test_a_name_that_is_given_twice_is_found() -> None:
    planted = ("report/planted.py", "class Cell:\n    pass\n\n\nclass _Cell:\n    pass\n")
    assert shared([*harness(), planted]) == {"Cell": ["core/cells.py", "report/planted.py"]}


def test_names_say_what_they_are() -> None:
    assert [(place, name) for place, name in names(harness()) if name in SAY_NOTHING] == []


@pytest.mark.parametrize(
    "text",
    [
        "told = 1",
        "for one in ():\n    pass",
        "def f(given):\n    pass",
        "def _seen():\n    pass",
        "[x for there in ()]",
    ],
)
def test_a_name_that_says_nothing_is_found(text: str) -> None:
    (place,) = [place for place, name in names([("planted.py", text)]) if name in SAY_NOTHING]
    assert place == "planted.py:1"


def test_a_field_of_a_record_may_have_any_name() -> None:
    assert names([("planted.py", "class Record:\n    told: str\n")]) == []
