"""A release's source as syntax trees, parsed where needed; nothing of it is imported."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass, field
from pathlib import Path

from harness.preflight.keys.denoted import Choices, ComponentTable, Defined, External, ReleaseModule, Value
from harness.worker.release.importer import registrations

MOST_BYTES = 4 << 20
_EXPORTS = {"AutoModel": "funasr.auto.auto_model", "AutoFrontend": "funasr.auto.auto_frontend"}


@dataclass
class Names:
    """The top level of a module: what each name is bound to."""

    definitions: dict[str, ast.ClassDef | ast.FunctionDef] = field(default_factory=dict)
    assigned: dict[str, ast.expr] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    """Dotted: `torch.optim`, `funasr.train_utils.trainer.Trainer`."""


@functools.lru_cache(maxsize=4)
def source_of(overlay: Path) -> Source:
    """The package of a release; what was parsed once is kept for the next reading."""
    return Source(overlay)


class Source:
    """The package `funasr` in a folder."""

    def __init__(self, overlay: Path) -> None:
        self.overlay = overlay
        self._parsed: dict[str, Names | None] = {}
        self._files: dict[str, Path | None] = {}

    @functools.cached_property
    def registered(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The modules that register a component, by table and name."""
        return registrations(str(self.overlay))

    def file(self, module: str) -> Path | None:
        """A module's file; None where the release has no such module."""
        if module not in self._files:
            place = self.overlay.joinpath(*module.split("."))
            candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
            self._files[module] = next((path for path in candidates if path.is_file()), None)
        return self._files[module]

    def names(self, module: str) -> Names | None:
        """What the module's names are bound to; None where it is none of the release's, or no Python."""
        if module not in self._parsed:
            self._parsed[module] = self._parse(module)
        return self._parsed[module]

    def _parse(self, module: str) -> Names | None:
        path = self.file(module)
        if path is None or path.stat().st_size > MOST_BYTES:
            return None
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except (SyntaxError, ValueError, RecursionError):
            return None
        found = Names()
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        _collect(tree.body, package, found)
        return found

    def resolve(self, module: str, name: str, depth: int = 0) -> Value:
        """What a global name of a module denotes."""
        names = self.names(module)
        if names is None or depth > 8:
            return frozenset()
        if name in names.definitions:
            return frozenset([Defined(module, name, names.definitions[name])])
        if name in names.imported:
            return self.dotted(names.imported[name], depth + 1)
        if name in names.assigned:
            return frozenset([Choices(module, name, names.assigned[name])])
        if module == "funasr" and name in _EXPORTS:
            return self.dotted(f"{_EXPORTS[name]}.{name}", depth + 1)
        return frozenset()

    def dotted(self, path: str, depth: int = 0) -> Value:
        """What an imported name denotes."""
        if path.split(".")[0] != "funasr":
            return frozenset([External(path)])
        if path == "funasr.register.tables":
            return frozenset([ReleaseModule(path)])
        if self.file(path) is not None:
            return frozenset([ReleaseModule(path)])
        module, _, name = path.rpartition(".")
        return self.resolve(module, name, depth + 1) if module else frozenset()

    def member(self, module: ReleaseModule, name: str) -> Value:
        """What an attribute of a module denotes."""
        if module.name == "funasr.register.tables":
            return frozenset([ComponentTable(name)])
        if self.file(f"{module.name}.{name}") is not None:
            return frozenset([ReleaseModule(f"{module.name}.{name}")])
        return self.resolve(module.name, name)

    def components(self, table: str, name: str) -> list[Defined]:
        """The classes and functions that are registered by a name: several where several modules register it."""
        found: list[Defined] = []
        for module in self.registered.get((table, name), ()):
            names = self.names(module)
            found += [
                Defined(module, node.name, node)
                for node in (names.definitions.values() if names else ())
                if (table, name) in _registrations(node)
            ]
        return found

    def has(self, table: str, name: str) -> bool:
        """Whether a component of that name is registered."""
        return (table, name) in self.registered

    def known(self, table: str) -> list[str]:
        """The names in a table."""
        return sorted(name for where, name in self.registered if where == table)

    def bases(self, of: Defined) -> list[Defined]:
        """The classes of the release from which a class is derived, the nearest first."""
        found: list[Defined] = []
        for base in of.node.bases if isinstance(of.node, ast.ClassDef) else ():
            for atom in self._expression(of.module, base):
                if isinstance(atom, Defined) and isinstance(atom.node, ast.ClassDef) and len(found) < 20:
                    found += [atom, *self.bases(atom)] if atom.node is not of.node else []
        return found

    def is_derived_from_other_libraries(self, of: Defined) -> bool:
        """Whether a constructor may come from another library."""
        return isinstance(of.node, ast.ClassDef) and bool(of.node.bases)

    def _expression(self, module: str, node: ast.expr) -> Value:
        if isinstance(node, ast.Name):
            return self.resolve(module, node.id)
        if isinstance(node, ast.Attribute):
            return frozenset(
                atom
                for owner in self._expression(module, node.value)
                if isinstance(owner, ReleaseModule)
                for atom in self.member(owner, node.attr)
            )
        return frozenset()

    def method(self, of: Defined, name: str, *, above: bool = False) -> Defined | None:
        """The function that a class or its bases define; `above` for `super()`."""
        for owner in [*([] if above else [of]), *self.bases(of)]:
            for node in reversed(owner.node.body):
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return Defined(owner.module, f"{owner.name}.{name}", node)
        return None

    def methods(self, of: Defined) -> list[tuple[Defined, Defined]]:
        """All functions of a class and its bases, each with the class that defines it; overridden ones are left out."""
        found: dict[str, tuple[Defined, Defined]] = {}
        for owner in (of, *self.bases(of)):
            for node in owner.node.body:
                if isinstance(node, ast.FunctionDef) and node.name not in found:
                    found[node.name] = (Defined(owner.module, f"{owner.name}.{node.name}", node), owner)
        return list(found.values())


def _registrations(node: ast.ClassDef | ast.FunctionDef) -> list[tuple[str, str]]:
    found = []
    for one in node.decorator_list:
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "tables.register" and len(one.args) == 2:
            table, name = one.args
            if isinstance(table, ast.Constant) and isinstance(name, ast.Constant):
                found.append((str(table.value), str(name.value)))
    return found


def _collect(body: list[ast.stmt], package: str, found: Names) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            # A name that is defined twice keeps its later definition, as in Python.
            found.definitions[node.name] = node
        elif isinstance(node, ast.Import):
            for one in node.names:
                found.imported[one.asname or one.name.split(".")[0]] = (
                    one.name if one.asname else one.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
            start = ".".join(part for part in (base, node.module or "") if part)
            for one in node.names:
                found.imported[one.asname or one.name] = f"{start}.{one.name}"
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.assigned[target.id] = node.value
        elif isinstance(node, ast.If | ast.Try | ast.With):
            _collect(node.body, package, found)
            for handler in getattr(node, "handlers", ()):
                _collect(handler.body, package, found)
            _collect(getattr(node, "orelse", []), package, found)
