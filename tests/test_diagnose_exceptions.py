"""Causes that an exception names, where nothing was recorded: an import, or what ends before a model runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.diagnose.diagnosis import Diagnosis, diagnose
from harness.compare.diagnose.evidence import ComparedSide, Evidence
from harness.compare.diagnose.runner import Traced
from harness.core.cells import Cell, Failure, Frame, Outcome, Status

FILES = {
    "funasr/__init__.py": "",
    "funasr/a.py": "from funasr.b import helper\n\ndef f():\n    return helper()\n",
    "funasr/b.py": "def helper():\n    return 1\n",
    "funasr/c.py": "import os\n\ndef g():\n    return os.sep\n",
}


def write(folder: Path, **changed: str | None) -> Path:
    for name, text in FILES.items():
        new = changed.get(Path(name).stem, text)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if new is not None:
            path.write_text(new, encoding="utf-8")
    return folder


def told(tmp_path: Path, kind: str, message: str, frame: Frame, **changed: str | None) -> Diagnosis:
    failure = Failure(type=kind, message=message, frames=(frame,), signature=f"{kind}@{frame.file}:{frame.function}")

    def side(label: str, install_dir: Path, found: Failure | None) -> ComparedSide:
        outcome = Outcome(
            cell=Cell.parse(f"{label}/-/-/-/import/cpu-fp32"),
            status=Status.FAILED if found else Status.PASSED,
            reason="it fails" if found else "",
            failure=found,
        )
        return ComparedSide(traced=Traced(outcome=outcome, trace=None, raw=None, install_dir=install_dir))

    mine = side("2.0.0", write(tmp_path / "mine", **changed), failure)
    other = side("1.0.0", write(tmp_path / "other"), None)
    return diagnose(Evidence(mine=mine, other=other), why="", advice="")


IMPORT = Frame(file="funasr/a.py", line=1, function="<module>", code="from funasr.b import helper")


@pytest.mark.parametrize(
    ("kind", "message", "frame", "changed", "cause"),
    [
        (
            "ImportError",
            "cannot import name 'helper' from 'funasr.b' (funasr/b.py)",
            IMPORT,
            {"b": "def helped():\n    return 1\n"},
            "`funasr.b` has no `helper`, and `funasr/a.py:1` asks for it; 1.0.0 has it in funasr/b.py:1.",
        ),
        (
            "ModuleNotFoundError",
            "No module named 'funasr.b'",
            IMPORT,
            {"b": None},
            "The release has no module `funasr.b`, and `funasr/a.py:1` asks for it; 1.0.0 has it in funasr/b.py.",
        ),
        (
            "NameError",
            "name 'os' is not defined",
            Frame(file="funasr/c.py", line=2, function="g", code="return os.sep"),
            {"c": "def g():\n    return os.sep\n"},
            "`g` (funasr/c.py:2) uses `os`, which nothing in that file defines or imports; 1.0.0 does so in line 1.",
        ),
    ],
)
def test_a_name_that_is_not_there_is_reported_with_where_it_was(
    tmp_path: Path, kind: str, message: str, frame: Frame, changed: dict[str, str | None], cause: str
) -> None:
    found = told(tmp_path, kind, message, frame, **changed)
    assert (found.rule, found.cause) == ("name", cause)


@pytest.mark.parametrize(
    ("kind", "message", "frame"),
    [
        ("ImportError", "cannot import name 'helper' from 'funasr.b' (funasr/b.py)", IMPORT),
        (
            "NameError",
            "name 'os' is not defined",
            Frame(file="funasr/c.py", line=4, function="g", code="return os.sep"),
        ),
        ("ValueError", "something else", Frame(file="funasr/c.py", line=4, function="g", code="return os.sep")),
    ],
)
def test_a_message_that_the_source_does_not_bear_out_is_no_cause(
    tmp_path: Path, kind: str, message: str, frame: Frame
) -> None:
    found = told(tmp_path, kind, message, frame)
    assert found.cause == ""
    assert found.known
    assert found.unknown


def test_where_it_ended_is_reported_to_have_changed(tmp_path: Path) -> None:
    frame = Frame(file="funasr/c.py", line=4, function="g", code="return os.altsep")
    found = told(tmp_path, "ValueError", "x", frame, c="import os\n\ndef g():\n    return os.altsep\n")
    assert found.cause == ""
    assert "`g`, where it ends, is not the same in 1.0.0" in found.known
    assert [change.function for change in found.changes] == ["g"]
