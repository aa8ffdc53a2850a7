"""Hostile text planted into every field of a record, found by its type, and a reader of what comes out of the harness.

A field that is added to a record is planted without anything being changed here.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
import unicodedata
from pathlib import Path
from typing import Any, TypeVar

from harness.core.evidence.common import Finding

Record = TypeVar("Record")

_WANTED: dict[type, dict[str, Any]] = {Finding: {"code": "planted-code"}}
"""Fields that their class refuses unless they have a certain form."""

MARK = "planted"
"""Stands in every hostile text, so that a test sees that it has arrived."""
HOSTILE = (
    f"{MARK}\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x1b[31m\x00\x08\x7f\x9b2J\x9d0;owned\x9c\u202e\u2066\u200b\ufeff\udc9b"
    "[bold red][/x]<script>document.title='owned'</script><img src=x onerror=alert(1)>&#27;[2J"
    "[text](javascript:alert(1)) `code` | pipe | @everyone ]]> \"'"
)
"""Title and screen of a terminal, its C1 forms, the direction of text, what UTF-8 cannot spell, and markup."""
LONG = f"{MARK} " + "\u202e\x1b" + "x" * 2_000
"""The same in a very long line."""

NAME = HOSTILE.replace("\x00", "").replace("/", "").replace("\udc9b", "")[:120]
"""The same as far as a file's name can have it."""

_ACTING = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))


def raw(text: str) -> list[str]:
    """The characters in a text that a terminal, an editor or a browser would obey; with their names, each once."""
    found = {character for character in set(text) if unicodedata.category(character) in _ACTING}
    return sorted(f"U+{ord(character):04X}" for character in found - {"\n", "\t"})


def planted(kind: type[Record], text: str = HOSTILE, **fields: Any) -> Record:
    """A record of a class with the text wherever one may stand; other values are the first that their type has.

    Args:
        fields: Values of single fields, for a class that wants certain ones.
    """
    hints = typing.get_type_hints(kind)
    fields = _WANTED.get(kind, {}) | fields
    values = {
        field.name: fields[field.name] if field.name in fields else value_of(hints[field.name], text, field.name)
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.init
    }
    return kind(**values)


def value_of(kind: Any, text: str = HOSTILE, name: str = "") -> Any:
    """A value of a type, with the text in it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return {text: [text, {text: text}]}
    if isinstance(kind, typing.NewType):
        return value_of(kind.__supertype__, text, name)
    if origin in (typing.Union, types.UnionType):
        # The richest: a record before a text, a text before a number, and None last.
        return value_of(min((one for one in arguments if one is not type(None)), key=_poverty), text, name)
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        members = arguments[:1] if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(value_of(one, text, name) for one in members)
    if origin in (list, set, frozenset):
        return origin([value_of(arguments[0], text, name)])
    if origin is collections.abc.Sequence:
        return (value_of(arguments[0], text, name),)
    if origin in (dict, collections.abc.Mapping):
        return {value_of(arguments[0], text, name): value_of(arguments[1], text, name)}
    return _plain_value(kind, text, name)


def _plain_value(kind: Any, text: str, name: str) -> Any:
    if kind is str:
        return text
    if kind in (int, float):
        return kind(1)
    if kind is bool:
        return True
    if kind is Path:
        return Path("/", NAME)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if dataclasses.is_dataclass(kind):
        return planted(kind, text)  # type: ignore[type-var]
    raise TypeError(f"no hostile value for {name}: {kind!r}")


def _poverty(kind: Any) -> float:
    if dataclasses.is_dataclass(kind):
        return 0
    if typing.get_origin(kind) is typing.Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        # Such as the word for a key that is absent.
        return 9
    order: list[Any] = [str, float, int, bool]
    return order.index(kind) + 2 if kind in order else 1
