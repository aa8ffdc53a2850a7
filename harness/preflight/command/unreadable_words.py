"""Words that hydra cannot read: why, and the line to type instead; what one fault tears apart is reported once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.preflight.command.hydra_words import HydraWords, Override, as_text
from harness.preflight.command.launchers import TRAINER_FILE

_REFUSED = frozenset("=()<>#~'\"&;!^`{}[]")
IN_PLACE_OF_BACKSLASH = ("/", "^", "\\", "`", "、", "＼")
"""Signs that people type at a line's end: of another shell, or a backslash too many."""


@dataclass(frozen=True, kw_only=True)
class UnreadableWord:
    """One fault."""

    override: Override
    """The first word that is concerned."""
    message: str
    remedy: str
    words: int = 1
    """How many words it makes of one."""


def unreadable(words: HydraWords, *, in_script: bool) -> Iterator[UnreadableWord]:
    """The faults in the order of the words."""
    remaining = list(words.overrides)
    before: Override | None = None
    while remaining:
        override = remaining[0]
        text = override.word.text
        told_by_line = in_script and (text.isspace() or text in IN_PLACE_OF_BACKSLASH)
        option_value = bool(words.strays) and "=" not in text and not override.prefix
        # The launcher's rule has named why its trainer arrives among the settings.
        trainer = in_script and before is None and TRAINER_FILE.search(text) is not None
        if not override.error or told_by_line or option_value or trainer:
            before = remaining.pop(0)
            continue
        fault_found = (
            _without_sign(remaining, before) if "=" not in text or text.startswith("=") else _with_sign(remaining)
        )
        yield fault_found
        before = remaining[fault_found.words - 1]
        remaining = remaining[fault_found.words :]


def _bare(override: Override) -> bool:
    """A word that is neither a setting nor the beginning of one."""
    return "=" not in override.word.text and not override.prefix


def _without_sign(remaining: Sequence[Override], before: Override | None) -> UnreadableWord:
    """A word without `=`."""
    override, text = remaining[0], remaining[0].word.text
    key, following = (
        f"{override.prefix or '++'}{override.key.strip()}",
        remaining[1].word.text if len(remaining) > 1 else "",
    )

    def fault(message: str, remedy: str, words: int = 1) -> UnreadableWord:
        return UnreadableWord(override=override, message=message, remedy=remedy, words=words)

    if not text.strip():
        return fault("an empty word reaches hydra, which cannot read it", "remove the space or the empty quotes")
    if text.strip() in ("+", "++", "~"):
        return fault("a space after the sign: it arrives as a separate word", f"{text.strip()}{following}")
    if text.startswith("="):
        return fault("a space next to `=`: hydra receives a value without a key", "no spaces around `=`")
    if following == "=" and len(remaining) > 2:
        remedy = f"{key}={remaining[2].word.text}"
        return fault("spaces around `=`: the key and the value arrive as separate words", remedy, 3)
    if following.startswith("="):
        return fault("a space next to `=`: the key and the value arrive as two words", f"{key}{following}", 2)
    if not override.prefix:
        return _part_of_value(remaining, before)
    if ":" in text or "：" in text:
        name, _, value = re.sub("：", ":", text).partition(":")
        return fault("a colon where hydra expects `=`", f"{name}={value}")
    if len(remaining) > 1 and _bare(remaining[1]):
        return fault("a space where hydra expects `=`", f"{key}={following}", 2)
    return fault("the word has no `=`, and hydra expects key=value", f"{key}=…")


def _part_of_value(remaining: Sequence[Override], before: Override | None) -> UnreadableWord:
    """Words behind a blank that was meant as a part of the value before it."""
    count = next((number for number, override in enumerate(remaining) if not _bare(override)), len(remaining))
    value = " ".join(override.word.text for override in remaining[:count])
    if before is None or "=" not in before.word.text:
        message = "the word has no `=`, and hydra expects key=value"
        return UnreadableWord(override=remaining[0], message=message, remedy=f"++{value}=…", words=count)
    if not before.typed_value:
        message, remedy = "a space after `=`: the value arrives as a separate word", f"{before.word.text}{value}"
    else:
        message = "the value contains a space, and the shell splits it into two words"
        remedy = as_text(before.prefix, before.key, f"{before.typed_value} {value}")
    return UnreadableWord(override=remaining[0], message=message, remedy=remedy, words=count)


def _with_sign(remaining: Sequence[Override]) -> UnreadableWord:
    """A word with `=`."""
    override = remaining[0]
    value, prefix = override.typed_value, override.prefix or "++"
    if value[:1] in ("[", "{") and not value.rstrip().endswith(("]", "}")):
        ends = (
            number for number, override_after in enumerate(remaining) if override_after.word.text.endswith(("]", "}"))
        )
        count = next(ends, 0) + 1
        joined = " ".join(other.word.text for other in remaining[:count])
        message = "a list or dict with spaces arrives in parts: the shell splits what is not quoted as a whole"
        return UnreadableWord(override=override, message=message, remedy=f"'{joined}'", words=count)
    message, remedy = _value_fault(override, value, prefix)
    return UnreadableWord(override=override, message=message, remedy=remedy)


def _value_fault(override: Override, value: str, prefix: str) -> tuple[str, str]:
    key = f"{prefix}{override.key}"
    if not re.fullmatch(r"[\w.@/:-]+", override.key, re.ASCII):
        plain = re.sub(r"[^A-Za-z0-9_./]+", ".", unicodedata.normalize("NFKC", override.key).strip()).strip(".")
        return "the key contains a character that hydra does not allow", f"{prefix}{plain}={value}"
    if glued := re.search(r"\+\+[\w.]++=\S*", value):
        before = value[: glued.start()].split(" ")[-1]
        return "two settings arrive as one word: there is no space between them", f"{key}={before} {glued[0]}"
    if value.startswith("="):
        return "two `=` between the key and the value", f"{key}={value.lstrip('= ')}"
    if value.endswith(",") and value.count(",") == 1:
        return "a comma after the value", f"{key}={value[:-1]}"
    if value.startswith("~/"):
        return (
            "bash replaces `~` only at the beginning of a word, and hydra cannot read it",
            f'{key}="$HOME{value[1:]}"',
        )
    usual = unicodedata.normalize("NFKC", value)
    if usual != value and usual.isascii():
        return "the value holds full-width characters, which hydra cannot read", f"{key}={usual}"
    which = "".join(list(dict.fromkeys(sign for sign in value if sign in _REFUSED or not sign.isascii()))[:8])
    subject = f"{which!r} in a value" if which else "a value"
    why = f"hydra cannot read {subject} without quotes of its own, and the shell's quotes do not reach it"
    return why, as_text(prefix, override.key, value)
