"""Findings: faults of a release that do not decide a cell, because a shim, a YAML or an option avoids them.

Code that detects such a fault notes it here, in its own process; the cell's evidence holds all findings. Also the
outcome fields of a cell that a failure decides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from harness.worker.process import failures

EVIDENCE = "findings"

_noted: dict[tuple[str, str], dict[str, Any]] = {}


def note(code: str, message: str, place: str = "", **detail: Any) -> None:
    """Note a fault, once per place.

    Args:
        code: In kebab-case; the signature of a known issue is `Finding@CODE`.
        message: One sentence.
        place: `funasr/….py:function`, or a key.
        detail: JSON-serialisable details.
    """
    _noted.setdefault((code, place), _entry(code, message, place, detail))


def add(entries: Iterable[Mapping[str, Any]]) -> None:
    """Add the findings of a child process."""
    for entry in entries:
        _noted.setdefault((entry["code"], entry.get("place", "")), dict(entry))


def clear() -> None:
    """Remove the findings of a previous cell in this process."""
    _noted.clear()


def noted() -> list[dict[str, Any]]:
    """All findings so far, in order."""
    return list(_noted.values())


def release_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the release's own code, from this one outwards; None if there is none."""
    while frame is not None and not _is_release(frame):
        frame = frame.f_back
    return frame


def in_forward(frame: FrameType | None) -> bool:
    """Whether a forward pass of the release is on the stack."""
    while frame is not None:
        if frame.f_code.co_name == "forward" and _is_release(frame):
            return True
        frame = frame.f_back
    return False


def place_of(frame: FrameType) -> str:
    """`funasr/….py:function` of a frame of the release."""
    file = frame.f_code.co_filename[len(_folder()) :].lstrip("/\\").replace("\\", "/")
    return f"funasr/{file}:{frame.f_code.co_name}"


def _is_release(frame: FrameType) -> bool:
    folder = _folder()
    return bool(folder) and frame.f_code.co_filename.startswith(folder + "/")


def _folder() -> str:
    """The folder of the release's package; empty if none is imported."""
    package = sys.modules.get("funasr")
    return str(next(iter(getattr(package, "__path__", ())), ""))


def _entry(code: str, message: str, place: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": code, "message": message}
    if place:
        entry["place"] = place
    return {**entry, "detail": dict(detail)} if detail else entry


def failed(kind: str, place: str, message: str) -> dict[str, Any]:
    """`status`, `reason` and `failure` of a cell that a finding decides."""
    return {"status": "failed", "reason": message, "failure": failures.finding(kind, place, message)}


def raised(error: BaseException, install_dir: str) -> dict[str, Any]:
    """`status`, `reason` and `failure` of a cell that an exception ended."""
    failure = failures.describe(error, install_dir)
    return {"status": failures.status_of(error, install_dir), "reason": reason_of(failure), "failure": failure}


def reason_of(failure: Mapping[str, Any], message: str = "") -> str:
    """One sentence about a failure: its type, its place, and `message` or else its own."""
    kind, _, place = failure["signature"].partition("@")
    return f"{kind} in {place}: {message or failure['message'] or 'no message'}"
