"""Reading TOML tables so that all problems of a file are reported together.

A reader returns None for a value that is missing or wrong, having noted the problem with its place;
the caller continues, and `Problems.stop_if_any` raises them together at the end.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.documents import LARGEST_TOML, UnreadableDocumentError, parse_toml, read_bytes
from harness.core.errors import MatrixError

_LONGEST_SEEN = 200
_LONGEST_WORD = 100
"""Characters that are compared with legal words; finding near words takes the square of the length."""


def did_you_mean(word: str, legal: Iterable[str]) -> str:
    """A half-sentence that suggests the nearest legal word, or lists them all when none is near."""
    words = list(legal)
    near = difflib.get_close_matches(word[:_LONGEST_WORD], words, n=1, cutoff=0.7)
    return f'did you mean "{near[0]}"?' if near else f"legal here: {', '.join(words) or 'nothing'}"


@dataclass(frozen=True, kw_only=True)
class Problems:
    """What is wrong with one file, in the order in which it was found."""

    source: str
    """The file's name as the user wrote it."""
    found: list[str] = field(default_factory=list)
    _known: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def add(self, place: str, text: str) -> None:
        """Note one problem; the same one is noted once."""
        line = f"{place}: {text}"
        if line not in self._known:
            self._known.add(line)
            self.found.append(line)

    def stop_if_any(self) -> None:
        """Raise all that was found.

        Raises:
            MatrixError: there was a problem.
        """
        if self.found:
            raise MatrixError(self.source, self.found)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A TOML file that could be read."""

    tables: Mapping[str, Any]
    sha256: str
    """Of the file's bytes."""


def read_document(path: Path) -> Document:
    """Read a TOML file.

    Raises:
        MatrixError: there is no such file, it cannot be read, or it is not TOML (with line and column).
    """
    try:
        raw = read_bytes(path, LARGEST_TOML)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise MatrixError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except UnreadableDocumentError as error:
        raise MatrixError(str(path), [str(error)]) from None
    try:
        tables = parse_toml(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise MatrixError(str(path), [f"not UTF-8 (at line {line})"]) from None
    except UnreadableDocumentError as error:
        raise MatrixError(str(path), [f"not TOML: {error}"]) from None
    return Document(tables=tables, sha256=hashlib.sha256(raw).hexdigest())


def _missing(path: Path) -> MatrixError:
    return MatrixError(str(path), ["no such file"], next_step=_instead_of(path))


def _instead_of(path: Path) -> str:
    """What to do about a path that leads to no file: the name or the folder may be misspelt, or be another's."""
    folder = path.parent
    names_in_folder = sorted(other.stem for other in folder.glob("*.toml") if other.name != "pyproject.toml")
    near = difflib.get_close_matches(path.name.removesuffix(".toml"), names_in_folder, n=3, cutoff=0.6)
    in_sibling_folders = sorted(folder.parent.glob(f"*/{path.name}"))
    if near or in_sibling_folders:
        names = [folder / f"{stem}.toml" for stem in near] or in_sibling_folders[:3]
        return f"did you mean {' or '.join(map(str, names))}?"
    if not folder.is_dir():
        return f"there is no folder {folder}: run the command where the harness was cloned, or give another path"
    if names_in_folder:
        return f"there are {', '.join(str(folder / f'{stem}.toml') for stem in names_in_folder)}"
    return "give the path of a file that exists"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of a document, with the place that its problems are reported with."""

    values: Mapping[str, Any]
    place: str
    problems: Problems

    def has(self, key: str) -> bool:
        """Whether the file says anything about `key`."""
        return key in self.values

    def at(self, key: str) -> str:
        """The place of a key: `[axes] variant`."""
        return f"{self.place} {key}".strip()

    def only(self, legal: Sequence[str]) -> None:
        """Note every key that is none of the legal ones."""
        for key in self.values:
            if key not in legal:
                self.problems.add(self.at(key), f"unknown key, {did_you_mean(key, legal)}")

    def text(self, key: str, *, default: str | None = None) -> str | None:
        """A string that is not blank; required when there is no default."""
        value = self.values.get(key, default)
        if value is None:
            self.problems.add(self.at(key), "missing")
            return None
        if not isinstance(value, str) or (not value.strip() and default is None):
            self.problems.add(self.at(key), f"expected a text, found {_as_written(value)}")
            return None
        return str(value)

    def integer(self, key: str, *, default: int, least: int) -> int | None:
        """A whole number that is not below `least`."""
        value = self.values.get(key, default)
        if not _is_integer(value) or not least <= value < 2**63:
            self.problems.add(self.at(key), f"expected a whole number of at least {least}, found {_as_written(value)}")
            return None
        return int(value)

    def positive(self, key: str, *, default: float) -> float | None:
        """A number above zero; neither infinity nor NaN, which TOML can spell."""
        value = self.values.get(key, default)
        if not (_is_integer(value) or isinstance(value, float)) or not 0 < value < float("inf"):
            self.problems.add(self.at(key), f"expected a number above 0, found {_as_written(value)}")
            return None
        return float(value)

    def texts(self, key: str, *, lone: bool = False, empty: bool = False) -> tuple[str, ...] | None:
        """A list of strings; with `lone`, one string is taken as a list of one."""
        value = self.values.get(key)
        if lone and isinstance(value, str):
            value = [value]
        return self._items(key, value, "strings", lambda item: isinstance(item, str) and item.strip() != "", empty)

    def sizes(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers above zero."""
        return self._items(
            key, self.values.get(key), "whole numbers above 0", lambda item: _is_integer(item) and item > 0, False
        )

    def _items(
        self, key: str, value: object, kind: str, legal: Callable[[Any], bool], empty: bool
    ) -> tuple[Any, ...] | None:
        if not isinstance(value, list):
            self.problems.add(self.at(key), f"expected a list of {kind}, found {_as_written(value)}")
            return None
        if not value and not empty:
            self.problems.add(self.at(key), f"the list is empty; expected {kind}")
            return None
        wrong = [item for item in value if not legal(item)]
        for item in wrong:
            self.problems.add(self.at(key), f"expected {kind}, found {_as_written(item)}")
        return None if wrong else tuple(dict.fromkeys(value))


def tables_of(document: Mapping[str, Any], key: str, problems: Problems) -> list[Table]:
    """The tables of an array of tables, each with the place `[[key]] #2`."""
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        problems.add(f"[[{key}]]", f"expected tables headed [[{key}]], found {_as_written(value)}")
        return []
    return [Table(values=item, place=f"[[{key}]] #{number}", problems=problems) for number, item in enumerate(value, 1)]


def table_of(document: Mapping[str, Any], key: str, problems: Problems) -> Table:
    """The table `[key]`; an empty one when the file has none."""
    value = document.get(key, {})
    if not isinstance(value, dict):
        problems.add(f"[{key}]", f"expected a table, found {_as_written(value)}")
        value = {}
    return Table(values=value, place=f"[{key}]", problems=problems)


def _is_integer(value: object) -> bool:
    # `true` is an int to Python and nowhere else.
    return isinstance(value, int) and not isinstance(value, bool)


def _as_written(value: object) -> str:
    """A value as the file spells it, near enough to be found again."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= _LONGEST_SEEN else f'"{value[:_LONGEST_SEEN]}…"'
    text = repr(value)
    return text if len(text) <= _LONGEST_SEEN else f"{text[:_LONGEST_SEEN]}…"
