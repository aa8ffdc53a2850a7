"""Taking from a cell's process what it does not need: writing outside its folder, and signals to the harness.

By Landlock, which Linux has since 5.13 and which needs no privilege (landlock(7), linux/landlock.h). Where the kernel
has none, or an old one, cells run with less of it, and `run.json` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

VARIABLE = "FUNASR_HARNESS_ISOLATION"
"""Set to `none`, it leaves cells as they are."""
FOLDERS = "cells write to their own folders only"
SIGNALS = "cells cannot signal the harness"

# The numbers of these calls are the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_SCOPE_SIGNAL = 1 << 1

_WRITE_FILE = 1 << 1
_REMOVE_DIR = 1 << 4
_TRUNCATE = 1 << 14
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 14))
"""Write, remove, make each kind of file, and link or move between folders."""
_OPEN_PATH = os.O_PATH | os.O_CLOEXEC


def supported() -> tuple[str, ...]:
    """What the kernel keeps cells from, in words; empty where it keeps them from nothing."""
    version = _version()
    return (FOLDERS, SIGNALS)[: (version >= 2) + (version >= 6)]


@cache
def _version() -> int:
    """Of Landlock; 0 where there is none. The first version cannot allow moving files between folders at all."""
    if os.environ.get(VARIABLE) == "none":
        return 0
    try:
        version = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except (OSError, AttributeError):
        return 0
    return int(version) if version >= 2 else 0


def restrict(*, own_folders: Sequence[Path], shared_folders: Sequence[Path] = ()) -> None:
    """From now on this process and its children can change files below these folders only. It cannot be undone.

    Reading, and what is open already, stay as they are. Device files and shared memory can be written to.

    Args:
        own: Folders in which everything may be done.
        shared: Folders of several cells: in these no folder may be removed.
    """
    version = _version()
    if not version:
        return
    handled = _CHANGES | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=QQQ", handled, 0, _SCOPE_SIGNAL if version >= 6 else 0)
    call = ctypes.CDLL(None, use_errno=True).syscall
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return
    try:
        allowed = [(str(path), handled) for path in (*own_folders, Path("/dev/shm"))]  # noqa: S108 - shared memory, not a file
        allowed += [(str(path), handled & ~_REMOVE_DIR) for path in shared_folders]
        allowed += [(path, handled & (_WRITE_FILE | _TRUNCATE)) for path in ("/dev", "/proc")]
        for path, rights in allowed:
            # What is not there cannot be allowed; the cell meets that by itself.
            with contextlib.suppress(OSError):
                descriptor = os.open(path, _OPEN_PATH)
                rule = struct.pack("=Qi", rights, descriptor)
                call(_ADD_RULE, ruleset, ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
                os.close(descriptor)
        if ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, *(ctypes.c_ulong(value) for value in (1, 0, 0, 0))) == 0:
            call(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
