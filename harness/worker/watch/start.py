"""The start of the observers in a process that has imported one of FunASR's trainers."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

from .observer import TrainingObserver
from .patches import observe_torch
from .writing import FORMAT, RecordWriter

_begun: TrainingObserver | None = None
_PROGRAMS = ("train.py", "train_ds.py")
_MODULES = ("funasr.bin.train", "funasr.bin.train_ds")


def begin(folder: str) -> None:
    """Observe this process; the records go to `folder`."""
    global _begun
    if _begun is not None:
        return
    writer = RecordWriter(folder, first=process_fields())
    _begun = observer = TrainingObserver(writer)
    observer.endings.attach()
    observe_torch(observer)
    if is_trainer():
        # Also what fails before the first step is to be known.
        writer.begin()
        observer.guard("termination", observer.termination.attach, writer.path)


def is_trainer() -> bool:
    """Whether this program is a trainer; one that only imports FunASR writes nothing unless it trains."""
    if multiprocessing.parent_process() is not None:
        return False
    words = command_line()
    program = next((os.path.basename(word) for word in words[1:] if not word.startswith("-")), "")
    return program in _PROGRAMS or program in _MODULES or program.startswith("funasr-train")


def command_line() -> list[str]:
    """This process's own, with the interpreter: `sys.argv` has no module while `python -m` imports its package."""
    known = getattr(sys, "orig_argv", None)
    if known:
        return list(known)
    try:
        with open("/proc/self/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return [sys.executable, *getattr(sys, "argv", [])]


def process_fields() -> dict[str, Any]:
    """As `records.ProcessStarted`."""
    import socket

    torch = sys.modules.get("torch")
    funasr = sys.modules.get("funasr")
    file = getattr(funasr, "__file__", None)
    folder = os.path.dirname(os.path.abspath(file)) if file else None
    return {
        "format": FORMAT,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "rank": _number("RANK", 0),
        "local_rank": _number("LOCAL_RANK", 0),
        "world_size": _number("WORLD_SIZE", 1),
        "argv": command_line(),
        "working_directory": _working_directory(),
        "python": sys.version.split()[0],
        "torch": str(getattr(torch, "__version__", "")),
        "funasr": _version(folder),
        "funasr_folder": folder,
    }


def _number(name: str, otherwise: int) -> int:
    try:
        return int(os.environ.get(name, otherwise))
    except ValueError:
        return otherwise


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _version(folder: str | None) -> str | None:
    """The version of the code that is imported: an installed one may be another."""
    if folder is None:
        return None
    try:
        with open(os.path.join(folder, "version.txt"), encoding="utf-8") as file:
            return file.read().strip()[:60]
    except OSError:
        pass
    try:
        from importlib.metadata import version

        return version("funasr")
    except Exception:  # not installed, or metadata that cannot be read
        return None
