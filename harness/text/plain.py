"""Making foreign text fit to be shown: what a release says is shown, never obeyed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_KEPT_IN_ANCHORS = re.compile(r"[A-Za-z0-9._-]")
_UPSTREAM = re.compile(r"([\w.-]+/[\w.-]+)#([1-9][0-9]*)", re.ASCII)
_COLOUR_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SHOWN_AS_ESCAPE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_KEPT_CONTROLS = frozenset("\n\t")
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
    """
    text = _COLOUR_CODES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    if text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _KEPT_CONTROLS or unicodedata.category(character) not in _SHOWN_AS_ESCAPE:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str, *, at_most: int = 400) -> str:
    """`plain` on a single line, cut with an ellipsis after `at_most` characters."""
    line = " ".join(plain(text).split())
    return line if len(line) <= at_most else line[: at_most - 1].rstrip() + "…"


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
