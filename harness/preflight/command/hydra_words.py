"""The trainer's words as hydra reads them, by hydra's own parsers; nothing is composed and no plugin is loaded."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.preflight.command.words import Word

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser

LONGEST = 10_000
"""Characters of a word that is parsed."""
LONGEST_TOGETHER = 20_000
"""Characters of all words of a call that are parsed; hydra's parser reads a hundred thousand in a second at best."""
MOST_ELEMENTS = 1_000
"""Commas of a word that is parsed: for a list, hydra's parser takes a time that grows with their square."""
DEEPEST = 100
"""Brackets in a value: hydra's parser takes seconds for thousands."""
_BARE_PATH = re.compile(r"[A-Za-z0-9_/.+\-%@:]+")
"""What the shell and hydra both take as it is."""
_WITH_VALUE = {
    **dict.fromkeys(("--config-path", "-cp"), "config-path"),
    **dict.fromkeys(("--config-name", "-cn"), "config-name"),
    **dict.fromkeys(("--config-dir", "-cd"), "config-dir"),
    **dict.fromkeys(("--cfg", "-c"), "cfg"),
    **dict.fromkeys(("--package", "-p"), "package"),
    **dict.fromkeys(("--info", "-i"), "info"),
    "--experimental-rerun": "experimental-rerun",
}
_FLAGS = {
    **dict.fromkeys(("--multirun", "-m"), "multirun"),
    **dict.fromkeys(("--run", "-r"), "run"),
    **dict.fromkeys(("--help", "-h"), "help"),
    **dict.fromkeys(("--shell-completion", "-sc"), "shell-completion"),
    "--hydra-help": "hydra-help",
    "--version": "version",
    "--resolve": "resolve",
}


@dataclass(frozen=True, kw_only=True)
class Override:
    """One `key=value` word."""

    word: Word
    prefix: str
    """`++`, `+`, `~`, or empty."""
    key: str
    value: Any = None
    error: str = ""
    """Hydra's, where it cannot read the word."""
    sweep: bool = False
    """Whether hydra takes the value for a list of runs."""
    quoted: bool = False
    """Whether hydra itself received quotes round the value."""
    unknown: str = ""
    """Why the value is not known before the script runs."""

    @property
    def typed_value(self) -> str:
        """The text after the first `=`."""
        return self.word.text.partition("=")[2]


@dataclass(frozen=True, kw_only=True)
class HydraWords:
    """All words of a trainer's call."""

    overrides: tuple[Override, ...]
    options: dict[str, Word]
    """Hydra's own, such as `config-name`, by long name."""
    strays: tuple[Word, ...]
    """Words with a dash in front that are no option of hydra's."""
    refusal: str
    """What hydra's argument parser says; empty where it takes the words."""


def read(words: Sequence[Word]) -> HydraWords:
    """The words taken apart."""
    options: dict[str, Word] = {}
    plain, strays, remaining = [], [], list(words)
    while remaining:
        word = remaining.pop(0)
        name, equals, text = word.text.partition("=")
        if word.text == "--":
            plain += remaining
            break
        if not word.text.startswith("-"):
            plain.append(word)
        elif name in _FLAGS:
            options[_FLAGS[name]] = word
        elif name in _WITH_VALUE:
            value = Word(text=text, line=word.line, unknown=word.unknown, unset=word.unset)
            options[_WITH_VALUE[name]] = (
                value if equals else remaining.pop(0) if remaining else Word(text="", line=word.line)
            )
        else:
            strays.append(word)
    return HydraWords(
        overrides=tuple(_overrides(plain)),
        options=options,
        strays=tuple(strays),
        refusal=_refusal([word.text for word in words]),
    )


def _overrides(words: Sequence[Word]) -> Iterator[Override]:
    """The words, parsed as far as that takes no second."""
    left = LONGEST_TOGETHER
    for word in words:
        left -= len(word.text)
        yield override(word) if left >= 0 else _not_read(word, "the command is too long to be read here")


def _not_read(word: Word, why: str) -> Override:
    prefix = _prefix(word.text)
    return Override(word=word, prefix=prefix, key=word.text[len(prefix) :].partition("=")[0], unknown=why)


def _prefix(text: str) -> str:
    return next((sign for sign in ("++", "+", "~") if text.startswith(sign)), "")


def _refusal(texts: list[str]) -> str:
    """The last line of what hydra's argument parser prints before it exits."""
    from hydra._internal.utils import get_args_parser

    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        try:
            get_args_parser().parse_args(texts)
        except (SystemExit, ValueError):
            return printed.getvalue().strip().splitlines()[-1].partition("error: ")[2] if printed.getvalue() else "-"
    return ""


@cache
def _parser() -> OverridesParser:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def override(word: Word) -> Override:
    """One word as hydra's override parser reads it."""
    text = word.text
    prefix = _prefix(text)
    key = text[len(prefix) :].partition("=")[0]
    if not word.known:
        return _not_read(word, "; ".join(word.unknown))
    if max(text.count(sign) for sign in "[{(") > DEEPEST:
        return Override(word=word, prefix=prefix, key=key, error="nested too deeply")
    if len(text) > LONGEST or text.count(",") > MOST_ELEMENTS:
        return _not_read(word, "the value is too long to be read here")
    try:
        parsed = _parser().parse_override(text)
        sweep = bool(parsed.is_sweep_override())
        value = None if sweep or parsed.is_delete() else plain(parsed.value())
        key = parsed.get_key_element().lstrip("+~")
    except Exception as error:
        return Override(word=word, prefix=prefix, key=key, error=str(error).splitlines()[0] if str(error) else "-")
    typed = text.partition("=")[2]
    if isinstance(value, str) and "${" in value:
        why = f"it refers to other settings: {value}"
        return Override(word=word, prefix=prefix, key=key, unknown=why)
    return Override(word=word, prefix=prefix, key=key, value=value, sweep=sweep, quoted=typed[:1] in ("'", '"'))


def plain(value: Any) -> Any:
    """Hydra's value without its own classes for quoted texts."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(plain(name)): plain(item) for name, item in value.items()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(getattr(value, "text", value))


def leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The settings that one override makes: hydra merges a dict with what is there, key by key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(f"{key}.{name}", item)
    else:
        yield key, value


def can_be_text(value: str) -> bool:
    """Whether a text of these characters can be given to hydra in single quotes."""
    return "\n" not in value


def as_text(prefix: str, key: str, value: str) -> str:
    """The line to type for a value that is one text: quotes for hydra inside quotes for the shell."""
    if any(sign in value for sign in '$`"\\!'):
        # Within double quotes the shell would take these for its own.
        inner = value.replace('"', '\\"')
        return shlex.quote(f'{prefix or "++"}{key}="{inner}"')
    inner = value.replace("'", "\\'")
    return f"\"{prefix or '++'}{key}='{inner}'\""


def path_to_type(key: str, path: Path | str) -> str:
    """`++key=path`, in quotes where the shell or hydra would not take the path as it is."""
    return f"++{key}={path}" if _BARE_PATH.fullmatch(str(path)) else as_text("++", key, str(path))
