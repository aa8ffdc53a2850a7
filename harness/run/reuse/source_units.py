"""A source file as what runs on import and what runs when a function is called, each as a hash of its syntax.

Comments, layout, docstrings and line numbers play no part. Defaults, decorators, annotations, constants and class
bodies run on import. A function's unit holds all that is defined within it. What is decorated runs on import with its
body, unless the decorator is one that takes nothing from the body: `torch.jit.script` compiles it from its source.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

VERSION, ANNOUNCED, DOCSTRINGS, SEARCH, POSITIONS = "version", "announced version", "docstrings", "search", "positions"
SOURCES = "sources"
"""What code may read that its syntax and its inputs do not show: its release's version, the same only to print it,
docstrings, whether a module could be imported, line numbers, and the source of functions."""

_PLAIN_DECORATORS = frozenset(
    {
        "property", "setter", "staticmethod", "classmethod", "abstractmethod", "abstractclassmethod", "contextmanager",
        "dataclass", "register", "no_grad", "inference_mode", "wraps", "lru_cache", "cached_property", "overload",
    }
)  # fmt: skip
"""Last names of decorators of Python, torch and the register that take nothing from what they decorate but to call it.
The register reads the number of a class's first line, which nothing but `tables.print` uses."""

_OTHERS_VERSIONS = frozenset({"torch", "torchaudio", "numpy", "np", "transformers", "packaging", "scipy", "librosa"})
_SOURCE_NAMES = frozenset({"getsource", "getsourcelines", "findsource", "linecache"})
_DOCSTRING_NAMES = frozenset({"__doc__", "getdoc"})
_SEARCHES = frozenset({"find_spec", "find_loader", "find_module"})
_POSITION_NAMES = frozenset(
    {"f_lineno", "tb_lineno", "co_firstlineno", "co_positions", "co_lines", "getframeinfo", "currentframe", "_getframe"}
)

_READING = re.compile(
    "|".join(
        ("__version__", r"\bscript", *_SOURCE_NAMES, *_DOCSTRING_NAMES, *_SEARCHES, *_POSITION_NAMES)
    ).encode()
)  # fmt: skip
"""A word of each that `_read` knows. A name may be written in other letters (PEP 3131): such files are searched."""

_COMPARISON = """\
current_version = version.parse(__version__)
pypi_version = get_pypi_version("funasr")
if current_version < pypi_version:
    print(f"New version available: {pypi_version}. Your current version is {current_version}.")
    print('Please use the command "pip install -U funasr" to upgrade.')
else:
    print(f"You are using the latest version of funasr-{current_version}")
"""
"""All that `check_for_update` does in 1.0.29 to 1.1.4: its version decides what it prints, and nothing else."""
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
            return cls._parted(ast.parse(source), text_sha256, _Words.of(source))
        except (SyntaxError, ValueError, RecursionError):
            return cls(text_sha256=text_sha256)

    @classmethod
    def _parted(cls, tree: ast.Module, text_sha256: str, words: _Words) -> Self:
        _drop_docstrings(tree)
        parts = _Parts(yields=words.yields)
        parts.part(tree, "")
        return cls(
            text_sha256=text_sha256,
            on_import=_unit([tree], words),
            functions={name: _unit(body, words) for name, body in parts.bodies.items()},
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

    def __init__(self, *, yields: bool) -> None:
        """See the class; `yields` says whether any function may."""
        self._yields = yields
        self.bodies: dict[str, list[ast.stmt]] = defaultdict(list)
        self.classes: set[str] = set()

    def part(self, node: ast.AST, prefix: str, *, leave: bool = False) -> None:
        """Put what a function runs under its name, and leave its head where it stands.

        Args:
            leave: Whether bodies stay there as well, because what decorates the class may read them.
        """
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Definition):
                self.bodies[f"{prefix}{child.name}"] += child.body
                if leave or not _is_plainly_decorated(child):
                    continue
                # a call of a generator function runs none of its body, so its kind belongs to its head
                kind = "generator" if self._yields and _yields(child.body) else "function"
                child.body = [ast.Expr(value=ast.Constant(value=kind))]
            elif isinstance(child, ast.ClassDef):
                self.classes.add(f"{prefix}{child.name}")
                self.part(child, f"{prefix}{child.name}.", leave=leave or not _is_plainly_decorated(child))
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                self.part(child, prefix, leave=leave)


