"""The table of messages (`messages.toml`): what an exception's type, text and place say of its cause."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.explain.explanation import Owner
from harness.explain.tracebacks import LoggedError

FILE = Path(__file__).with_name("messages.toml")
_OWNERS = {"machine": Owner.MACHINE, "yours": Owner.YOURS, "release": Owner.FUNASR, "unknown": Owner.UNKNOWN}
_KEYS = frozenset(
    [
        "id",
        "whose",
        "type",
        "says",
        "place",
        "through",
        "issue",
        "title",
        "cause",
        "remedy",
        "preflight",
        "follows",
        "bare",
    ],
)
_LONGEST_VALUE = 160


@dataclass(frozen=True, kw_only=True)
class MessageRule:
    """One entry of the table; the file's head says what the keys mean."""

    id: str
    owner: Owner
    type: re.Pattern[str] | None
    says: re.Pattern[str] | None
    place: re.Pattern[str] | None
    through: re.Pattern[str] | None
    issues: tuple[str, ...]
    title: str
    cause: str
    remedy: str
    preflight: bool
    follows: bool
    bare: bool

    def match(self, error: LoggedError) -> dict[str, str] | None:
        """The values of the message's named parts if this rule fits an error; None if not."""
        if (self.place or self.through) and not error.frames and not self.bare:
            return None
        if self.place and error.frames and not self._is_at(error):
            return None
        if self.through and error.frames and not self._went_through(error):
            return None
        return self.match_text(error)

    def match_text(self, error: LoggedError) -> dict[str, str] | None:
        """The same by type and message alone, wherever it was raised."""
        # A pasted message may lack its class.
        if self.type and not self.type.fullmatch(error.type) and (error.type or not self.bare):
            return None
        match = self.says.search(error.text) if self.says else None
        if (self.says and match is None) or not (error.type or self.says):
            return None
        return {name: (value or "")[:_LONGEST_VALUE] for name, value in match.groupdict().items()} if match else {}

    def _is_at(self, error: LoggedError) -> bool:
        inner = [error.own, error.frames[-1]]
        return any(self.place and self.place.fullmatch(f"{frame.file}:{frame.function}") for frame in inner if frame)

    def _went_through(self, error: LoggedError) -> bool:
        return any(self.through and self.through.fullmatch(f"{frame.file}:{frame.function}") for frame in error.frames)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text of the table with the message's values; what the message does not have is left out."""
    return string.Formatter().vformat(text, (), _Empty(values)) if "{" in text else text


class _Empty(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


@cache
def message_rules(path: Path = FILE) -> tuple[MessageRule, ...]:
    """The table, in its order."""
    document = tomllib.loads(path.read_text("utf-8"))
    assert document["schema"] == 1
    return tuple(map(_read, document["message"]))


def _read(entry: Mapping[str, Any]) -> MessageRule:
    unknown = set(entry) - _KEYS
    assert not unknown, f"{entry.get('id')}: {unknown}"
    patterns = {
        key: re.compile(entry[key], re.DOTALL if key == "says" else 0) if key in entry else None
        for key in ("type", "says", "place", "through")
    }
    return MessageRule(
        id=entry["id"],
        owner=_OWNERS[entry["whose"]],
        type=patterns["type"],
        says=patterns["says"],
        place=patterns["place"],
        through=patterns["through"],
        issues=tuple(entry.get("issue", ())),
        title=entry.get("title", ""),
        cause=entry.get("cause", ""),
        remedy=entry.get("remedy", ""),
        preflight=entry.get("preflight", False),
        follows=entry.get("follows", False),
        bare=entry.get("bare", False),
    )
