"""JSON, YAML and TOML from outside, read within limits: what does not fit is an error with its place, in a second.

A small file can hold a number of a million digits, ten thousand brackets, or aliases for a billion values. The parsers'
own exceptions for such are of many kinds, and some take a minute. Here each is an `UnreadableDocumentError`.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NoReturn

LARGEST_JSON = 64 << 20
LARGEST_TOML = 2 << 20
LARGEST_YAML = 2 << 20
"""Bytes; of those that the harness ships or writes the largest have a tenth."""
DEEPEST = 64
MOST_VALUES = 2_000_000
MOST_YAML_EVENTS = 100_000
"""Beginnings, ends and scalars; a model's config has a thousand, with a list of tokens in it twenty thousand."""
MOST_ALIASES = 1000
MOST_KEY_PARTS = 32
"""Of a dotted key of TOML."""
_LARGEST_NUMBER = 2**64
_LONGEST_SAID = 300

_LONG_KEY = re.compile(r"""(?<![\w.-])(?:(?:"[^"\n]*+"|'[^'\n]*+'|[A-Za-z0-9_-]++)[ \t]*+\.[ \t]*+){32}""")
"""For which tomllib takes a time that grows with the square of the parts."""


class UnreadableDocumentError(ValueError):
    """What is wrong with a document, in a few words, with the line or the key where that is known."""

    line: int | None = None
    """Counted from 1, where the parser says it."""


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file: a pipe would be waited for, and a device never ends.

    Raises:
        OSError: it cannot be read.
        UnreadableDocumentError: it is no regular file, or has more than `most` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise UnreadableDocumentError(f"no path: {error}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableDocumentError("no regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise UnreadableDocumentError(f"larger than {most >> 20} MiB")
    return content


def parse_json(text: bytes | str) -> Any:
    """Strict JSON.

    Raises:
        UnreadableDocumentError: it is none, or is nested too deep, or has a number that no figure of ours can be.
    """
    try:
        document = json.loads(text, parse_constant=_not_strict)
    except RecursionError:
        raise UnreadableDocumentError(f"nested deeper than {DEEPEST} levels") from None
    except (ValueError, MemoryError) as error:
        raise UnreadableDocumentError(_short(error)) from None
    return bounded(document)


def parse_toml(text: str) -> dict[str, Any]:
    """TOML.

    Raises:
        UnreadableDocumentError: it is none (with line and column), or goes beyond a limit.
    """
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise UnreadableDocumentError(f"a key of more than {MOST_KEY_PARTS} parts (at line {line})")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise UnreadableDocumentError(f"nested deeper than {DEEPEST} levels") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise UnreadableDocumentError(_short(error)) from None
    bounded(document, finite=False)
    return document


def parse_yaml(text: bytes | str) -> Any:
    """YAML without tags of any library's.

    Raises:
        UnreadableDocumentError: it is none (with line and column), or goes beyond a limit.
    """
    import yaml

    check_yaml(text)
    try:
        document = yaml.load(text, Loader=_yaml_loader())  # noqa: S506 - a safe loader
    except Exception as error:  # whatever a library raises on a user's file is the file's
        raise UnreadableDocumentError(yaml_problem(error)) from None
    return bounded(document, finite=False, plain=True)


def check_yaml(text: bytes | str) -> None:
    """Look at the events of a YAML document before anything is made of it.

    Raises:
        UnreadableDocumentError: it is none, is too long, nested too deep, or has more aliases than anybody writes.
    """
    import yaml

    if len(text) > LARGEST_YAML:
        raise UnreadableDocumentError(f"larger than {LARGEST_YAML >> 20} MiB")
    depth = aliases = 0
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for number, event in enumerate(yaml.parse(text, Loader=loader)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.AliasEvent):
                aliases += 1
            if depth > DEEPEST or aliases > MOST_ALIASES or number > MOST_YAML_EVENTS:
                break
        else:
            return
    except Exception as error:  # as above
        problem = UnreadableDocumentError(yaml_problem(error))
        mark = getattr(error, "problem_mark", None)
        problem.line = mark.line + 1 if mark else None
        raise problem from None
    excess = "is nested deeper" if depth > DEEPEST else "has more aliases or values"
    where = f" (at line {event.start_mark.line + 1})" if event.start_mark else ""
    raise UnreadableDocumentError(f"it {excess} than any config{where}")


def yaml_problem(error: Exception) -> str:
    """What is wrong with a YAML document, with line and column."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if isinstance(error, RecursionError):
        return f"nested deeper than {DEEPEST} levels, or within itself"
    where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{_short(problem or error)}{where}"


def bounded(value: Any, *, finite: bool = True, plain: bool = False) -> Any:
    """The value, if everything can take it.

    Args:
        finite: Whether numbers must be finite, as strict JSON has them.
        plain: Whether there may be no dates, sets and bytes, which YAML has.

    Raises:
        UnreadableDocumentError: it is nested too deep or within itself, has too many values, or a number that has no
            place in 64 bits; with the key.
    """
    level, count = [value], 0
    for _ in range(DEEPEST):
        if not level:
            return value
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int | float) and not _fits(item, finite):
                kind = "finite, or none of 64 bits" if finite else "of 64 bits"
                raise UnreadableDocumentError(f"{_place(value, item)}a number that is not {kind}")
            elif plain and not isinstance(item, str | int | float | None):
                raise UnreadableDocumentError(f"{_place(value, item)}a value of the type {type(item).__name__}")
        count += len(below)
        if count > MOST_VALUES:
            raise UnreadableDocumentError(f"more than {MOST_VALUES:,} values")
        level = below
    raise UnreadableDocumentError(f"nested deeper than {DEEPEST} levels, or within itself")


def _fits(number: float, finite: bool) -> bool:
    if isinstance(number, float) and not math.isfinite(number):
        return not finite
    return isinstance(number, float) or -_LARGEST_NUMBER < number < _LARGEST_NUMBER


def _place(tree: Any, target: object) -> str:
    """The dotted key of a value, with a colon."""
    return next((f"{'.'.join(path)}: " for path, value in _walk(tree, ()) if value is target and path), "")


def _walk(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, tree
    if len(path) < DEEPEST and isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, child in pairs:
            yield from _walk(child, (*path, str(key)[:40]))


@cache
def _yaml_loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        """A date is a text, as in FunASR's configs. Of merged mappings (`<<`) each doubling doubles the next."""

        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in base.yaml_implicit_resolvers.items()
        }

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MOST_YAML_EVENTS:
                raise yaml.constructor.ConstructorError(None, None, "too many merged keys", node.start_mark)

    return Loader


def _not_strict(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not strict JSON")


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_SAID else text[: _LONGEST_SAID - 1] + "…"
