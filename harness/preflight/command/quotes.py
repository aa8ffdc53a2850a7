"""Which quote of a script is not closed: bash names the end of the file, and the user looks for the beginning."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NEW_STATEMENT = re.compile(r"^\s*(\+{1,2}\w|torchrun |python[\d.]* |export |echo |[A-Za-z_]\w*=)", re.MULTILINE)


def unclosed(text: str) -> int | None:
    """The line of the quote that lacks its end, counted from 1; None if all are closed.

    That is the first quoted text that goes on over what looks like further statements.
    """
    spans = list(_spans(text))
    if not spans or spans[-1][1] is not None:
        return None
    for start, end in spans:
        inner = text[start + 1 : end if end is not None else len(text)]
        if _NEW_STATEMENT.search(inner.partition("\n")[2]):
            return text.count("\n", 0, start) + 1
    return text.count("\n", 0, spans[-1][0]) + 1


def _spans(text: str) -> Iterator[tuple[int, int | None]]:
    """Where each quoted text starts and ends; an end of None is missing."""
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 2
        elif sign == "#" and (at == 0 or text[at - 1].isspace()):
            at = text.find("\n", at)
            if at < 0:
                return
        elif sign in "'\"":
            end = _end(text, at)
            yield at, end
            if end is None:
                return
            at = end + 1
        else:
            at += 1


def _end(text: str, start: int) -> int | None:
    at = start + 1
    while at < len(text):
        if text[at] == "\\" and text[start] == '"':
            at += 2
            continue
        if text[at] == text[start]:
            return at
        at += 1
    return None
