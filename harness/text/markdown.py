"""Foreign text in Markdown: as text, as code, as a block of code, and in templates that escape all that they print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.text.plain import one_line, plain, shortened

if TYPE_CHECKING:
    from jinja2 import Environment

_SPECIAL = re.compile(r"[&<>|`\\*\[\]~#!$@]|_(?![A-Za-z0-9])|(?<![A-Za-z0-9])_|://|(?<=www)\.", re.IGNORECASE)
"""What Markdown, HTML in it, or a code host's own signs (mentions, formulas, addresses) could read as their own."""

_FENCE = re.compile(r"`{3,}")


def md(text: str, *, at_most: int = 400) -> str:
    """One line of plain text.

    Entities, not backslashes: they mean the character itself everywhere, within tables and `<code>` too.
    """
    return _SPECIAL.sub(_entities, one_line(text, at_most=at_most))


def code(text: str, *, at_most: int = 400) -> str:
    """The same in the look of code; backticks would need another rule for each of pipe, backtick and backslash."""
    return f"<code>{md(text, at_most=at_most)}</code>" if text.strip() else ""


def block(text: str, language: str = "text") -> str:
    """A block of code of several lines, within a fence that is longer than any in it."""
    content = shortened(text).rstrip("\n")
    longest = max((len(fence) for fence in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with aligned columns, of cells that are Markdown already."""
    # Imported here: the command line answers `--help` without it.
    from tabulate import tabulate

    return tabulate([list(row) for row in rows], headers=list(head), tablefmt="pipe", disable_numparse=True)


def markdown_environment(folder: Path) -> Environment:
    """Jinja2 for the Markdown templates of a folder; whatever a template prints is escaped by `md`.

    Filters: `text(n)` is `md` of at most n characters, `code` and `block` as above; a filter block `table` aligns
    rows of cells that are separated by ` | `, the first row being the head.
    """
    # Imported here: the command line answers `--help` without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printed,
    )
    environment.filters.update(text=_text, code=_code, block=_block, table=_aligned)
    return environment


def render_template(environment: Environment, name: str, /, **values: object) -> str:
    """A whole file from a template, with single blank lines between its parts and nothing in it that could act."""
    lines = plain(environment.get_template(name).render(**values)).split("\n")
    return "\n".join(_tidy(lines)).strip("\n") + "\n"


def _entities(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in match[0])


def _printed(value: object) -> Markup:
    """What a template prints for a value: our own Markdown as it is, anything else as text."""
    return value if isinstance(value, Markup) else _text(value)


def _text(value: object, at_most: int = 400) -> Markup:
    return Markup(md(str(value), at_most=at_most))  # noqa: S704 - escaped for Markdown


def _code(value: object, at_most: int = 400) -> Markup:
    return Markup(code(str(value), at_most=at_most))  # noqa: S704 - escaped for Markdown


def _block(value: object, language: str = "text") -> Markup:
    return Markup(block(str(value), language))  # noqa: S704 - within a fence that it cannot close


def _aligned(rows: str) -> Markup:
    head, *body = ([cell.strip() for cell in line.split("|")] for line in str(rows).splitlines() if line.strip())
    return Markup(table(head, body) + "\n")  # noqa: S704 - of cells that the template escaped


def _tidy(lines: Iterable[str]) -> Iterator[str]:
    """The lines without a second blank one in a row, but for those within a block of code."""
    fence, blank = "", True
    for line in lines:
        fence_line = _FENCE.match(line)
        if fence:
            fence = "" if line == fence else fence
        elif fence_line:
            fence = fence_line[0]
        elif not line.strip():
            if not blank:
                yield ""
            blank = True
            continue
        blank = False
        yield line
