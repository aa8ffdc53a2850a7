"""Entering a release: its layout on the path, and only those of its modules that the checks need.

`import funasr` imports every submodule, which takes seconds and is the `import` check's question.
The other checks import what registers the components that a config names, under a package object
that has the release's path but has not run its `__init__`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import os
import re
import sys
import types
from collections.abc import Iterable
from typing import Any

PARTIAL_IMPORT = "import-what-is-needed"
"""Name of the adaptation: `funasr/__init__.py` was not run, the needed modules were imported directly."""

_REGISTER = re.compile(r"""tables\.register\(\s*["'](\w+)["']\s*,\s*["']([\w.-]+)["']""")
_EXPORTS = {"AutoModel": "funasr.auto.auto_model", "AutoFrontend": "funasr.auto.auto_frontend"}


class NotInRelease(Exception):
    """The release does not register a component that the variant names."""


class _Package(types.ModuleType):
    """Stands for `funasr` until somebody asks for what its `__init__` would export."""

    def __getattr__(self, name: str) -> Any:
        if name in _EXPORTS:
            return getattr(importlib.import_module(_EXPORTS[name]), name)
        raise AttributeError(f"module 'funasr' has no attribute {name!r}")


def put_on_path(overlay: str) -> None:
    """Make `funasr` mean the release in `overlay`, and nothing else."""
    sys.path[:] = [overlay, *(entry for entry in sys.path if entry != overlay)]
    importlib.invalidate_caches()


def enter_partly(overlay: str, version: str) -> None:
    """Put the release on the path behind a package object that has run none of its code."""
    put_on_path(overlay)
    package = _Package("funasr")
    folder = os.path.join(overlay, "funasr")  # noqa: PTH118 - strings throughout: this is what importlib takes
    package.__path__ = [folder]
    package.__file__ = os.path.join(folder, "__init__.py")  # noqa: PTH118
    package.__version__ = version  # type: ignore[attr-defined]
    package.__spec__ = importlib.machinery.ModuleSpec("funasr", None, origin=package.__file__, is_package=True)
    package.__spec__.submodule_search_locations = [folder]
    sys.modules["funasr"] = package


def enter_wholly(overlay: str) -> None:
    """`import funasr` as a user's job does it, all submodules included; whatever it raises is the caller's."""
    leave()
    put_on_path(overlay)
    # Without it hydra turns an exception into a printed text and an exit code, and the frames are lost.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    importlib.import_module("funasr")


def is_entered(overlay: str) -> bool:
    """Whether `funasr` is this release, as a whole or in part."""
    package = sys.modules.get("funasr")
    return package is not None and str(getattr(package, "__file__", "")).startswith(overlay + os.sep)


def is_partial() -> bool:
    """Whether `funasr/__init__.py` has not been run."""
    return isinstance(sys.modules.get("funasr"), _Package)


def leave() -> None:
    """Forget every module of the release, so that a full `import funasr` starts from nothing."""
    for name in [name for name in sys.modules if name == "funasr" or name.startswith("funasr.")]:
        del sys.modules[name]


@functools.cache
def registrations(overlay: str) -> dict[tuple[str, str], str]:
    """Which module registers which component: `("encoder_classes", "SANMEncoder") -> "funasr.models.sanm.encoder"`.

    Read from the source text, so that nothing has to be imported to know it; once for all cells of a release.

    Of two modules that register the same the first by name counts. FunASR 1.2.2 and later do so with
    `ParaformerSANMDecoder`: `import funasr` leaves the one of `e_paraformer` in the table, because the one of
    `paraformer` was imported before it, by `contextual_paraformer`.
    """
    found: dict[tuple[str, str], str] = {}
    for folder, folders, names in os.walk(os.path.join(overlay, "funasr")):  # noqa: PTH118
        folders.sort()
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            path = os.path.join(folder, name)  # noqa: PTH118
            with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                text = file.read()
            if "tables.register" not in text:
                continue
            module = path[len(overlay) + 1 : -3].replace(os.sep, ".").removesuffix(".__init__")
            for table, component in _REGISTER.findall(text):
                found.setdefault((table, component), module)
    return found


def import_components(overlay: str, components: Iterable[tuple[str, str]]) -> None:
    """Import the modules that register these components.

    Raises:
        NotInRelease: the release registers no such component.
    """
    index = registrations(overlay)
    for table, name in components:
        if (table, name) not in index:
            kind = table.removesuffix("_classes")
            raise NotInRelease(f"the release has no {kind} {name!r}")
        try:
            importlib.import_module(index[table, name])
        except (AssertionError, ValueError):
            # Up to 1.0.5, and in 1.1.13, a second registration is refused; `import funasr` passes over the module that
            # makes it.
            if not _is_registered(table, name):
                raise


def _is_registered(table: str, name: str) -> bool:
    tables = importlib.import_module("funasr.register").tables
    return name in getattr(tables, table, {})
