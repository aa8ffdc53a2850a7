"""What the names of a release's code denote; nothing of it is imported."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.preflight.code.bindings import Bindings
from harness.preflight.code.release_code import ReleaseCode
from harness.preflight.keys.denoted import Choices, ComponentTable, Defined, External, ReleaseModule, Value

_EXPORTS = {"AutoModel": "funasr.auto.auto_model", "AutoFrontend": "funasr.auto.auto_frontend"}


@dataclass(kw_only=True)
class Seen:
    """What a reading took from a release: another release of which the same is true gives the same reading."""

    modules: dict[str, str] = field(default_factory=dict)
    """The digest of each module's file; empty where the release has no such module."""
    components: dict[str, list[list[str]]] = field(default_factory=dict)
    """By table and name, `encoder_classes/SANMEncoder`: the module and the class of each registration."""

    def to_json(self) -> dict[str, object]:
        """For the cache."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Seen:
        """From the cache.

        Raises:
            KeyError, TypeError, ValueError: it has another form.
        """
        return cls(modules=dict(document["modules"]), components=dict(document["components"]))

    def holds_in(self, source: Source) -> bool:
        """Whether it is true of a release."""
        return all(source.digest(module) == digest for module, digest in self.modules.items()) and all(
            source.registered(*name.split("/", 1)) == registrations for name, registrations in self.components.items()
        )


class Source:
    """The names of a release's code, and what they denote."""

    def __init__(self, code: ReleaseCode) -> None:
        self.code = code
        self._read: dict[str, Bindings | None] = {}
        self.seen = Seen()

    def file(self, module: str) -> str | None:
        """A module's file, `funasr/train_utils/trainer.py`; None where the release has no such module."""
        self.seen.modules.setdefault(module, self.digest(module))
        name = self.code.module_file(module)
        return f"funasr/{name}" if name else None

    def digest(self, module: str) -> str:
        """Of a module's file; empty where the release has no such module."""
        name = self.code.module_file(module)
        return self.code.listing[name].digest if name else ""

    def names(self, module: str) -> Bindings | None:
        """What the module's names are bound to; None where it is none of the release's, or no Python."""
        if module not in self._read:
            # Kept for as long as one reads: nodes are known by their identity.
            self._read[module] = self.code.bindings(module) if self.file(module) else None
        return self._read[module]

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
        definitions: list[Defined] = []
        registered = self.registered(table, name)
        self.seen.components.setdefault(f"{table}/{name}", registered)
        for module, defined in registered:
            names = self.names(module)
            if names and defined in names.definitions:
                definitions.append(Defined(module, defined, names.definitions[defined]))
        return definitions

    def registered(self, table: str, name: str) -> list[list[str]]:
        """The module and the class or function of each registration."""
        registrations = self.code.registered.get(table, {}).get(name, ())
        return [[self.code.module_of(definition.file), definition.name] for definition in registrations]

    def has(self, table: str, name: str) -> bool:
        """Whether a component of that name is registered."""
        return name in self.code.registered.get(table, {})

    def known(self, table: str) -> list[str]:
        """The names in a table."""
        return sorted(self.code.registered.get(table, {}))

    def bases(self, class_defined: Defined) -> list[Defined]:
        """The classes of the release from which a class is derived, the nearest first."""
        base_classes: list[Defined] = []
        for base in class_defined.node.bases if isinstance(class_defined.node, ast.ClassDef) else ():
            for atom in self._expression(class_defined.module, base):
                if isinstance(atom, Defined) and isinstance(atom.node, ast.ClassDef) and len(base_classes) < 20:
                    base_classes += [atom, *self.bases(atom)] if atom.node is not class_defined.node else []
        return base_classes

    def is_derived_from_other_libraries(self, class_defined: Defined) -> bool:
        """Whether a constructor may come from another library."""
        return isinstance(class_defined.node, ast.ClassDef) and bool(class_defined.node.bases)

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

    def method(self, class_defined: Defined, name: str, *, above: bool = False) -> Defined | None:
        """The function that a class or its bases define; `above` for `super()`."""
        for owner in [*([] if above else [class_defined]), *self.bases(class_defined)]:
            for node in reversed(owner.node.body):
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return Defined(owner.module, f"{owner.name}.{name}", node)
        return None

    def methods(self, class_defined: Defined) -> list[tuple[Defined, Defined]]:
        """All functions of a class and its bases, each with the class that defines it; overridden ones are left out."""
        methods_by_name: dict[str, tuple[Defined, Defined]] = {}
        for owner in (class_defined, *self.bases(class_defined)):
            for node in owner.node.body:
                if isinstance(node, ast.FunctionDef) and node.name not in methods_by_name:
                    methods_by_name[node.name] = (Defined(owner.module, f"{owner.name}.{node.name}", node), owner)
        return list(methods_by_name.values())
