"""The `import` check, on miniature releases in interpreters that have nothing but a few miniature libraries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packaging
import pytest
import tiny_release

from harness.core import channels, wire
from harness.worker.checks import importing

ROOT = Path(__file__).parent.parent
CRASH = "import ctypes\nctypes.string_at(0)\n"
SWALLOWING = """
import importlib, pkgutil
for info in pkgutil.walk_packages(__path__, "funasr."):
    try:
        importlib.import_module(info.name)
    except Exception:
        pass
"""
STATING = """
_errors = {"funasr.shy": "RuntimeError: planted", "funasr.fine": "ImportError: the first time"}
def get_import_errors():
    return dict(_errors)
"""


@dataclass(frozen=True, kw_only=True)
class Library:
    """A distribution of one module in the interpreter."""

    name: str
    module: str
    version: str = "1.0"
    requires: tuple[str, ...] = ()
    text: str = ""


LIBRARIES = (
    Library(name="torch", module="torch", version="2.13.0"),
    Library(name="packaging", module="packaging", version="24.0"),
    Library(name="Open.Lib", module="openlib", requires=("below",), text="import below\n"),
    Library(name="below", module="below"),
    Library(name="veiled-dist", module="veiled", requires=("beneath",), text="import beneath\n"),
    Library(name="beneath", module="beneath"),
    Library(name="shrouded", module="shrouded"),
    Library(name="curious", module="curious", text="try:\n    import shrouded\nexcept ImportError:\n    pass\n"),
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with these libraries and nothing else."""
    place = tmp_path_factory.mktemp("stack") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    for library in LIBRARIES:
        if library.module != "packaging":
            (packages / f"{library.module}.py").write_text(library.text)
        metadata = packages / f"{library.name.replace('-', '_')}-{library.version}.dist-info"
        metadata.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {library.name}", f"Version: {library.version}"]
        lines += [f"Requires-Dist: {line}" for line in library.requires]
        (metadata / "METADATA").write_text("\n".join(lines) + "\n")
        (metadata / "top_level.txt").write_text(library.module + "\n")
    (packages / "packaging").symlink_to(Path(packaging.__file__).parent, target_is_directory=True)
    return place / "bin" / "python"


@dataclass(frozen=True)
class Ended:
    """How the check's process ended, and what it answered."""

    code: int
    answer: dict[str, Any]
    trace: str
    """What the interpreter wrote of a crash."""

    @property
    def evidence(self) -> dict[str, Any]:
        evidence: dict[str, Any] = self.answer["evidence"]
        return evidence


def check(
    python: Path, room: Path, init: str, *, files: dict[str, str] | None = None, requires: tuple[str, ...] = ()
) -> Ended:
    """Ask the question about a release, in a process as the tree starts it."""
    install_dir = tiny_release.write_package(room / "release", files or {}, init=init, requires=requires)
    order = {
        "checks_module": "harness.worker.checks.dispatch",
        "request": {"check": "import", "release": {"install_dir": str(install_dir)}, "device": "cpu"},
        "sys_path": [],
    }
    content = wire.dumps(order).encode()
    request = channels.make_file("request", len(content) + 1)
    channels.write_file(request, content)
    result, trace = (
        channels.make_file("result", channels.RESULT_BYTES),
        channels.make_file("trace", channels.TRACE_BYTES),
    )
    descriptors = (request, result, trace)
    child = subprocess.run(
        [str(python), "-P", "-m", "harness.worker", "cell", *map(str, descriptors)],
        pass_fds=descriptors,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=room,
        capture_output=True,
        check=False,
    )
    answer = channels.read_file(result, channels.RESULT_BYTES)
    traced = channels.read_file(trace, channels.TRACE_BYTES).decode()
    for descriptor in descriptors:
        os.close(descriptor)
    return Ended(child.returncode, json.loads(answer) if answer else {}, traced)


