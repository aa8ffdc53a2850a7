"""Foreign text in Markdown: as text, as code, and as a block of code, so that it can break neither table nor page."""

from __future__ import annotations

import re

from harness.text.plain import one_line, plain

_SPECIAL = re.compile(r"[&<>|`\\*\[\]~#!$@]|_(?![A-Za-z0-9])|(?<![A-Za-z0-9])_|://|(?<=www)\.", re.IGNORECASE)
"""What Markdown, HTML in it, or a code host's own signs (mentions, formulas, addresses) could read as their own."""


def md(text: str, *, at_most: int = 400) -> str:
    """One line of plain text.

    Entities, not backslashes: they mean the character itself everywhere, within tables and `<code>` too.
    """
    return _SPECIAL.sub(_entities, one_line(text, at_most=at_most))


def code(text: str, *, at_most: int = 400) -> str:
    """The same in the look of code; backticks would need another rule for each of pipe, backtick and backslash."""
    return f"<code>{md(text, at_most=at_most)}</code>" if text.strip() else ""


def block(text: str) -> str:
    """A block of code of several lines, within a fence that is longer than any in it."""
    content = plain(text).rstrip("\n")
    longest = max((len(found) for found in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{content}\n{fence}"


def _entities(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in match[0])
