"""What went wrong, and whose doing it was.

An exception belongs to the release when one of its frames does and the innermost frame is not the harness's own:
a third-party library that the release called is the release's business, a hook of ours is not.
"""

from __future__ import annotations

import errno
import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HARNESS = {str(Path(__file__).parents[2]), str(Path(__file__).resolve().parents[2])}
"""By both names: a release's process may have imported this package through a link."""
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")})
_NO_MEMORY = (
    *("can't allocate memory", "Cannot allocate memory", "std::bad_alloc"),
    *("CUDA error: out of memory", "STATUS_ALLOC_FAILED"),
)
_LONGEST_MESSAGE = 2000
_MOST_FRAMES = 12


def relative(path: str, install_dir: str) -> str:
    """A file's path without anything of this machine: `funasr/…`, `torch/…`, `harness/…` or the bare name."""
    for root in (install_dir, *sorted(_LIBRARIES, key=len, reverse=True)):
        if path.startswith(root + os.sep):
            return path[len(root) + 1 :]
    for root in _HARNESS:
        if path.startswith(root + os.sep):
            return "harness/" + path[len(root) + 1 :]
    # Libraries that a virtual environment takes from its base interpreter are in folders that only the host knows.
    _, folder, library = path.replace("dist-packages/", "site-packages/").rpartition("/site-packages/")
    if folder and library:
        return library
    return path if path.startswith("<") else Path(path).name


def frames(error: BaseException, install_dir: str) -> list[dict[str, Any]]:
    """The traceback's frames, outermost first."""
    described = [
        {
            "file": relative(entry.filename, install_dir),
            "line": entry.lineno or 0,
            "function": entry.name,
            "code": entry.line or "",
        }
        for entry in traceback.extract_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        # The file that cannot be compiled has run nothing, so the traceback lacks it.
        place = relative(error.filename, install_dir)
        code = (error.text or "").strip()
        described.append({"file": place, "line": error.lineno or 0, "function": "<module>", "code": code})
    return described


def describe(error: BaseException, install_dir: str) -> dict[str, Any]:
    """The `failure` of an outcome; its frames start where the release's code is first entered."""
    all_frames = frames(error, install_dir)
    first = next((index for index, frame in enumerate(all_frames) if _is_release(frame)), 0)
    shown = all_frames[first:]
    if len(shown) > _MOST_FRAMES:
        shown = shown[: _MOST_FRAMES // 2] + shown[-_MOST_FRAMES // 2 :]
    innermost = next(
        (frame for frame in reversed(all_frames) if _is_release(frame)), all_frames[-1] if all_frames else None
    )
    place = f"{innermost['file']}:{innermost['function']}" if innermost else "unknown"
    message = " ".join(str(error).split())
    if isinstance(error, AssertionError) and not message and innermost:
        message = innermost["code"]
    return {
        "type": type(error).__name__,
        "message": message.replace(install_dir + os.sep, "")[:_LONGEST_MESSAGE],
        "frames": shown,
        "signature": f"{type(error).__name__}@{place}",
    }


def status_of(error: BaseException, install_dir: str) -> str:
    """`failed` (the release's doing), `out_of_memory`, or `errored` (ours or the machine's)."""
    if any(map(_is_about_memory, _causes(error))):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO):
        return "errored"
    all_frames = frames(error, install_dir)
    if not any(_is_release(frame) for frame in all_frames):
        return "errored"
    in_harness = all_frames[-1]["file"].startswith("harness/")
    return "errored" if in_harness else "failed"


def finding(kind: str, place: str, message: str) -> dict[str, Any]:
    """A failure that no exception announced: the check itself found it."""
    return {"type": kind, "message": message, "frames": [], "signature": f"{kind}@{place}"}


def _is_release(frame: dict[str, Any]) -> bool:
    return bool(frame["file"].startswith("funasr/"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that it was raised from, or while handling which it was raised."""
    visited: list[BaseException] = []
    next_one: BaseException | None = error
    while next_one is not None and next_one not in visited:
        visited.append(next_one)
        yield next_one
        hidden = next_one.__suppress_context__
        next_one = next_one.__cause__ or (None if hidden else next_one.__context__)


def _is_about_memory(error: BaseException) -> bool:
    """Python's and numpy's allocators, the kernel (fork, mmap), or torch's: on a CPU, of CUDA, of a library of it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