def test_a_sound_release_imports_on_what_it_declares(python: Path, tmp_path: Path) -> None:
    files = {"models/a.py": "import below", "models/b.py": ""}
    ended = check(
        python,
        tmp_path,
        "import openlib, torch\nfrom funasr.models import a\n",
        files=files,
        requires=("open_lib>=0.5",),
    )
    assert (ended.code, ended.answer["status"], ended.answer["reason"]) == (0, "passed", "")
    assert ended.evidence == {
        "declared": ["open-lib"],
        "undeclared": [],
        "hidden_and_asked_for": [],
        "submodule_errors": [],
        "unmet": [],
        "registry": {"registrations": [], "winners": {}},
        "findings": [],
    }
    metrics = ended.answer["metrics"]
    assert (metrics["modules_imported"], metrics["modules_failed"]) == (2, 0)
    assert metrics["import_seconds"] > 0
    assert ended.answer["shims"] == []


def test_libraries_that_are_needed_and_not_declared_are_named_and_the_import_tried_again(
    python: Path, tmp_path: Path
) -> None:
    ended = check(python, tmp_path, "import veiled\nimport shrouded\n")
    assert ended.answer["status"] == "passed"
    assert ended.evidence["undeclared"] == ["veiled", "shrouded"]
    assert ended.evidence["hidden_and_asked_for"] == []


def test_a_declared_library_brings_what_it_requires_itself(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, "import veiled, beneath\n", requires=("veiled_dist",))
    assert (ended.answer["status"], ended.evidence["undeclared"]) == ("passed", [])


def test_a_library_that_is_declared_for_an_extra_only_is_not_declared(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, "import veiled\n", requires=('veiled-dist; extra == "train"',))
    assert (ended.evidence["declared"], ended.evidence["undeclared"]) == ([], ["veiled"])


def test_a_library_that_is_neither_declared_nor_there_fails_the_release(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, "import nowhere_to_be_found\n")
    assert ended.answer["status"] == "failed"
    assert ended.answer["reason"] == "import funasr: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    assert ended.answer["failure"]["signature"] == "ModuleNotFoundError@funasr/__init__.py:<module>"
    assert ended.evidence["undeclared"] == []
    assert ended.answer["metrics"] == {"import_seconds": None, "modules_imported": None, "modules_failed": 0}


def test_what_was_shown_before_an_absent_library_is_still_named(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, "import veiled\nimport nowhere_to_be_found\n")
    assert (ended.answer["status"], ended.evidence["undeclared"]) == ("failed", ["veiled"])


def test_a_hidden_library_that_the_release_can_do_without_is_reported_apart(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, "try:\n    import veiled\nexcept ImportError:\n    veiled = None\n")
    assert ended.answer["status"] == "passed"
    assert (ended.evidence["undeclared"], ended.evidence["hidden_and_asked_for"]) == ([], ["veiled"])


def test_what_a_library_requests_is_not_the_releases_request(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, "import curious\n", requires=("curious",))
    assert ended.answer["status"] == "passed"
    assert ended.evidence["hidden_and_asked_for"] == []


@pytest.mark.parametrize(
    ("init", "kind", "reason"),
    [
        ('raise ValueError("planted")\n', "ValueError", "import funasr: ValueError: planted"),
        ("def broken(:\n", "SyntaxError", "import funasr: SyntaxError: invalid syntax (__init__.py, line 1)"),
        ("import sys\nsys.exit('planted')\n", "SystemExit", "import funasr: SystemExit: planted"),
        ("from funasr import gone\n", "ImportError", "import funasr: ImportError: cannot import name 'gone'"),
    ],
)
def test_what_a_release_raises_at_its_import_is_its_failure(
    python: Path, tmp_path: Path, init: str, kind: str, reason: str
) -> None:
    ended = check(python, tmp_path, init)
    assert (ended.code, ended.answer["status"]) == (0, "failed")
    assert ended.answer["reason"].startswith(reason)
    assert ended.answer["failure"]["signature"] == f"{kind}@funasr/__init__.py:<module>"


