"""Importing a release: its folder on the path, and only those of its modules that a check needs.

`import funasr` imports every submodule, which takes seconds; the `import` check measures that.
The other checks import the modules that register the components of a config. They do so under a package object that has
the release's path but has not run its `__init__`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import inspect
import math
import os
import re
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_REGISTER = re.compile(r"""^[ \t]*@tables\.register\(\s*["'](\w+)["']\s*,\s*["']([\w.-]+)["']""", re.MULTILINE)
_EXPORTS = {"AutoModel": "funasr.auto.auto_model", "AutoFrontend": "funasr.auto.auto_frontend"}


class NotInRelease(Exception):
    """The release does not have what the cell tests."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(reason)
        self.name = name
        """As in `harness.releases.first_releases`: `model_classes/Paraformer`, `entry/train_ds`."""


def require_entry(install_dir: str, entry: str) -> None:
    """Check that the release has an entry point.

    Raises:
        NotInRelease: it has none of that name.
    """
    if not os.path.exists(os.path.join(install_dir, "funasr", "bin", f"{entry}.py")):  # noqa: PTH110, PTH118
        raise NotInRelease(f"the release ships no funasr/bin/{entry}.py", f"entry/{entry}")


class _Package(types.ModuleType):
    """Stands in for `funasr` until an export of its `__init__` is needed."""

    def __getattr__(self, name: str) -> Any:
        if name in _EXPORTS:
            return getattr(importlib.import_module(_EXPORTS[name]), name)
        raise AttributeError(f"module 'funasr' has no attribute {name!r}")


def put_on_path(install_dir: str) -> None:
    """Make `funasr` resolve to the release in `install_dir`, its install prefix, and to nothing else."""
    sys.path[:] = [install_dir, *(entry for entry in sys.path if entry != install_dir)]
    importlib.invalidate_caches()


def import_components_only(install_dir: str, version: str) -> None:
    """Put the release on the path behind a package object that has run none of its code."""
    put_on_path(install_dir)
    package = _Package("funasr")
    folder = os.path.join(install_dir, "funasr")  # noqa: PTH118 - strings throughout: this is what importlib takes
    package.__path__ = [folder]
    package.__file__ = os.path.join(folder, "__init__.py")  # noqa: PTH118
    package.__version__ = version  # type: ignore[attr-defined]
    package.__spec__ = importlib.machinery.ModuleSpec("funasr", None, origin=package.__file__, is_package=True)
    package.__spec__.submodule_search_locations = [folder]
    sys.modules["funasr"] = package
    with contextlib.suppress(Exception):
        # it fails again where it is needed
        skip_lines(importlib.import_module("funasr.register"))


class _WithoutLines:
    """Stands in for `inspect` in a release's register."""

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    @staticmethod
    def getsourcelines(_target: object) -> tuple[list[str], int]:
        """No lines, and the number 0."""
        return [], 0


def skip_lines(register: types.ModuleType) -> None:
    """Have a release's register not find out in which line of its source each class begins.

    Only `tables.print` shows that, and most of the time of an import goes into it.
    """
    vars(register)["inspect"] = _WithoutLines()


def import_all(install_dir: str) -> None:
    """`import funasr` as in a user's job, with all submodules.

    Raises:
        whatever the release raises.
    """
    unload()
    put_on_path(install_dir)
    # Without it hydra prints the exception and exits, and the frames are lost.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    importlib.import_module("funasr")


def is_imported(install_dir: str) -> bool:
    """Whether `funasr` is this release, imported completely or partially."""
    package = sys.modules.get("funasr")
    return package is not None and str(getattr(package, "__file__", "")).startswith(install_dir + os.sep)


def is_partial() -> bool:
    """Whether `funasr/__init__.py` has not been run."""
    return isinstance(sys.modules.get("funasr"), _Package)


def unload() -> None:
    """Remove every module of the release, so that `import funasr` starts from scratch."""
    for name in [name for name in sys.modules if name == "funasr" or name.startswith("funasr.")]:
        del sys.modules[name]


Registered = Mapping[tuple[str, str], tuple[str, ...]]
"""The modules that register a component, by table and name."""


@functools.cache
def registrations(install_dir: str) -> Registered:
    """The registering modules by component: `("encoder_classes", "SANMEncoder")` -> `("funasr.models.sanm.encoder",)`.

    Read from the source text, so that nothing has to be imported; cached for all cells of a release. Several modules
    are in alphabetical order, which does not tell whose class remains after `import funasr`.
    """
    modules_by_component: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for folder, folders, names in os.walk(os.path.join(install_dir, "funasr")):  # noqa: PTH118
        folders.sort()
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            path = os.path.join(folder, name)  # noqa: PTH118
            with open(path, "rb") as file:  # noqa: PTH123
                content = file.read()
            if b"tables.register" not in content:
                continue
            text = content.decode(errors="replace")
            module = path[len(install_dir) + 1 : -3].replace(os.sep, ".").removesuffix(".__init__")
            for table, component in _REGISTER.findall(text):
                modules_by_component[table, component][module] = None
    return {pair: tuple(modules) for pair, modules in modules_by_component.items()}


@dataclass(frozen=True)
class FullImport:
    """The order in which a full import of a release registered its components."""

    rows: tuple[tuple[str, str, str], ...]
    """Table, name and module of each registration."""

    def modules(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """The modules that register a component, in order."""
        return tuple(dict.fromkeys(module for table, name, module in self.rows if (table, name) == pair))

    @property
    def places(self) -> dict[str, int]:
        """The position at which each module began to register."""
        return {module: number for number, (_, _, module) in reversed(list(enumerate(self.rows)))}


_full_imports: dict[str, FullImport] = {}


def remember(install_dir: str, full: FullImport) -> None:
    """Store the result of a full import of the release, for this process and its forks."""
    if full.rows:
        _full_imports[install_dir] = full


def depends_on_order(install_dir: str, components: Iterable[tuple[str, str]]) -> bool:
    """Whether several modules may register one of these, and no full import has shown whose class remains."""
    if install_dir in _full_imports:
        return False
    index = registrations(install_dir)
    return any(len(index.get(pair, ())) > 1 for pair in components)


def import_components(install_dir: str, components: Iterable[tuple[str, str]]) -> None:
    """Import the modules that register these components, so that the registry is as after a full import.

    If a full import was recorded, its order is used: of two modules that register one name the later wins. 1.2.2 and
    later do so with `ParaformerSANMDecoder`, whose class is then that of `e_paraformer`.

    Raises:
        NotInRelease: the release registers no such component.
    """
    components = list(components)
    for table, name in components:
        if not _modules(install_dir, (table, name)):
            raise NotInRelease(f"the release has no {table.removesuffix('_classes')} {name!r}", f"{table}/{name}")
    for module, pair in _registering(install_dir, components):
        _import_registering(install_dir, module, pair)


def import_available_components(install_dir: str, components: Iterable[tuple[str, str]]) -> None:
    """The same, ignoring components that the release lacks or that fail to import."""
    for module, pair in _registering(install_dir, components):
        with contextlib.suppress(Exception):
            _import_registering(install_dir, module, pair)


def import_order(
    install_dir: str, components: Iterable[tuple[str, str]], full: FullImport | None = None
) -> dict[str, Any]:
    """All that importing these components takes from the release's registrations; JSON.

    Args:
        full: What a full import showed; what this process remembers if None.

    Returns:
        `modules` by table and name of each component, `order` of the modules that are imported, and `whole`: whether
            the release is imported as a whole because no full import has shown the order.
    """
    full = full if full is not None else _full_imports.get(install_dir)
    components = list(components)
    index = registrations(install_dir)
    return {
        "modules": {f"{table}/{name}": list(_modules_of(index, full, (table, name))) for table, name in components},
        "order": [[module, *pair] for module, pair in _ordered(index, full, components)],
        "whole": not (full and full.rows) and any(len(index.get(pair, ())) > 1 for pair in components),
    }


def _modules(install_dir: str, pair: tuple[str, str]) -> tuple[str, ...]:
    """The modules to import for a component, including those that a later one overrides; empty if there is none."""
    return _modules_of(registrations(install_dir), _full_imports.get(install_dir), pair)


def _modules_of(index: Registered, full: FullImport | None, pair: tuple[str, str]) -> tuple[str, ...]:
    return (full.modules(pair) if full else ()) or index.get(pair, ())[:1]


def _registering(install_dir: str, components: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[str, str]]]:
    """The modules to import in the order of the full import, each with a component that it registers."""
    return _ordered(registrations(install_dir), _full_imports.get(install_dir), components)


def _ordered(
    index: Registered, full: FullImport | None, components: Iterable[tuple[str, str]]
) -> list[tuple[str, tuple[str, str]]]:
    places = full.places if full else {}
    components_by_module: dict[str, tuple[str, str]] = {}
    for pair in components:
        components_by_module |= dict.fromkeys(_modules_of(index, full, pair), pair)
    return sorted(components_by_module.items(), key=lambda entry: places.get(entry[0], math.inf))


def _import_registering(install_dir: str, module: str, pair: tuple[str, str]) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        # Up to 1.0.5, and in 1.1.13, a second registration is refused, by one of these two.
        refused = isinstance(error, AssertionError | ValueError) and _is_registered(*pair)
        # `import funasr` ignores modules that fail to import, and a later module registers this class again.
        overruled = module in _modules(install_dir, pair)[:-1]
        if not (refused or overruled):
            raise


def _is_registered(table: str, name: str) -> bool:
    tables = importlib.import_module("funasr.register").tables
    return name in getattr(tables, table, {})


def rebind(original: Callable[..., Any], replacement: Callable[..., Any]) -> int:
    """Replace a function wherever torch or a release has bound it; returns the number of places.

    `from torch.nn.utils import clip_grad_norm_` binds the function in the importing module, so replacing torch's
    attribute alone would miss it. In torch's modules the function is searched by its own name, in a release's by any
    name. Modules that are imported later find the replacement.
    """
    places = 0
    for name, module in list(sys.modules.items()):
        package, attributes = name.partition(".")[0], getattr(module, "__dict__", {})
        if package == "torch":
            candidates = [original.__name__]
        elif package == "funasr":
            candidates = [key for key, value in attributes.items() if value is original]
        else:
            continue
        for key in candidates:
            if attributes.get(key) is original:
                setattr(module, key, replacement)
                places += 1
    return places
