"""Making foreign text fit to be shown: what a release says is shown, never obeyed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_KEPT_IN_ANCHORS = re.compile(r"[A-Za-z0-9._-]")
_UPSTREAM = re.compile(r"([\w.-]+/[\w.-]+)#([1-9][0-9]*)", re.ASCII)
_COLOUR_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OF_A_PROGRESS_BAR = re.compile(r"(\r|\x1b\[(?:[0-9;]*m|[0-2]?K))")
"""Back to the beginning of the line, a colour, and the end of the line cleared: they move nothing outside of it."""
_BEGUN_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;]{0,32})?\Z")
_SHOWN_AS_ESCAPE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
LONGEST_SHOWN = 20_000
"""Characters of one value in a page or a document; an exception's message may be a megabyte."""
_READ_FOR_A_LINE = 64
"""Times its length that a text is read for one line: somebody's log may have a hundred megabytes in one."""
_KEPT = frozenset("\n\t")
_FULL_STOPS = ".!?…。"


def anchor(cell_id: str) -> str:
    """The fragment that leads to a cell's evidence, legal as an HTML id and in a URL without percent signs.

    Two cells never share an anchor: a slash becomes `~`, any other foreign character its code point as `!40!`.
    """
    return "".join(_safe(character) for character in cell_id)


def _safe(character: str) -> str:
    if character == "/":
        return "~"
    return character if _KEPT_IN_ANCHORS.fullmatch(character) else f"!{ord(character):x}!"


def plain(text: str) -> str:
    """`text` with whatever could act rather than be read made visible.

    Terminal colours go, line ends become `\\n`, and control, bidirectional, zero-width and unassigned
    characters (which XML forbids or a browser obeys) become `\\u202e` and the like.
    What is plain already stays as it is.
    """
    text = _COLOUR_CODES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _replaced(text, _visible)


def passed_on(text: str) -> str:
    """The output of somebody's command as a terminal may get it: like `plain`, with colours and progress bars kept.

    Whoever reads it in parts holds an unfinished sequence back: see `unfinished`.
    """
    parts = _OF_A_PROGRESS_BAR.split(text)
    return "".join(part if odd % 2 else _replaced(part, _visible) for odd, part in enumerate(parts))


def unfinished(text: str) -> str:
    """The beginning of a terminal sequence with which a text ends, if it ends within one."""
    match = _BEGUN_SEQUENCE.search(text)
    return match[0] if match else ""


def plain_json(text: str) -> str:
    """JSON text that means the same, with what `plain` makes visible written as JSON's own `\\u202e`."""
    return _replaced(text, _json_escape)


def _replaced(text: str, shown: Callable[[str], str]) -> str:
    """`text` with the characters that could act as `shown` spells them."""
    if text.isprintable():
        return text
    acting = {
        ord(character): shown(character)
        for character in set(text) - _KEPT
        if unicodedata.category(character) in _SHOWN_AS_ESCAPE
    }
    return text.translate(acting) if acting else text


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def shortened(text: str, at_most: int = LONGEST_SHOWN) -> str:
    """`plain` of a text of any number of lines, cut after so many characters, with how many more there are."""
    if len(text) <= at_most:
        return plain(text)
    return f"{plain(text[:at_most])}… ({len(text) - at_most:,} more characters)"


def one_line(text: str, *, at_most: int = 400) -> str:
    """`plain` on a single line, cut with an ellipsis after `at_most` characters."""
    beginning = text[: _READ_FOR_A_LINE * at_most]
    line = " ".join(plain(beginning).split())
    if len(line) <= at_most and len(beginning) == len(text):
        return line
    return line[: at_most - 1].rstrip() + "…"


def upstream_url(name: str) -> str:
    """The address of a report such as `modelscope/FunASR#1478`; empty for anything else."""
    match = _UPSTREAM.fullmatch(name)
    return f"https://github.com/{match[1]}/issues/{match[2]}" if match else ""


def sentence(text: str) -> str:
    """`text` with a full stop, if it ends without one."""
    return text if not text or text[-1] in _FULL_STOPS else text + "."


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
