"""Rules about signs in the trainer's call that bash reads otherwise than they look: quotes, dashes, `<`, `\\`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.core.cells import Severity
from harness.preflight.command.call import TrainerCall
from harness.preflight.findings import PreflightFinding

_LOOKS_LIKE_QUOTES = "“”‘’„‟＂＇«»「」"
_WITH_BACKSLASH = re.compile(r"(?<![+\w.])([+\w.]++)=([^\s\"'$=]*\\[A-Za-z][^\s\"']*)")
"""A time that grows with the line: each attempt starts at another key and ends at the next `=`."""


def findings(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Of all words of the call."""
    yield from _typographic(call)
    yield from _redirected(call)
    yield from _kept_from_shell(call)
    yield from _backslashes(call)


def _typographic(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Quotes, dashes, blanks and signs that look like the shell's and are none."""
    words_by_line = typographic_words(call)
    if not words_by_line:
        return
    line, (text, why) = min(words_by_line.items())
    written = _written_at(call, text)
    if written is not None:
        line, text = written, call.line(written).strip()
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="typographic-sign",
        message=f"{why}: it becomes a part of the word",
        place=call.place(line),
        evidence=tuple(
            f"line {number}: {word_text[:100]}" for number, (word_text, _) in sorted(words_by_line.items())[:5]
        ),
        remedy=ascii_of(text),
        count=len(words_by_line),
    )


def _written_at(call: TrainerCall, word: str) -> int | None:
    """The line of an assignment from which the signs of a word come; None where they stand in the call itself."""
    signs = {char for char in word if char in _LOOKS_LIKE_QUOTES}
    if not signs or any(sign in call.line(call.command.line + up) for sign in signs for up in range(_span(call))):
        return None
    lines = enumerate(call.lines[: call.command.line], 1)
    return next((number for number, line in lines if signs & set(line) and not line.lstrip().startswith("#")), None)


def _span(call: TrainerCall) -> int:
    return call.command.end_line - call.command.line + 1


def typographic_words(call: TrainerCall) -> dict[int, tuple[str, str]]:
    """By line the word with such a sign, and what the sign is."""
    words_by_line: dict[int, tuple[str, str]] = {}
    for word in call.command.words:
        if word.unknown:
            continue
        text = word.text
        if sign := next((char for char in text if char in _LOOKS_LIKE_QUOTES), ""):
            words_by_line.setdefault(word.line, (text, f"{sign} (U+{ord(sign):04X}) is no quote for bash"))
        elif text.startswith(tuple("–—−－‐‑")):
            words_by_line.setdefault(
                word.line, (text, f"{text[0]} (U+{ord(text[0]):04X}) is no dash that starts an option")
            )
        elif text.startswith("＋") or re.match(r"^[+]*[\w.]+＝", text):
            words_by_line.setdefault(word.line, (text, "full-width + and = are letters for hydra"))
        elif sign := next((char for char in text if char in "\u00a0\u3000\u200b\u2003\ufeff"), ""):
            words_by_line.setdefault(word.line, (text, f"U+{ord(sign):04X} looks like a blank and separates no words"))
    return words_by_line


def _kept_from_shell(call: TrainerCall) -> Iterator[PreflightFinding]:
    """`'${name}'` with a variable of the script: in single quotes it reaches hydra as it is."""
    names = {*call.command.exported, *call.command.unexported}
    keys = {override.key for override in call.hydra.overrides}
    for override in call.hydra.overrides:
        for variable in re.finditer(r"\$\{?([A-Za-z_]\w*)\}?", "" if override.word.unknown else override.typed_value):
            if variable[1] in names and variable[1] not in keys:
                yield PreflightFinding(
                    severity=Severity.BROKEN,
                    rule="variable-in-single-quotes",
                    message=f"in single quotes the shell does not replace ${variable[1]}: hydra receives the name",
                    place=call.place(override.word.line, override.key),
                    evidence=(f"hydra receives {override.word.text[:200]}",),
                    remedy=f'{override.prefix}{override.key}="{override.typed_value}"',
                )
                break


def _backslashes(call: TrainerCall) -> Iterator[PreflightFinding]:
    """`D:\\data` without quotes, of which bash makes `D:data`."""
    for number in range(call.command.line, call.command.end_line + 1):
        if match := _WITH_BACKSLASH.search(call.line(number)):
            yield PreflightFinding(
                severity=Severity.WRONG,
                rule="backslash-in-value",
                message="outside quotes bash takes the backslashes away",
                place=call.place(number, match[1].lstrip("+")),
                evidence=(f"{match[0]} becomes {match[0].replace(chr(92), '')}",),
                remedy=f"{match[1]}='{match[2]}'",
            )


def ascii_of(text: str) -> str:
    """The word with the signs of an English keyboard."""
    table = {**dict.fromkeys("“”„‟＂«»「」", '"'), **dict.fromkeys("‘’＇", "'"), "＋": "+", "＝": "=", "，": ","}
    table |= dict.fromkeys("\u00a0\u3000\u2003", " ") | dict.fromkeys("\u200b\ufeff", "")
    plain = "".join(table.get(char, char) for char in text)
    return re.sub(r"^[–—−－‐‑]+", "--", plain)


def _redirected(call: TrainerCall) -> Iterator[PreflightFinding]:
    """`++key=<unk>`: bash reads `<` as a redirection."""
    line = call.line(call.command.end_line) if call.command.words else ""
    last = call.command.words[-1] if call.command.words else None
    if last is None or not last.text.startswith("+") or last.quoted:
        return
    typed = re.search(re.escape(last.text) + r"([<>][^\s&]\S*)", line)
    if typed and (last.text.endswith("=") or typed[1].startswith("<")):
        key, _, value = last.text.partition("=")
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="value-as-redirection",
            message="bash reads `<` and `>` outside quotes as a redirection: the value does not reach the trainer",
            place=call.place(last.line, key.lstrip("+")),
            evidence=(typed[0],),
            remedy=f"\"{key}='{value}{typed[1]}'\"",
        )
