"""Words of a shell command: pieces of text with their lines, and how bash splits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

LONGEST = 100_000
"""Characters of one word; `a=$a$a` doubles a text with each line."""
MOST_WORDS = 5_000
MOST_BRACES = 30
"""Braces and commas of one word; `{a,b}{a,b}…` doubles the words with each pair."""


class Kind(StrEnum):
    """How bash treats a piece's characters."""

    LITERAL = "literal"
    """Written in the script without quotes: braces and a tilde count."""
    QUOTED = "quoted"
    """Kept as they are."""
    EXPANDED = "expanded"
    """Out of an unquoted variable: split at blanks."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text of one kind, or a part of a word that only a run of the script knows."""

    text: str
    line: int
    kind: Kind = Kind.LITERAL
    unknown: str = ""
    """Why the text is not known; then `text` is the shell's expression, such as `$1`."""
    unset: str = ""
    """The variable that is not set, whose place this empty piece takes."""
    ends_word: bool = False
    """Between the elements of an array."""


Value = tuple[Piece, ...]
"""Of a variable."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word as a command receives it."""

    text: str
    """Where a part is unknown, with the shell's expression in its place."""
    line: int
    unknown: tuple[str, ...] = ()
    """Why parts of it are not known."""
    unset: tuple[str, ...] = ()
    """Variables in it that are not set."""
    quoted: bool = False
    """Whether a part of it was quoted in the script."""

    @property
    def known(self) -> bool:
        return not self.unknown


def word_of(pieces: Sequence[Piece], line: int) -> Word:
    """The pieces as one word."""
    return Word(
        text="".join(piece.text for piece in pieces)[:LONGEST],
        line=next((piece.line for piece in pieces if piece.text), line),
        unknown=tuple(dict.fromkeys(piece.unknown for piece in pieces if piece.unknown)),
        unset=tuple(dict.fromkeys(piece.unset for piece in pieces if piece.unset)),
        quoted=any(piece.kind is Kind.QUOTED for piece in pieces),
    )


def together(first: Word, second: Word) -> Word:
    """Two words that bash reads as one."""
    return Word(
        text=first.text + second.text,
        line=first.line,
        unknown=(*first.unknown, *second.unknown),
        unset=(*first.unset, *second.unset),
        quoted=first.quoted or second.quoted,
    )


def text_of(value: Iterable[Piece]) -> str | None:
    """The text of a variable; None where a part of it is not known."""
    pieces = tuple(value)
    if any(piece.unknown for piece in pieces):
        return None
    return "".join(piece.text if not piece.ends_word else " " for piece in pieces)


def of_kind(value: Value, kind: Kind) -> Value:
    """The value as written in a word: quoted, or to be split."""
    return tuple(replace(piece, kind=kind) for piece in value)


def joined(value: Value) -> Value:
    """The same with neighbours of one line made one piece."""
    pieces: list[Piece] = []
    for piece in value:
        last = pieces[-1] if pieces else None
        plain = not (piece.unknown or piece.unset or piece.ends_word)
        if last and plain and not (last.unknown or last.unset or last.ends_word) and last.line == piece.line:
            pieces[-1] = replace(last, text=last.text + piece.text)
        else:
            pieces.append(piece)
    return tuple(pieces)


def size(value: Iterable[Piece]) -> int:
    """Its characters."""
    return sum(len(piece.text) for piece in value)


def split(pieces: Sequence[Piece], line: int) -> list[Word]:
    """The words that bash makes of one written word: none of an empty variable, several of one with blanks."""
    words: list[list[Piece]] = [[]]
    for piece in pieces:
        if piece.ends_word:
            words.append([])
        elif piece.kind is Kind.EXPANDED and not piece.unknown:
            for number, part in enumerate(_parts(piece)):
                if number:
                    words.append([])
                if part.text:
                    words[-1].append(part)
            if not piece.text:
                words[-1].append(piece)
        else:
            words[-1].append(piece)
    split_words: list[Word] = []
    lost: list[str] = []
    for word_pieces in words:
        if any(_stays(piece) for piece in word_pieces):
            word = word_of(word_pieces, line)
            split_words.append(replace(word, unset=(*lost, *word.unset)) if lost else word)
            lost = []
        else:
            lost += [piece.unset for piece in word_pieces if piece.unset]
    if lost:
        # A word of nothing but an empty variable vanishes; which variable that was is still of interest.
        split_words.append(Word(text="", line=line, unset=tuple(lost)))
    return split_words[:MOST_WORDS]


def _stays(piece: Piece) -> bool:
    return bool(piece.text) or piece.kind is Kind.QUOTED


def _parts(piece: Piece) -> Iterator[Piece]:
    """The text between blanks, each with its own line; an empty one at an edge that is blank."""
    line, start = piece.line, 0
    text = piece.text
    while start <= len(text):
        end = start
        while end < len(text) and text[end] not in " \t\n":
            end += 1
        yield replace(piece, text=text[start:end], line=line)
        if end >= len(text):
            return
        start = end
        while start < len(text) and text[start] in " \t\n":
            line += text[start] == "\n"
            start += 1
        if start == len(text):
            yield replace(piece, text="", line=line)
            return


def braces(pieces: Sequence[Piece]) -> list[tuple[Piece, ...]]:
    """The alternatives of the first unquoted `{a,b}`, recursively; the word itself where there is none."""
    marks = [
        (number, place, char)
        for number, piece in enumerate(pieces)
        if piece.kind is Kind.LITERAL and not piece.unknown
        for place, char in enumerate(piece.text)
        if char in "{,}"
    ]
    if len(marks) > MOST_BRACES:
        return [tuple(pieces)]
    for first, (_, _, char) in enumerate(marks):
        if char != "{":
            continue
        depth, commas = 0, []
        for mark in marks[first:]:
            depth += (mark[2] == "{") - (mark[2] == "}")
            if mark[2] == "," and depth == 1:
                commas.append(mark)
            if depth == 0:
                if not commas:
                    break
                edges = [marks[first], *commas, mark]
                before, after = _cut(pieces, None, edges[0]), _cut(pieces, edges[-1], None)
                inner = [_cut(pieces, start, end) for start, end in pairwise(edges)]
                return [way for alternative in inner[:50] for way in braces((*before, *alternative, *after))][
                    :MOST_WORDS
                ]
    return [tuple(pieces)]


def _cut(
    pieces: Sequence[Piece], start: tuple[int, int, str] | None, end: tuple[int, int, str] | None
) -> tuple[Piece, ...]:
    """The pieces strictly between two marks."""
    between = []
    for number, piece in enumerate(pieces):
        if (start and number < start[0]) or (end and number > end[0]):
            continue
        first = start[1] + 1 if start and number == start[0] else 0
        last = end[1] if end and number == end[0] else len(piece.text)
        if piece.text[first:last] or not piece.text:
            between.append(replace(piece, text=piece.text[first:last]))
    return tuple(between)
