"""A release's own code, read and never run: what it registers, and the methods of its classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from harness.preflight.code.bindings import Bindings
from harness.preflight.code.listing import ListedFile, list_files
from harness.preflight.code.source_file import SourceFile, source_file


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A class or function of the release."""

    file: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method with the class that defines it."""

    owner: Definition
    node: ast.FunctionDef

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names that can be passed by keyword, without `self`."""
        arguments = self.node.args
        return tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))[1:]

    @property
    def required(self) -> tuple[str, ...]:
        """Parameters without a default."""
        arguments = self.node.args
        placed = [*arguments.posonlyargs, *arguments.args][1:]
        without = placed[: len(placed) - len(arguments.defaults)]
        alone = [
            argument
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is None
        ]
        return tuple(argument.arg for argument in (*without, *alone))

    @property
    def takes_any(self) -> bool:
        """Whether it has `**kwargs`."""
        return self.node.args.kwarg is not None


@dataclass(frozen=True, kw_only=True)
class ReleaseCode:
    """The package `funasr` of one release."""

    root: Path
    """`install_dir / "funasr"`."""
    cache: Path | None = None
    """The folder in which the harness keeps what it found out."""
    _lineages: dict[Definition, tuple[tuple[Definition, ast.ClassDef], ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def listing(self) -> Mapping[str, ListedFile]:
        """The release's files by path below `root`: `models/sanm/encoder.py`."""
        return list_files(self.root, self.cache)

    @cached_property
    def registered(self) -> Mapping[str, Mapping[str, tuple[Definition, ...]]]:
        """By table and name, what registers it; several modules may."""
        definitions: dict[str, dict[str, list[Definition]]] = {}
        for name, listed in self.listing.items():
            for registration in listed.registrations:
                definition = Definition(file=self.root / name, name=registration.defined)
                definitions.setdefault(registration.table, {}).setdefault(registration.key, []).append(definition)
        return {table: {name: tuple(all_) for name, all_ in names.items()} for table, names in definitions.items()}

    def names(self, table: str) -> tuple[str, ...]:
        """What a registry table holds, sorted."""
        return tuple(sorted(self.registered.get(table, {})))

    def definition(self, table: str, name: str) -> Definition | None:
        """The class or function of that name; of several the last by module, as after `import funasr`."""
        definitions = self.registered.get(table, {}).get(name, ())
        return definitions[-1] if definitions else None

    def file(self, path: Path | str) -> SourceFile | None:
        """A file of the release, by its path or by that below `root`; None where there is none."""
        full = self.root / path
        try:
            listed = self.listing.get(full.relative_to(self.root).as_posix())
        except ValueError:
            listed = None
        return source_file(full, listed.digest if listed else "")

    def text(self, relative: str) -> str:
        """A file's text; empty where it is not there."""
        file = self.file(relative)
        return file.text if file else ""

    def tree(self, path: Path) -> ast.Module | None:
        """The parsed file; None where it is not there or no Python."""
        file = self.file(path)
        return file.tree if file else None

    def module_file(self, module: str) -> str | None:
        """The path below `root` of a module such as `funasr.models.sanm.encoder`; None where there is none."""
        package, _, inner = module.partition(".")
        place = inner.replace(".", "/")
        candidates = (f"{place}.py", f"{place}/__init__.py") if inner else ("__init__.py",)
        return (
            next((candidate for candidate in candidates if candidate in self.listing), None)
            if package == "funasr"
            else None
        )

    def bindings(self, module: str) -> Bindings | None:
        """What a module's names are bound to; None where it is none of the release's, or no Python."""
        name = self.module_file(module)
        file = self.file(name) if name else None
        package = module if name and name.endswith("__init__.py") else module.rpartition(".")[0]
        return file.bindings(package) if file else None

    def module_of(self, path: Path) -> str:
        """The dotted name of a file's module."""
        parts = path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def lineage(self, definition: Definition) -> tuple[tuple[Definition, ast.ClassDef], ...]:
        """A class and its bases within the release, in the order in which a method is looked up (depth first)."""
        if definition not in self._lineages:
            classes: list[tuple[Definition, ast.ClassDef]] = []
            self._collect(definition, classes)
            self._lineages[definition] = tuple(classes)
        return self._lineages[definition]

    def whole_lineage(self, definition: Definition) -> bool:
        """Whether every base that is not torch's was found, so that what the lineage lacks the class lacks."""
        for owner, node in self.lineage(definition):
            for base in node.bases:
                text = ast.unparse(base)
                if text.rpartition(".")[2] in ("Module", "ABC", "object"):
                    continue
                if self._base(owner, base) is None:
                    return False
        return True

    def method(self, definition: Definition, name: str) -> Method | None:
        """A method of a class or of its bases within the release."""
        for owner, node in self.lineage(definition):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == name:
                    return Method(owner=owner, node=inner)
        return None

    def _collect(self, definition: Definition, classes: list[tuple[Definition, ast.ClassDef]]) -> None:
        node = self._class_node(definition)
        if node is None or any(owner == definition for owner, _ in classes):
            return
        classes.append((definition, node))
        for base in node.bases:
            above = self._base(definition, base)
            if above is not None:
                self._collect(above, classes)

    def _class_node(self, definition: Definition) -> ast.ClassDef | None:
        bindings = self.bindings(self.module_of(definition.file))
        node = bindings.definitions.get(definition.name) if bindings else None
        return node if isinstance(node, ast.ClassDef) else None

    def _base(self, definition: Definition, base: ast.expr) -> Definition | None:
        if not isinstance(base, ast.Name | ast.Attribute):
            return None
        module = self.module_of(definition.file)
        first, _, attributes = ast.unparse(base).partition(".")
        bindings = self.bindings(module)
        if bindings is not None and not attributes and first in bindings.definitions:
            return Definition(file=definition.file, name=first)
        imported = bindings.imported.get(first) if bindings else None
        return self._defined(f"{imported}.{attributes}" if attributes else imported) if imported else None

    def _defined(self, dotted: str, depth: int = 0) -> Definition | None:
        """The class that `funasr.models.sanm.encoder.SANMEncoder` is, also where a module passes it on."""
        module, _, name = dotted.rpartition(".")
        bindings = self.bindings(module)
        if bindings is None or depth > 8:
            return None
        if name in bindings.definitions:
            return Definition(file=self.root / str(self.module_file(module)), name=name)
        return self._defined(bindings.imported[name], depth + 1) if name in bindings.imported else None


@lru_cache(maxsize=16)
def code_of(install_dir: Path, cache: Path | None = None) -> ReleaseCode:
    """The code of the release that is installed in a folder; read once for all parts."""
    return ReleaseCode(root=install_dir / "funasr", cache=cache)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """All functions and methods of a file."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
