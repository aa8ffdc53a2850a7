"""A release's own code, read and never run: what it registers, and the methods of its classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

_REGISTERED = re.compile(
    r"^[ \t]*@tables\.register\(\s*['\"](?P<table>\w+)['\"]\s*(?:,\s*(?:key\s*=\s*)?(?P<key>[^)\s]+)\s*,?\s*)?\)",
    re.MULTILINE,
)
_DEFINED = re.compile(r"^[ \t]*(?:class|def)\s+(\w+)", re.MULTILINE)
_CONSTANT = re.compile(r"^(\w+)\s*=\s*['\"]([^'\"]+)['\"]\s*$", re.MULTILINE)


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
        return tuple(one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))[1:]

    @property
    def required(self) -> tuple[str, ...]:
        """Parameters without a default."""
        arguments = self.node.args
        placed = [*arguments.posonlyargs, *arguments.args][1:]
        without = placed[: len(placed) - len(arguments.defaults)]
        alone = [
            one for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
        ]
        return tuple(one.arg for one in (*without, *alone))

    @property
    def takes_any(self) -> bool:
        """Whether it has `**kwargs`."""
        return self.node.args.kwarg is not None


@dataclass(frozen=True, kw_only=True)
class ReleaseCode:
    """The package `funasr` of one release."""

    root: Path
    """`overlay / "funasr"`."""
    _trees: dict[Path, ast.Module | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lineages: dict[Definition, tuple[tuple[Definition, ast.ClassDef], ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def registered(self) -> Mapping[str, Mapping[str, tuple[Definition, ...]]]:
        """By table and name, what registers it; several modules may."""
        found: dict[str, dict[str, list[Definition]]] = {}
        for path in sorted(self.root.rglob("*.py")):
            text = _read(path)
            if "tables.register" not in text:
                continue
            constants = dict(_CONSTANT.findall(text))
            for match in _REGISTERED.finditer(text):
                defined = _DEFINED.search(text, match.end())
                if defined is None:
                    continue
                key = match["key"]
                name = defined[1] if key is None else constants.get(key, key.strip("'\""))
                one = Definition(file=path, name=defined[1])
                found.setdefault(match["table"], {}).setdefault(name, []).append(one)
        return {table: {name: tuple(all_) for name, all_ in names.items()} for table, names in found.items()}

    def names(self, table: str) -> tuple[str, ...]:
        """What a registry table holds, sorted."""
        return tuple(sorted(self.registered.get(table, {})))

    def definition(self, table: str, name: str) -> Definition | None:
        """The class or function of that name; of several the last by module, as after `import funasr`."""
        found = self.registered.get(table, {}).get(name, ())
        return found[-1] if found else None

    def text(self, relative: str) -> str:
        """A file's text; empty where it is not there."""
        return _read(self.root / relative)

    def tree(self, path: Path) -> ast.Module | None:
        """The parsed file; None where it is not there or no Python."""
        if path not in self._trees:
            try:
                self._trees[path] = ast.parse(_read(path)) if path.is_file() else None
            except (SyntaxError, ValueError, RecursionError):
                self._trees[path] = None
        return self._trees[path]

    def lineage(self, one: Definition) -> tuple[tuple[Definition, ast.ClassDef], ...]:
        """A class and its bases within the release, in the order in which a method is looked up (depth first)."""
        if one not in self._lineages:
            found: list[tuple[Definition, ast.ClassDef]] = []
            self._collect(one, found)
            self._lineages[one] = tuple(found)
        return self._lineages[one]

    def whole_lineage(self, one: Definition) -> bool:
        """Whether every base that is not torch's was found, so that what the lineage lacks the class lacks."""
        for owner, node in self.lineage(one):
            for base in node.bases:
                text = ast.unparse(base)
                if text.rpartition(".")[2] in ("Module", "ABC", "object"):
                    continue
                if self._base(owner, base) is None:
                    return False
        return True

    def method(self, one: Definition, name: str) -> Method | None:
        """A method of a class or of its bases within the release."""
        for owner, node in self.lineage(one):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == name:
                    return Method(owner=owner, node=inner)
        return None

    def _collect(self, one: Definition, found: list[tuple[Definition, ast.ClassDef]]) -> None:
        node = self._class_node(one)
        if node is None or any(owner == one for owner, _ in found):
            return
        found.append((one, node))
        for base in node.bases:
            above = self._base(one, base)
            if above is not None:
                self._collect(above, found)

    def _class_node(self, one: Definition) -> ast.ClassDef | None:
        tree = self.tree(one.file)
        nodes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == one.name] if tree else []
        return nodes[-1] if nodes else None

    def _base(self, one: Definition, base: ast.expr) -> Definition | None:
        if not isinstance(base, ast.Name):
            return None
        tree = self.tree(one.file)
        for node in tree.body if tree else ():
            if isinstance(node, ast.ClassDef) and node.name == base.id:
                return Definition(file=one.file, name=base.id)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("funasr."):
                for alias in node.names:
                    if (alias.asname or alias.name) == base.id:
                        return self._in_module(node.module, alias.name)
        return None

    def _in_module(self, module: str, name: str) -> Definition | None:
        place = self.root.joinpath(*module.split(".")[1:])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return Definition(file=path, name=name)
        return None


@lru_cache(maxsize=16)
def code_of(overlay: Path) -> ReleaseCode:
    """The code of the release that is installed in a folder; read once for all parts."""
    return ReleaseCode(root=overlay / "funasr")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """All functions and methods of a file."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
