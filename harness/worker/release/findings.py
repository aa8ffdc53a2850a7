"""What is wrong with a release and does not decide a cell: what a compatibility shim, a YAML or an option excuses.

Whatever notices such a fault notes it here, in the process in which it was seen; the cell's evidence holds all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

EVIDENCE = "findings"

_noted: dict[tuple[str, str], dict[str, Any]] = {}


def note(code: str, message: str, place: str = "", **detail: Any) -> None:
    """Note a fault, once for each place.

    Args:
        code: In kebab-case; the signature of a known issue is `Finding@CODE`.
        message: One sentence.
        place: `funasr/….py:function`, or a key.
        detail: What was seen, as JSON can say it.
    """
    _noted.setdefault((code, place), _entry(code, message, place, detail))


def add(entries: Iterable[Mapping[str, Any]]) -> None:
    """Take in what a child of this process noted."""
    for entry in entries:
        _noted.setdefault((entry["code"], entry.get("place", "")), dict(entry))


def clear() -> None:
    """Forget what another cell noted in this process."""
    _noted.clear()


def noted() -> list[dict[str, Any]]:
    """All that was noted so far, in order."""
    return list(_noted.values())


def release_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the release's own code, from this one outwards; None where it is none of its doing."""
    while frame is not None and not _is_release(frame):
        frame = frame.f_back
    return frame


def in_forward(frame: FrameType | None) -> bool:
    """Whether a forward pass of the release's is under way."""
    while frame is not None:
        if frame.f_code.co_name == "forward" and _is_release(frame):
            return True
        frame = frame.f_back
    return False


def place_of(frame: FrameType) -> str:
    """`funasr/….py:function` of a frame of the release's."""
    file = frame.f_code.co_filename[len(_folder()) :].lstrip("/\\").replace("\\", "/")
    return f"funasr/{file}:{frame.f_code.co_name}"


def _is_release(frame: FrameType) -> bool:
    folder = _folder()
    return bool(folder) and frame.f_code.co_filename.startswith(folder + "/")


def _folder() -> str:
    """Where the release's package lies; empty where none is imported."""
    package = sys.modules.get("funasr")
    return str(next(iter(getattr(package, "__path__", ())), ""))


def _entry(code: str, message: str, place: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": code, "message": message}
    if place:
        entry["place"] = place
    return {**entry, "detail": dict(detail)} if detail else entry