def test_submodules_that_fail_without_a_word_are_listed(python: Path, tmp_path: Path) -> None:
    files = {
        "models/good.py": "",
        "models/bad.py": 'raise RuntimeError("planted in\\n   " + __file__)',
        "models/exits.py": "import sys\nsys.exit(3)",
        "models/needs.py": "import veiled",
        "models/late.py": "",
    }
    ended = check(python, tmp_path, "", files=files)
    assert ended.answer["status"] == "passed"
    assert ended.evidence["submodule_errors"] == [
        {"module": "funasr.models.bad", "error": "RuntimeError: planted in funasr/models/bad.py"},
        {"module": "funasr.models.exits", "error": "SystemExit: 3"},
        {"module": "funasr.models.needs", "error": "ModuleNotFoundError: No module named 'veiled'"},
    ]
    assert ended.answer["metrics"]["modules_failed"] == 3
    assert ended.evidence["hidden_and_asked_for"] == ["veiled"]


def test_a_release_that_swallows_its_submodules_errors_is_seen_through(python: Path, tmp_path: Path) -> None:
    files = {"good.py": "", "bad.py": 'raise RuntimeError("planted")'}
    ended = check(python, tmp_path, SWALLOWING, files=files)
    assert ended.evidence["submodule_errors"] == [{"module": "funasr.bad", "error": "RuntimeError: planted"}]
    assert ended.answer["metrics"]["modules_imported"] == 1


def test_what_a_release_states_of_its_submodules_counts_where_a_second_try_succeeds(
    python: Path, tmp_path: Path
) -> None:
    files = {"shy.py": 'raise RuntimeError("planted")', "fine.py": "", "never_tried.py": ""}
    ended = check(python, tmp_path, STATING, files=files)
    assert ended.evidence["submodule_errors"] == [
        {"module": "funasr.fine", "error": "ImportError: the first time (imports when tried again)"},
        {"module": "funasr.shy", "error": "RuntimeError: planted"},
    ]


def test_a_crash_at_import_ends_the_check_in_the_same_way(python: Path, tmp_path: Path) -> None:
    ended = check(python, tmp_path, CRASH)
    assert (ended.code, ended.answer) == (-signal.SIGSEGV, {})
    trace = ended.trace
    assert "Segmentation fault" in trace
    assert "funasr/__init__.py" in trace


@pytest.mark.parametrize("code", [0, 3])
def test_a_release_that_leaves_at_its_import_gives_no_result(python: Path, tmp_path: Path, code: int) -> None:
    ended = check(python, tmp_path, f"import os\nos._exit({code})\n")
    assert (ended.code, ended.answer) == (code, {})


def test_requirements_that_the_stack_does_not_meet_are_listed(python: Path, tmp_path: Path) -> None:
    requires = (
        "below<0.5",
        "open-lib>=1.0",
        "absent-lib>=2",
        'absent-on-this-system; sys_platform == "never"',
        'absent-extra; extra == "train"',
    )
    ended = check(python, tmp_path, "", requires=requires)
    assert ended.answer["status"] == "passed"
    assert ended.evidence["unmet"] == [
        {"requirement": "below<0.5", "stack": "1.0"},
        {"requirement": "absent-lib>=2", "stack": "not installed"},
    ]


@pytest.mark.parametrize("kind", ["raises", "unwritable"])
def test_a_fault_of_the_check_itself_is_none_of_the_releases(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*_: Any) -> dict[str, Any]:
        if kind == "raises":
            raise RuntimeError("planted")
        return {"imported": object()}

    monkeypatch.setattr(importing, "_try_import", planted)
    child = os.fork()
    if child == 0:
        importing.import_in_child("/nowhere", importing.Hidden([], "/nowhere"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == wire.OWN_FAULT
