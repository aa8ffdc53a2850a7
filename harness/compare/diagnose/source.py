"""The source of a laid-out release: its functions, and the statements that they are made of, with their lines."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULE = "<module>"
"""The name of what stands in a file outside of its functions."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class SourceLine:
    """A statement's own line: comments, layout and what stands within it left out."""

    number: int
    depth: int
    """How far it is indented, 0 for the function's own parameters and statements."""
    text: str


@functools.lru_cache(maxsize=512)
def _parsed(path: Path) -> tuple[ast.Module, dict[str, Definition], tuple[str, ...]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    tree = ast.parse(text)
    definitions: dict[str, Definition] = {}
    _collect(tree, "", definitions)
    return tree, definitions, tuple(text.splitlines())


def _collect(node: ast.AST, prefix: str, definitions: dict[str, Definition]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            _collect(child, f"{prefix}{child.name}.", definitions)
        elif isinstance(child, Definition):
            # The last of one name is the one that Python keeps.
            definitions[f"{prefix}{child.name}"] = child
            _collect(child, f"{prefix}{child.name}.", definitions)
        else:
            _collect(child, prefix, definitions)


@dataclass(frozen=True)
class ReleaseSource:
    """An installed release on disk; what cannot be parsed has no functions."""

    install_dir: Path

    def tree(self, file: str) -> ast.Module | None:
        """The syntax of a file, such as `funasr/models/paraformer/decoder.py`."""
        try:
            return _parsed(self.install_dir / file)[0]
        except (OSError, SyntaxError, ValueError):
            return None

    def functions(self, file: str) -> dict[str, Definition]:
        """The functions of a file by name, methods with their class."""
        try:
            return _parsed(self.install_dir / file)[1]
        except (OSError, SyntaxError, ValueError):
            return {}

    def function(self, file: str, name: str) -> Definition | None:
        """One function."""
        return self.functions(file).get(name)

    def line(self, file: str, number: int) -> str:
        """The text of one line."""
        try:
            lines = _parsed(self.install_dir / file)[2]
        except (OSError, SyntaxError, ValueError):
            return ""
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    def has(self, file: str) -> bool:
        """Whether the release has this file."""
        return (self.install_dir / file).is_file()

    def call_at(self, file: str, line: int, column: int | None) -> ast.Call | None:
        """The call whose expression begins at this place; the outermost of several."""
        tree = self.tree(file)
        if tree is None:
            return None
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.lineno == line]
        return next((node for node in calls if column is None or node.col_offset == column), None)


def statements(function: Definition) -> tuple[SourceLine, ...]:
    """A function as lines that can be compared: its parameters one by one, then its statements."""
    return (*_parameters(function), *_body(function.body, 0, docstring=True))


def module_statements(tree: ast.Module) -> tuple[SourceLine, ...]:
    """What stands in a file outside of its functions: its own statements, and those of its classes."""
    return tuple(_outside(tree.body, 0))


def _outside(body: list[ast.stmt], depth: int) -> Iterator[SourceLine]:
    for node in body:
        if isinstance(node, Definition) or _says_nothing(node):
            continue
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, [*node.bases, *(word.value for word in node.keywords)]))
            yield SourceLine(number=node.lineno, depth=depth, text=f"class {node.name}({bases}):")
            yield from _outside(node.body, depth + 1)
        else:
            yield from _statement(node, depth)


def _parameters(function: Definition) -> Iterator[SourceLine]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for argument, default in zip(positional, defaults, strict=True):
        yield _parameter(argument, default, "")
    if arguments.vararg:
        yield _parameter(arguments.vararg, None, "*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default, "")
    if arguments.kwarg:
        yield _parameter(arguments.kwarg, None, "**")


def _parameter(argument: ast.arg, default: ast.expr | None, stars: str) -> SourceLine:
    # Annotations are left out: nothing reads them at run time.
    value = f"={ast.unparse(default)}" if default is not None else ""
    return SourceLine(number=argument.lineno, depth=0, text=f"{stars}{argument.arg}{value}")


def _body(body: list[ast.stmt], depth: int, *, docstring: bool = False) -> Iterator[SourceLine]:
    for place, node in enumerate(body):
        if _says_nothing(node) and not (place == 0 and not docstring and isinstance(node, ast.Pass)):
            continue
        yield from _statement(node, depth)


def _says_nothing(node: ast.stmt) -> bool:
    """A docstring, or any other text or constant that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _statement(node: ast.stmt, depth: int) -> Iterator[SourceLine]:
    head = _head(node)
    if head is None:
        yield SourceLine(number=node.lineno, depth=depth, text=ast.unparse(node))
        return
    yield SourceLine(number=node.lineno, depth=depth, text=head)
    for name in ("body", "handlers", "orelse", "finalbody"):
        inner = getattr(node, name, None)
        if not inner:
            continue
        if name in ("orelse", "finalbody"):
            word = "else:" if name == "orelse" else "finally:"
            yield SourceLine(number=inner[0].lineno, depth=depth, text=word)
        if name == "handlers":
            for handler in inner:
                kind = f" {ast.unparse(handler.type)}" if handler.type else ""
                yield SourceLine(number=handler.lineno, depth=depth, text=f"except{kind}:")
                yield from _body(handler.body, depth + 1)
        else:
            yield from _body(inner, depth + 1)


def _head(node: ast.stmt) -> str | None:
    """The first line of a statement that holds others; None for one that does not."""
    match node:
        case ast.If(test=test):
            return f"if {ast.unparse(test)}:"
        case ast.While(test=test):
            return f"while {ast.unparse(test)}:"
        case ast.For(target=target, iter=over) | ast.AsyncFor(target=target, iter=over):
            return f"for {ast.unparse(target)} in {ast.unparse(over)}:"
        case ast.With(items=items) | ast.AsyncWith(items=items):
            return f"with {', '.join(map(ast.unparse, items))}:"
        case ast.Try():
            return "try:"
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return f"def {name}:"
    return None
