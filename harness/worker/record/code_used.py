"""What a cell used of its release: the code that was entered, and the files, folders and modules that were looked for.

A process that calls `begin` before it enters its release records from then on; the cells that are forked from it
go on with the record. Outside, `harness.run.reuse` compares what is named here with another release.

Which code was entered costs next to nothing to know. CPython 3.11 counts down, in each code object, the calls until it
specialises it; later versions have `sys.monitoring`, whose event for an entered function is switched off per function
once it came. What can do neither records whole modules.
"""

from __future__ import annotations

import ctypes
import linecache
import os
import sys
import sysconfig
from array import array
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

RESULT = "code_used"
"""The key of the record in a cell's result."""
WHOLE = "*"
"""In place of a function's name: which functions of the module were entered is not known."""

_WARMUP_OFFSET = 52
"""Of `co_warmup` in CPython 3.11's PyCodeObject: after the object's head (24 bytes), three pointers and an int."""
_NEVER_ENTERED = -8
"""`QUICKENING_INITIAL_WARMUP_VALUE` of CPython 3.11."""
_STANDARD_LIBRARY = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
_SITE_PACKAGES = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib"))
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
_IMPORTING = frozenset({"get_code", "_fill_cache"})
"""Functions of the import system that read a module, or the folder that it is in."""
_OUR_READERS = ("release/importer.py", "process/failures.py")
"""Files below `harness/worker` that read a release's source: the registrations, which are recorded by themselves, and
the lines of a traceback, whose files count with the outcome that holds them."""
_PRINTS_LINES = ("/warnings.py", "/torch/cuda/__init__.py", "/torch/xpu/__init__.py", "/torch/mtia/__init__.py")
"""They read lines of source for a message alone: a warning's, and where a GPU was first used (every call of
`torch.manual_seed` notes that)."""
_COMPILES_FUNCTIONS = "/torch/_sources.py"
"""It reads functions that are to be compiled: `harness.run.reuse.source_units` has them among what runs on import."""
READS_POSITIONS = "funasr/register.py"
"""It reads a class's source for the number of its first line, which nothing but `tables.print` uses."""


class UseRecorder:
    """The record of one process and of those forked from it."""

    def __init__(self, install_dir: str) -> None:
        self._root = install_dir + os.sep
        self._modules: dict[str, None] = {}
        """Paths below the release's folder, in the order in which they were executed."""
        self._codes: list[tuple[str, CodeType]] = []
        """All code within them, each with its module's path."""
        self._addresses = array("Q")
        """Of each of these. A cell looks at all of them, and touching an object would copy its page for the cell."""
        self._sought: dict[str, None] = {}
        self._texts: dict[str, None] = {}
        self._folders: dict[str, None] = {}
        self._refused = ""
        self._entered = _observer(self._root)
        self._handlers: dict[str, Callable[[tuple[Any, ...]], None]] = {
            "exec": self._execute,
            "compile": self._compile,
            "open": self._open,
            "import": self._import,
            "os.listdir": self._list,
            "os.scandir": self._list,
            "ctypes.dlopen": self._load_library,
        }

    def install(self) -> None:
        """Listen to this process from now on: an audit hook cannot be removed."""
        handlers = self._handlers

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in handlers:
                handlers[event](arguments)

        sys.addaudithook(hook)
        self._watch_lines()

    def _watch_lines(self) -> None:
        """Note who reads lines of a source file that are cached since another read it."""
        original = linecache.getlines

        def getlines(filename: str, module_globals: dict[str, Any] | None = None) -> list[str]:
            path = self._below(filename)
            if path is not None and not self._is_known_reader(sys._getframe(1), path):
                self._texts[path] = None
            return original(filename, module_globals)

        linecache.getlines = getlines

    def to_json(self) -> dict[str, Any]:
        """The record so far.

        Returns:
            `modules`: paths of the executed modules, in order. `entered`: path and qualified name of the functions that
            were entered. `sought`: names below `funasr` that were to be imported. `texts`, `folders`: files and folders
            of the release that were read otherwise. `refused`: why this cell's code cannot be known, or empty.
        """
        entered = [list(name) for name in sorted(self._names())]
        return {
            "modules": list(self._modules),
            "entered": entered,
            "sought": list(self._sought),
            "texts": list(self._texts),
            "folders": list(self._folders),
            "refused": self._refused,
        }

    def _names(self) -> set[tuple[str, str]]:
        entered, codes = self._entered, self._codes
        if entered is None:
            return {(path, WHOLE) for path in self._modules}
        executed = (codes[place] for place, address in enumerate(self._addresses) if entered(address))
        return {(path, code.co_qualname) for path, code in executed}

    def _below(self, path: object) -> str | None:
        """The path below the release's folder; None for what is not there."""
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if isinstance(path, os.PathLike):
            path = os.fspath(path)
        if not isinstance(path, str):
            return None
        if not path.startswith("/") or "/." in path or "//" in path:
            path = os.path.abspath(path)  # noqa: PTH100 - strings throughout, as audit events have them
        if path + os.sep == self._root:
            return "."
        return path[len(self._root) :] if path.startswith(self._root) else None

    def _execute(self, arguments: tuple[Any, ...]) -> None:
        code = arguments[0]
        if isinstance(code, CodeType) and code.co_name == "<module>" and (path := self._below(code.co_filename)):
            self._modules[path] = None
            for nested_code in _within(code):
                self._codes.append((path, nested_code))
                self._addresses.append(id(nested_code))
        else:
            self._refuse_generated(sys._getframe(2))

    def _compile(self, _arguments: tuple[Any, ...]) -> None:
        self._refuse_generated(sys._getframe(2))

    def _refuse_generated(self, caller: FrameType) -> None:
        """Refuse what the release's own code compiles: what ran is not in its files."""
        path = self._below(caller.f_code.co_filename) if caller.f_code.co_filename.startswith("/") else None
        if path:
            self._refuse(f"{path}:{caller.f_code.co_qualname} executes code that it made")

    def _open(self, arguments: tuple[Any, ...]) -> None:
        path = self._below(arguments[0])
        if path is None or path.endswith(".pyc") or self._is_known_reader(sys._getframe(2), path):
            return
        self._texts[path] = None

    def _list(self, arguments: tuple[Any, ...]) -> None:
        path = self._below(arguments[0])
        if path is not None and not self._is_known_reader(sys._getframe(2), path):
            self._folders[path] = None

    def _import(self, arguments: tuple[Any, ...]) -> None:
        name, file = arguments[0], arguments[1]
        if name == "funasr" or str(name).startswith("funasr."):
            self._sought[str(name)] = None
        if file is not None and self._below(file):
            self._refuse(f"{self._below(file)} is compiled to machine code")

    def _load_library(self, arguments: tuple[Any, ...]) -> None:
        if path := self._below(arguments[0]):
            self._refuse(f"{path} is compiled to machine code")

    def _refuse(self, reason: str) -> None:
        self._refused = self._refused or reason

    def _is_known_reader(self, frame: FrameType | None, path: str) -> bool:
        """Whether the import system reads it, or code of which is known what it takes from there."""
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith("<frozen importlib"):
                if frame.f_code.co_name in _IMPORTING:
                    return True
            elif file.startswith(_OURS) and file != __file__:
                return file.endswith(_OUR_READERS)
            elif file.startswith(self._root):
                reader = file[len(self._root) :]
                return (reader == READS_POSITIONS and path.endswith(".py")) or (
                    (reader, path) == ("funasr/__init__.py", "funasr/version.txt")
                )
            elif path.endswith(".py") and (
                (file.endswith(_PRINTS_LINES) and _prints_lines(frame.f_code)) or file.endswith(_COMPILES_FUNCTIONS)
            ):
                return True
            elif file != __file__ and (
                not file.startswith(("<", *_STANDARD_LIBRARY)) or file.startswith(_SITE_PACKAGES)
            ):
                # a library that the release called: the release's business, whatever it makes of the file
                return False
            frame = frame.f_back
        return False


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)


