"""Whose doing a failure was, and what is told of it: nothing of this machine."""

from __future__ import annotations

import errno
import importlib.util
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.worker.process import failures

RELEASE = """
def calls(function):
    function()

def asserts():
    assert 320 == 8404

def raises_itself():
    raise ValueError("planted")

def raises_with_its_path():
    raise ValueError("cannot read " + __file__)

def raises_over_lines():
    raise ValueError("one\\n   two")

def asks_a_library():
    import json
    json.loads("{")

def goes_deep(left=40):
    if not left:
        raise ValueError("planted")
    goes_deep(left - 1)
"""


@pytest.fixture
def install_dir(tmp_path: Path) -> Path:
    (tmp_path / "funasr").mkdir()
    return tmp_path


@pytest.fixture
def funasr(install_dir: Path) -> types.ModuleType:
    """A module of a release."""
    path = install_dir / "funasr" / "model.py"
    path.write_text(RELEASE)
    return load(path)


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("planted_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def caught(function: Callable[..., Any], *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:
        return error
    pytest.fail("nothing was raised")


def throw(error: BaseException) -> Callable[[], None]:
    def thrower() -> None:
        raise error

    return thrower


class OutOfMemoryError(RuntimeError):
    """By its name, as torch's own is told."""


def ours(function: Callable[[], None]) -> Callable[[], None]:
    """The function as code of the harness would call it, and raise in it."""
    place = str(Path(failures.__file__).parent / "hook.py")
    scope: dict[str, Any] = {"function": function}
    exec(compile("def hook():\n    raise KeyError('planted')\n", place, "exec"), scope)
    hook: Callable[[], None] = scope["hook"]
    return hook


@pytest.mark.parametrize("name", ["asserts", "raises_itself", "asks_a_library", "goes_deep"])
def test_what_a_release_raises_is_its_failure(install_dir: Path, funasr: types.ModuleType, name: str) -> None:
    assert failures.status_of(caught(getattr(funasr, name)), str(install_dir)) == "failed"


def test_what_happens_outside_a_release_is_errored(install_dir: Path) -> None:
    assert failures.status_of(caught(throw(ValueError("planted"))), str(install_dir)) == "errored"


def test_what_a_hook_of_ours_raises_below_a_release_is_errored(install_dir: Path, funasr: types.ModuleType) -> None:
    error = caught(funasr.calls, ours(lambda: None))
    assert failures.frames(error, str(install_dir))[-1]["file"] == "harness/worker/process/hook.py"
    assert failures.status_of(error, str(install_dir)) == "errored"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("planted"),
        OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("unable to mmap 32212254720 bytes from file <model.pt>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_want_of_memory_is_a_status_of_its_own(
    install_dir: Path, funasr: types.ModuleType, error: BaseException
) -> None:
    assert failures.status_of(caught(funasr.calls, throw(error)), str(install_dir)) == "out_of_memory"


def test_an_error_that_want_of_memory_led_to_is_want_of_memory(install_dir: Path, funasr: types.ModuleType) -> None:
    def wrap() -> None:
        try:
            raise MemoryError  # noqa: TRY301 - one function, as in a release
        except MemoryError:
            raise KeyError("planted")  # noqa: B904 - as a release may do it

    def replace() -> None:
        try:
            raise MemoryError  # noqa: TRY301 - one function, as in a release
        except MemoryError:
            raise KeyError("planted") from None

    assert failures.status_of(caught(funasr.calls, wrap), str(install_dir)) == "out_of_memory"
    assert failures.status_of(caught(funasr.calls, replace), str(install_dir)) == "failed"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO])
def test_a_full_disk_is_the_machines_doing(install_dir: Path, funasr: types.ModuleType, number: int) -> None:
    assert failures.status_of(caught(funasr.calls, throw(OSError(number, "planted"))), str(install_dir)) == "errored"


def test_a_missing_file_is_the_releases_doing(install_dir: Path, funasr: types.ModuleType) -> None:
    assert failures.status_of(caught(funasr.calls, throw(FileNotFoundError("x"))), str(install_dir)) == "failed"


def test_source_that_cannot_be_compiled_is_the_releases_doing(install_dir: Path) -> None:
    path = install_dir / "funasr" / "model.py"
    path.write_text("import os\ndef forward(self:\n")
    error = caught(load, path)
    assert failures.status_of(error, str(install_dir)) == "failed"
    described = failures.describe(error, str(install_dir))
    assert described["signature"] == "SyntaxError@funasr/model.py:<module>"
    assert described["frames"][-1]["line"] == 2
    assert described["frames"][-1]["code"] == "def forward(self:"


