"""Python imports this module at its start where the folder is on PYTHONPATH: it waits for a trainer of FunASR's.

A process that imports no trainer pays for one comparison by import. The user's own `sitecustomize` runs afterwards.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Not imported at the start of every interpreter.
    from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = "_funasr_harness_watch"
_TRAINERS = ("funasr.train_utils.trainer", "funasr.train_utils.trainer_ds")


class _TrainerFinder:
    """Calls `begin` once a trainer has been imported; finds nothing itself."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _TRAINERS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                loader = spec.loader
                if hasattr(loader, "exec_module"):
                    spec.loader = _Loader(loader)
                return spec
        return None


class _Loader:
    """The trainer's own loader, and what comes after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # The module keeps its own loader: nothing of this one is left in it.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _begin()


def _begin() -> None:
    try:
        _package("start").begin(os.environ["FUNASR_HARNESS_WATCH"])
    except Exception as error:
        sys.stderr.write(f"funasr-harness watch: this process is not observed: {error}\n")


def _package(module: str) -> Any:
    """A module of the observers' package, by path: the harness need not be installed here."""
    from importlib import import_module, util

    if _PACKAGE not in sys.modules:
        folder = os.path.dirname(_FOLDER)
        spec: Any = util.spec_from_file_location(
            _PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        package = util.module_from_spec(spec)
        sys.modules[_PACKAGE] = package
        spec.loader.exec_module(package)
    return import_module(f"{_PACKAGE}.{module}")


def _hand_over() -> None:
    """Run the `sitecustomize` that Python would have found without this folder."""
    from importlib.machinery import PathFinder

    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != _FOLDER]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("FUNASR_HARNESS_WATCH"):
    sys.meta_path.insert(0, _TrainerFinder())
_hand_over()