def _prints_lines(code: CodeType) -> bool:
    return code.co_filename.endswith("warnings.py") or code.co_name == "_lazy_call"


def _observer(root: str) -> Callable[[int], bool] | None:
    """A function that says whether the code object at an address has been entered; None where nothing can know."""
    if sys.version_info >= (3, 12):
        return _monitored(root)
    return _was_warmed if _counts_are_where_expected() else None


def _was_warmed(address: int) -> bool:
    return ctypes.c_short.from_address(address + _WARMUP_OFFSET).value != _NEVER_ENTERED


def _counts_are_where_expected() -> bool:
    """Whether this interpreter is the CPython that the offset is known of: tried out on functions of our own."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11) or sys.maxsize < 2**32:
        return False
    module = compile("def one(): return 1\ndef two(): return 2\n", "<trial>", "exec")
    first, second = (constant for constant in module.co_consts if isinstance(constant, CodeType))
    before = [_was_warmed(id(first)), _was_warmed(id(second))]
    names: dict[str, Any] = {}
    exec(module, names)  # noqa: S102 - the text above
    names["one"]()
    return before == [False, False] and [_was_warmed(id(first)), _was_warmed(id(second))] == [True, False]


if sys.version_info >= (3, 12):

    def _monitored(root: str) -> Callable[[int], bool] | None:
        monitoring = sys.monitoring
        free = [tool for tool in (4, 3, 5) if monitoring.get_tool(tool) is None]
        if not free:
            return None
        executed: set[int] = set()

        def enter(code: CodeType, _offset: int) -> object:
            if code.co_filename.startswith(root):
                executed.add(id(code))
            return monitoring.DISABLE

        monitoring.use_tool_id(free[0], "funasr-harness")
        monitoring.register_callback(free[0], monitoring.events.PY_START, enter)
        monitoring.set_events(free[0], monitoring.events.PY_START)
        return executed.__contains__


_record: UseRecorder | None = None


def begin(install_dir: str) -> None:
    """Record what this process uses of the release in `install_dir`, which it has not entered yet."""
    global _record
    _record = UseRecorder(install_dir)
    _record.install()


def so_far() -> Mapping[str, Any] | None:
    """The record; None where nothing is recorded."""
    return _record.to_json() if _record else None
