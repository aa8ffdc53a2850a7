"""A source file as what runs on import and what runs when a function is called, each as a hash of its syntax.

Comments, layout, docstrings and line numbers play no part. Defaults, decorators, annotations, constants and class
bodies run on import. A function's unit holds all that is defined within it.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

VERSION, ANNOUNCED, DOCSTRINGS, SEARCH, POSITIONS = "version", "announced version", "docstrings", "search", "positions"
"""What code may read that its syntax and its inputs do not show: its release's version, the same only to print it,
docstrings, whether a module could be imported, line numbers."""

_OTHERS_VERSIONS = frozenset({"torch", "torchaudio", "numpy", "np", "transformers", "packaging", "scipy", "librosa"})
_DOCSTRING_NAMES = frozenset({"__doc__", "getdoc"})
_SEARCHES = frozenset({"find_spec", "find_loader", "find_module"})
_POSITION_NAMES = frozenset(
    {"f_lineno", "tb_lineno", "co_firstlineno", "co_positions", "co_lines", "getframeinfo", "currentframe", "_getframe"}
)

_ANNOUNCEMENT = """\
current_version = version.parse(__version__)
print(f"funasr version: {current_version}.")
if disable:
    return
"""
"""How `check_for_update` of the releases begins, which is called with `disable`."""


@dataclass(frozen=True, kw_only=True)
class CodeUnit:
    """A part of a file that runs as a whole."""

    sha256: str
    reads: frozenset[str]
    """`VERSION` and the others."""


@dataclass(frozen=True, kw_only=True)
class SourceUnits:
    """The parts of one file."""

    text_sha256: str
    on_import: CodeUnit | None = None
    """None for a file that cannot be parsed here."""
    functions: dict[str, CodeUnit] = field(default_factory=dict)
    """By qualified name: the module's functions and its classes' methods; those of one name together."""
    classes: frozenset[str] = frozenset()
    """Qualified names."""

    @classmethod
    def of(cls, source: bytes) -> Self:
        """The units of a file's content."""
        text_sha256 = hashlib.sha256(source).hexdigest()
        try:
            tree = ast.parse(source)
            return cls._parted(tree, text_sha256)
        except (SyntaxError, ValueError, RecursionError):
            return cls(text_sha256=text_sha256)

    @classmethod
    def _parted(cls, tree: ast.Module, text_sha256: str) -> Self:
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        parts = _Parts()
        parts.part(tree, "")
        return cls(
            text_sha256=text_sha256,
            on_import=_unit([tree]),
            functions={name: _unit(body) for name, body in parts.bodies.items()},
            classes=frozenset(parts.classes),
        )

    def unit_of(self, qualified_name: str) -> str | None:
        """The function that a code object belongs to.

        Returns:
            Its qualified name; empty for what runs on import, such as a class body or a lambda of the module; None for
            a name that cannot be placed, such as of a function that a `global` statement moved.
        """
        outermost = qualified_name.partition(".<locals>")[0]
        if outermost in self.functions:
            return outermost
        return "" if outermost in self.classes or outermost.rpartition(".")[2].startswith("<") else None


_Definition = ast.FunctionDef | ast.AsyncFunctionDef


class _Parts:
    """Takes the bodies of functions out of a tree."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[ast.stmt]] = defaultdict(list)
        self.classes: set[str] = set()

    def part(self, node: ast.AST, prefix: str) -> None:
        """Put what a function runs under its name, and leave its head where it stands."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Definition):
                self.bodies[f"{prefix}{child.name}"] += child.body
                # a call of a generator function runs none of its body, so its kind belongs to its head
                kind = "generator" if _yields(child.body) else "function"
                child.body = [ast.Expr(value=ast.Constant(value=kind))]
            elif isinstance(child, ast.ClassDef):
                self.classes.add(f"{prefix}{child.name}")
                self.part(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                self.part(child, prefix)


def _drop_docstring(node: ast.Module | ast.ClassDef | _Definition) -> None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            node.body = rest or [ast.Pass()]


def _yields(body: Iterable[ast.AST]) -> bool:
    """Whether a function's own body yields; that of a function within it does not count."""
    return any(
        isinstance(node, ast.Yield | ast.YieldFrom)
        or (not isinstance(node, _Definition | ast.Lambda | ast.ClassDef) and _yields(ast.iter_child_nodes(node)))
        for node in body
    )


def _unit(nodes: Sequence[ast.AST]) -> CodeUnit:
    text = "\n".join(ast.dump(node) for node in nodes)
    reads = {read for node in nodes for each in ast.walk(node) if (read := _read(each))}
    if VERSION in reads and _only_announces(nodes):
        reads = reads - {VERSION} | {ANNOUNCED}
    return CodeUnit(sha256=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(), reads=frozenset(reads))


def _read(node: ast.AST) -> str:
    match node:
        case ast.Name(id="__version__", ctx=ast.Load()):
            return VERSION
        case ast.Attribute(attr="__version__", value=ast.Name(id=name)) if name in _OTHERS_VERSIONS:
            return ""
        case ast.Attribute(attr="__version__") | ast.alias(name="__version__", asname=str()):
            return VERSION
        case ast.Call(args=arguments) if any(
            isinstance(one, ast.Constant) and one.value == "__version__" for one in arguments
        ):
            return VERSION
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _SEARCHES:
            return "" if _searches_elsewhere(node.args) else SEARCH
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _DOCSTRING_NAMES:
            return DOCSTRINGS
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _POSITION_NAMES:
            return POSITIONS
        case _:
            return ""


def _searches_elsewhere(arguments: Sequence[ast.expr]) -> bool:
    match arguments:
        case [ast.Constant(value=str() as name)]:
            return not name.startswith(("funasr", "."))
        case _:
            return False


def _only_announces(nodes: Sequence[ast.AST]) -> bool:
    start = ast.parse(_ANNOUNCEMENT).body
    begins = [ast.dump(node) for node in nodes[: len(start)]] == [ast.dump(node) for node in start]
    return begins and not any(_read(each) == VERSION for node in nodes[len(start) :] for each in ast.walk(node))
