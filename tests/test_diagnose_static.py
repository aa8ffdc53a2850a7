"""The static comparison: statements, parameters, keys, results, registries."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.diagnose.api import Of
from harness.compare.diagnose.changes import function_changes
from harness.compare.diagnose.source import MODULE, ReleaseSource
from harness.compare.diagnose.static_changes import api_changes

FILE = "funasr/models/m.py"


def write(folder: Path, text: str, file: str = FILE) -> ReleaseSource:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return ReleaseSource(folder)


def compared(tmp_path: Path, mine: str, other: str) -> list[tuple[Of, str, str, str]]:
    one, two = write(tmp_path / "mine", mine), write(tmp_path / "other", other)
    ran = {(FILE, "f")}
    changed = function_changes(ran, ran, one, two)
    return [(each.of, each.name, each.was, each.now) for each in api_changes(changed, [FILE], one, two)]


def test_comments_layout_and_annotations_are_no_change(tmp_path: Path) -> None:
    mine = write(
        tmp_path / "mine",
        'def f(x: int,\n      y=1):\n    """Says it."""\n    # why\n    return (x +\n            y)\n',
    )
    other = write(tmp_path / "other", "def f(x, y = 1) -> int:\n    return x + y\n")
    assert function_changes({(FILE, "f")}, {(FILE, "f")}, mine, other) == ()


def test_a_changed_statement_is_reported_with_its_lines_in_both(tmp_path: Path) -> None:
    mine = write(
        tmp_path / "mine",
        "# one line more\nclass A:\n    def f(self, x):\n        if x:\n            x = x * 2\n        return x\n",
    )
    other = write(
        tmp_path / "other", "class A:\n    def f(self, x):\n        if x:\n            x = x * 3\n        return x\n"
    )
    (found,) = function_changes({(FILE, "A.f")}, {(FILE, "A.f")}, mine, other)
    assert found.place == f"{FILE}:3 A.f"
    (edit,) = found.edits
    assert [(line.number, line.depth, line.text) for line in edit.mine] == [(5, 1, "x = x * 2")]
    assert [(line.number, line.text) for line in edit.other] == [(4, "x = x * 3")]


def test_what_did_not_run_is_left_out_and_what_runs_unseen_is_not(tmp_path: Path) -> None:
    text = (
        "LIMIT = {}\n@torch.jit.script\ndef compiled(x):\n    return x + {}\n"
        "def never(x):\n    return x + {}\ndef f(x):\n    return x\n"
    )
    mine, other = write(tmp_path / "mine", text.format(1, 1, 1)), write(tmp_path / "other", text.format(2, 2, 2))
    found = function_changes({(FILE, "f")}, {(FILE, "f")}, mine, other)
    assert {each.function for each in found} == {MODULE, "compiled"}


def test_a_function_that_only_one_release_has_is_reported_as_whole(tmp_path: Path) -> None:
    mine, other = (
        write(tmp_path / "mine", "def f(): pass\ndef g(): pass\n"),
        write(tmp_path / "other", "def f(): pass\n"),
    )
    (found,) = function_changes({(FILE, "f"), (FILE, "g")}, {(FILE, "f")}, mine, other)
    assert (found.function, found.is_whole, found.ran, found.other_ran) == ("g", True, True, False)


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        ("def f(a, b=1): pass", "def f(a, b=2): pass", [(Of.DEFAULT_CHANGED, "b", "2", "1")]),
        ("def f(a, c): pass", "def f(a, b): pass", [(Of.PARAMETER_RENAMED, "c", "b", "c")]),
        ("def f(a, *, b): pass", "def f(a): pass", [(Of.PARAMETER_ADDED, "b", "", "")]),
        ("def f(a): pass", "def f(a, b=1): pass", [(Of.PARAMETER_REMOVED, "b", "", "")]),
        (
            "def f(a, b, c): pass",
            "def f(a, c, b): pass",
            [(Of.PARAMETER_MOVED, "b", "3", "2"), (Of.PARAMETER_MOVED, "c", "2", "3")],
        ),
        ("def f(**k): k.get('x', 1)", "def f(**k): k.get('x', 2)", [(Of.KEY_DEFAULT, "x", "2", "1")]),
        ("def f(**k): k['y']", "def f(**k): k['x']", [(Of.KEY_RENAMED, "y", "x", "y")]),
        ("def f(row): return 1", "def f(row): return row['source']", [(Of.KEY_REMOVED, "source", "", "")]),
        ("def f(a): return a, a", "def f(a): return a", [(Of.RETURN_LENGTH, "f", "1 values", "2 values")]),
        ("def f(): return 1\ndef g(): pass", "def f(): return 2", [(Of.OBJECT_ADDED, "g", "", "")]),
    ],
)  # fmt: skip
def test_each_kind_of_change_is_reported(
    tmp_path: Path, mine: str, other: str, expected: list[tuple[Of, str, str, str]]
) -> None:
    assert compared(tmp_path, mine, other) == expected


def test_a_component_that_moved_to_another_module_is_reported(tmp_path: Path) -> None:
    register = '@tables.register("encoder_classes", "E")\nclass E: pass\n'
    mine, other = (
        write(tmp_path / "mine", "def f(): return 1\n"),
        write(tmp_path / "other", "def f(): return 2\n" + register),
    )
    write(tmp_path / "mine", register, "funasr/models/n.py")
    changed = function_changes({(FILE, "f")}, {(FILE, "f")}, mine, other)
    (found,) = [each for each in api_changes(changed, [FILE], mine, other) if each.of is Of.REGISTERED_ELSEWHERE]
    assert found.text == "`encoder_classes.E` is registered in funasr.models.n, was in funasr.models.m"


def test_keys_of_yaml_files_beside_the_code_are_compared(tmp_path: Path) -> None:
    mine, other = write(tmp_path / "mine", "def f(): pass\n"), write(tmp_path / "other", "def f(): pass\n")
    write(tmp_path / "mine", "encoder_conf: {rate: 1}\n", "funasr/models/template.yaml")
    write(tmp_path / "other", "encoder_conf: {dropout: 1}\n", "funasr/models/template.yaml")
    found = api_changes((), [FILE], mine, other)
    assert [(each.of, each.name) for each in found] == [
        (Of.YAML_KEY_REMOVED, "encoder_conf.dropout"),
        (Of.YAML_KEY_ADDED, "encoder_conf.rate"),
    ]


def test_a_file_that_is_no_python_has_no_functions(tmp_path: Path) -> None:
    source = write(tmp_path / "mine", "def f(:\n")
    assert source.functions(FILE) == {}
    assert source.line(FILE, 1) == ""