def _is_plainly_decorated(definition: _Definition | ast.ClassDef) -> bool:
    """Whether nothing that decorates it can read its source."""
    for decorator in definition.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if name not in _PLAIN_DECORATORS:
            return False
    return True


def _drop_docstrings(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | _Definition):
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str())), *statements]:
                node.body = statements or [ast.Pass()]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            _drop_docstrings(child)


def _yields(body: Iterable[ast.AST]) -> bool:
    """Whether a function's own body yields; that of a function within it does not count."""
    return any(
        isinstance(node, ast.Yield | ast.YieldFrom)
        or (not isinstance(node, _Definition | ast.Lambda | ast.ClassDef) and _yields(ast.iter_child_nodes(node)))
        for node in body
    )


@dataclass(frozen=True, kw_only=True)
class _Words:
    """Whether a file's text has words without which nothing need be searched for in its syntax."""

    yields: bool
    reads: bool
    """What `_read` knows."""

    @classmethod
    def of(cls, source: bytes) -> Self:
        return cls(yields=b"yield" in source, reads=bool(_READING.search(source)))


def _unit(nodes: Sequence[ast.AST], words: _Words) -> CodeUnit:
    text = "\n".join(ast.dump(node) for node in nodes)
    everything = [child for node in nodes for child in ast.walk(node)] if words.reads else []
    reads = {read for child in everything if (read := _read(child))}
    if SOURCES in reads and not _reads_sources(everything):
        reads = reads - {SOURCES}
    if VERSION in reads and _only_compares(nodes):
        reads = reads - {VERSION}
    if VERSION in reads and _only_announces(nodes):
        reads = reads - {VERSION} | {ANNOUNCED}
    return CodeUnit(sha256=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(), reads=frozenset(reads))


def _reads_sources(nodes: Iterable[ast.AST]) -> bool:
    """Whether the source of a function is read otherwise than by what decorates it, whose body is here as well."""
    definitions = [node for node in nodes if isinstance(node, _Definition | ast.ClassDef)]
    decorating = {
        id(child) for definition in definitions for part in definition.decorator_list for child in ast.walk(part)
    }
    return any(id(node) not in decorating and _read(node) == SOURCES for node in nodes)


def _read(node: ast.AST) -> str:
    match node:
        case ast.Name(id="__version__", ctx=ast.Load()):
            return VERSION
        case ast.Attribute(attr="__version__", value=ast.Name(id=name)) if name in _OTHERS_VERSIONS:
            return ""
        case ast.Attribute(attr="__version__") | ast.alias(name="__version__", asname=str()):
            return VERSION
        case ast.Call(args=arguments) if any(
            isinstance(argument, ast.Constant) and argument.value == "__version__" for argument in arguments
        ):
            return VERSION
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _SEARCHES:
            return "" if _searches_elsewhere(node.args) else SEARCH
        case ast.Attribute(attr="script" | "script_method", value=ast.Attribute(attr="jit") | ast.Name(id="jit")):
            return SOURCES
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _SOURCE_NAMES:
            return SOURCES
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


def _only_compares(nodes: Sequence[ast.AST]) -> bool:
    dumped = [ast.dump(node) for node in nodes]
    compares = [ast.dump(node) for node in ast.parse(_COMPARISON).body]
    leaves = [ast.dump(node) for node in ast.parse("if disable:\n    return\n").body]
    return dumped in (compares, leaves + compares)


def _only_announces(nodes: Sequence[ast.AST]) -> bool:
    start = ast.parse(_ANNOUNCEMENT).body
    begins = [ast.dump(node) for node in nodes[: len(start)]] == [ast.dump(node) for node in start]
    return begins and not any(_read(child) == VERSION for node in nodes[len(start) :] for child in ast.walk(node))