def test_an_assertion_without_words_is_reported_by_its_code(install_dir: Path, funasr: types.ModuleType) -> None:
    described = failures.describe(caught(funasr.asserts), str(install_dir))
    assert described["type"] == "AssertionError"
    assert described["message"] == "assert 320 == 8404"
    assert described["signature"] == "AssertionError@funasr/model.py:asserts"
    assert described["frames"] == [
        {"file": "funasr/model.py", "line": 6, "function": "asserts", "code": "assert 320 == 8404"}
    ]


def test_the_signature_names_the_releases_own_innermost_function(install_dir: Path, funasr: types.ModuleType) -> None:
    described = failures.describe(caught(funasr.asks_a_library), str(install_dir))
    assert described["signature"] == "JSONDecodeError@funasr/model.py:asks_a_library"
    assert described["frames"][0]["file"] == "funasr/model.py"
    assert described["frames"][-1]["file"] == "json/decoder.py"


def test_a_deep_traceback_keeps_its_ends(install_dir: Path, funasr: types.ModuleType) -> None:
    described = failures.describe(caught(funasr.goes_deep), str(install_dir))
    assert len(described["frames"]) == 12
    assert described["frames"][0]["code"] == "goes_deep(left - 1)"
    assert described["frames"][-1]["code"] == 'raise ValueError("planted")'


def test_a_message_is_one_line_and_names_the_file_as_the_release_does(
    install_dir: Path, funasr: types.ModuleType
) -> None:
    assert failures.describe(caught(funasr.raises_over_lines), str(install_dir))["message"] == "one two"
    message = failures.describe(caught(funasr.raises_with_its_path), str(install_dir))["message"]
    assert message == "cannot read funasr/model.py"


def test_an_endless_message_is_cut(install_dir: Path, funasr: types.ModuleType) -> None:
    error = caught(funasr.calls, throw(ValueError("x" * 10**6)))
    assert len(failures.describe(error, str(install_dir))["message"]) == 2000


def test_an_error_that_was_never_raised_can_be_described() -> None:
    described = failures.describe(ValueError("planted"), "/nowhere")
    assert (described["frames"], described["signature"]) == ([], "ValueError@unknown")


def test_a_finding_is_reported_in_the_same_form() -> None:
    found = failures.finding("LossWidth", "criterion_att", "words")
    assert found == {"type": "LossWidth", "message": "words", "frames": [], "signature": "LossWidth@criterion_att"}


LIBRARIES = sysconfig.get_path("purelib")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/cache/releases/1.0.12-abc/funasr/models/model.py", "funasr/models/model.py"),
        (f"{LIBRARIES}/torch/nn/modules/module.py", "torch/nn/modules/module.py"),
        (f"{sysconfig.get_path('stdlib')}/json/decoder.py", "json/decoder.py"),
        ("/usr/lib/python3/dist-packages/torch/functional.py", "torch/functional.py"),
        ("/opt/host/lib/python3.12/site-packages/torch/functional.py", "torch/functional.py"),
        (str(Path(failures.__file__).parent / "checks.py"), "harness/worker/process/checks.py"),
        (str(Path(failures.__file__).resolve().parent / "checks.py"), "harness/worker/process/checks.py"),
        ("/home/somebody/secret.py", "secret.py"),
        ("/cache/releases/1.0.12-abcdef/funasr/x.py", "x.py"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
        ("<string>", "<string>"),
    ],
)
def test_files_are_reported_by_what_they_belong_to(path: str, told: str) -> None:
    assert failures.relative(path, "/cache/releases/1.0.12-abc") == told


names = st.text("abc._-+ ", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
roots = st.sampled_from(["/cache/install_dir", LIBRARIES, "/usr/lib/python3/dist-packages", "/home/somebody", ""])


@given(root=roots, parts=st.lists(names, min_size=1, max_size=5))
def test_no_path_of_this_machine_is_ever_told(root: str, parts: list[str]) -> None:
    told = failures.relative("/".join([root, *parts]), "/cache/install_dir")
    assert not told.startswith("/")
    assert not any(place in told for place in ("cache/install_dir", "somebody", LIBRARIES[1:], "dist-packages"))
    assert "/".join(parts).endswith(told)


def linked(folder: str, link: str) -> dict[str, Any]:
    """What a hook's failure is called when this package was imported through a link to it."""
    import sys

    Path(link).symlink_to(folder, target_is_directory=True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        del sys.modules[name]
    sys.path.insert(0, str(Path(link).parent))
    from harness.worker.process import failures as again
    from harness.worker.release import model

    error = caught(lambda: list(model.losses(None)))
    return {"through": again.__file__, "file": again.frames(error, "/nowhere")[-1]["file"]}


def test_the_harness_knows_itself_through_a_link(forked: Callable[..., Any], tmp_path: Path) -> None:
    seen = forked(linked, folder=str(Path(failures.__file__).parents[2]), link=str(tmp_path / "harness"))
    assert seen == {
        "through": str(tmp_path / "harness/worker/process/failures.py"),
        "file": "harness/worker/release/model.py",
    }
