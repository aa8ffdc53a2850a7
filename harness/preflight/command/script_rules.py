"""Rules about a script's text: line ends, lines that are cut off, assignments that are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.command.call import TrainerCall
from harness.preflight.command.interpreter import ShellInterpreter
from harness.preflight.command.shell import Command
from harness.preflight.command.unreadable_words import IN_PLACE_OF_BACKSLASH
from harness.preflight.findings import Place, PreflightFinding

OVERRIDE = re.compile(r"^(\+{1,2}[A-Za-z_~]|-{1,2}[a-z_]+\.\w|~[a-z_]+(\.\w+)*$|[a-z_]+(\.\w+)+=)")
"""What only a trainer's word begins with."""
_WRONG_ASSIGNMENT = re.compile(
    r"^\s*(?P<export>export\s+)?(?:\$(?P<dollar>[A-Za-z_]\w*)=|(?P<spaced>[A-Za-z_]\w*)\s+=)(?P<value>.*)$"
)
_TORN_LIST = re.compile(r"^\s*(export\s+)?(\w*CUDA_VISIBLE_DEVICES)=([\d,]+,)\s+(\d[\d,]*)")
REQUIRED = frozenset({"model", "train_data_set_list", "valid_data_set_list"})
_PLACES = frozenset({"output_dir", "log_file", "log_interval"})
"""Keys without which the same is learned."""
BLANKS = " \t\u00a0\u3000\u2003\u2002\u200b"


def findings(path: Path, raw: bytes, interpreter: ShellInterpreter) -> Iterator[PreflightFinding]:
    """Of the whole script."""
    yield from _line_ends(path, raw)
    yield from _byte_order_mark(path, raw)
    yield from _assignments(path, interpreter)


def _line_ends(path: Path, raw: bytes) -> Iterator[PreflightFinding]:
    ends = [number for number, line in enumerate(raw.split(b"\n"), 1) if line.endswith(b"\r")]
    lines = raw.split(b"\n")
    working = [
        number for number in ends if lines[number - 1].strip() and not lines[number - 1].lstrip().startswith(b"#")
    ]
    if not ends:
        return
    continued = sum(lines[number - 1].rstrip(b"\r").endswith(b"\\") for number in working)
    yield PreflightFinding(
        severity=Severity.BROKEN if working else Severity.MINOR,
        rule="script-crlf",
        message=(
            "the lines end as on Windows (\\r\\n): bash takes the \\r for a part of each last word, "
            f"and a backslash before it joins no lines ({continued} such lines)"
        ),
        place=Place(file=str(path), line=(working or ends)[0]),
        evidence=(f"{len(ends)} of {len(lines)} lines end with \\r\\n",),
        remedy=f"sed -i 's/\\r$//' {path.name}",
        count=len(ends),
    )


def _byte_order_mark(path: Path, raw: bytes) -> Iterator[PreflightFinding]:
    """Bash takes it for a part of the first word: harmless before a comment."""
    if not raw.startswith(b"\xef\xbb\xbf"):
        return
    first = raw[3:].split(b"\n")[0].decode("utf-8", "replace").strip()
    lost = bool(first) and not first.startswith("#!") and not first.startswith("# ")
    yield PreflightFinding(
        severity=Severity.WRONG if lost else Severity.MINOR,
        rule="script-byte-order-mark",
        message=(
            "the script starts with a byte-order mark, which bash takes for a part of the first word: "
            + ("the first line does nothing" if lost else "bash prints an error for the first line, and continues")
        ),
        place=Place(file=str(path), line=1),
        evidence=(first[:120],),
        remedy=f"sed -i '1s/^\\xEF\\xBB\\xBF//' {path.name}",
    )


def _assignments(path: Path, interpreter: ShellInterpreter) -> Iterator[PreflightFinding]:
    """`NAME = value`, `$NAME=value` and `NAME=0, 1`, which do not set the variable, or not to all of it."""
    lines = interpreter.followed[path.absolute()].decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines, 1):
        if torn := _TORN_LIST.match(line):
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="assignment-with-blanks",
                message=f"a space in the list: bash sets {torn[2]} to {torn[3]!r} and takes the rest for a command",
                place=Place(file=str(path), line=number, key=torn[2]),
                evidence=(line.strip()[:120],),
                remedy=f"{torn[1] or ''}{torn[2]}={torn[3]}{torn[4]}",
            )
        match = _WRONG_ASSIGNMENT.match(line)
        if match is None or not (match["dollar"] or match["export"]):
            continue
        name = match["dollar"] or match["spaced"]
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="assignment-with-dollar" if match["dollar"] else "assignment-with-blanks",
            message=f"{'a `$` in front of the name' if match['dollar'] else 'a space next to `=`'}: {name} is not set",
            place=Place(file=str(path), line=number, key=name),
            evidence=(line.strip()[:120],),
            remedy=f"{match['export'] or ''}{name}={match['value'].strip()}",
        )
    for command in interpreter.commands:
        texts = [word.text for word in command.words]
        if len(texts) < 2 or command.source.name != path.name:
            continue
        if re.fullmatch(r"[A-Za-z_]\w*", texts[0]) and texts[1].startswith("=") and texts[1] != "==":
            typed = " ".join(texts[1:]).lstrip("= ")
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="assignment-with-blanks",
                message=f"a space next to `=`: bash looks for a program named {texts[0]}, and the variable is not set",
                place=Place(file=str(path), line=command.line, key=texts[0]),
                evidence=(" ".join(texts),),
                remedy=f'{texts[0]}="{typed}"',
            )


def of_call(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Of the lines of the trainer's call and the ones that follow it."""
    yield from _cut_off(call)
    yield from _blank_after_backslash(call)


def cut_off(call: TrainerCall) -> list[tuple[int, str, list[Command]]]:
    """The words that are no part of the call: for each gap the line, the reason and the commands made of the rest."""
    gaps: list[tuple[int, str, list[Command]]] = []
    line = call.command.end_line
    for command in call.after:
        if not command.words or not OVERRIDE.match(command.words[0].text):
            break
        gaps.append((line, gap(call, line, command.line), [command]))
        line = command.end_line
    return gaps


def gap(call: TrainerCall, last: int, following: int) -> str:
    """Why a line does not go on to the next one; empty where it does."""
    text = call.line(last)
    if following == last:
        return "an unquoted `&`, `;` or `|` ends the command here"
    if re.search(rf"\\[{BLANKS}]+$", text):
        return "a blank follows the backslash"
    if re.search(rf"\\[{BLANKS}]+#", text):
        return "a comment follows the backslash"
    if ends := re.search(r"([;&|])\s*\\?$", text):
        return f"`{ends[1]}` ends the command"
    if re.search(r"[^\s&>]&[^\s&>\d]", re.sub(r"\"[^\"]*\"|'[^']*'", "", text)):
        return "an unquoted `&` ends the command"
    if text.rstrip(BLANKS)[-1:] in IN_PLACE_OF_BACKSLASH and not re.search(r"(^|[^\\])\\$", text):
        return f"{text.rstrip(BLANKS)[-1]} is no backslash that joins lines"
    if re.search(r"\s#", text):
        return "a comment ends the command"
    between = [call.line(number) for number in range(last + 1, following)]
    if text.endswith("\\") and any(line_between.lstrip().startswith("#") for line_between in between):
        return "a comment follows, and a comment ends the command"
    if text.endswith("\\"):
        return "an empty line follows"
    return "no backslash at the end of the line"


def _cut_off(call: TrainerCall) -> Iterator[PreflightFinding]:
    gaps = cut_off(call)
    if not gaps:
        return
    words = [word for _, _, commands in gaps for command in commands for word in command.words]
    keys = [word.text.lstrip("+-~").partition("=")[0] for word in words]
    keys_given = {override.key for override in call.hydra.overrides}
    lost = (REQUIRED & set(keys)) - keys_given
    line, reason, _ = gaps[0]
    shown = ", ".join(dict.fromkeys(keys[:6])) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
    yield PreflightFinding(
        severity=Severity.BROKEN if "is no backslash" in reason else severity_of(keys, lost),
        rule="command-cut-off",
        message=(
            f"the command ends on this line ({reason}): "
            f"{len(keys)} setting{'s do' if len(keys) != 1 else ' does'} not reach the trainer ({shown})"
        ),
        place=call.place(line, keys[0]),
        evidence=tuple(f"line {number}: {why}: {call.line(number).strip()[:120]!r}" for number, why, _ in gaps[:5]),
        remedy=_continued(call, line, reason),
        count=len(keys),
    )


def severity_of(keys: Iterable[str], lost: Iterable[str]) -> Severity:
    """By what is cut off: what a training cannot be without, what it learns by, or only where it writes."""
    if list(lost):
        return Severity.BROKEN
    return Severity.MINOR if set(keys) <= _PLACES else Severity.WRONG


def _continued(call: TrainerCall, line: int, reason: str) -> str:
    text = call.line(line).rstrip(BLANKS).rstrip("\\").rstrip(BLANKS)
    if "comment" in reason and "#" in text:
        return (
            f"{text.partition('#')[0].rstrip(BLANKS).rstrip(chr(92)).rstrip(BLANKS)} \\  (the comment on a line above)"
        )
    if "comment" in reason:
        return "move the comment above the command, with no line in between"
    if "empty" in reason:
        return f"delete the empty line after line {line}"
    if "unquoted" in reason:
        return "put the value into double quotes"
    if ends := re.match(r"`([;&|])`", reason):
        return f"{text.rstrip(ends[1] + BLANKS)} \\"
    if "is no backslash" in reason:
        return f"{text.rstrip(''.join(IN_PLACE_OF_BACKSLASH) + BLANKS)} \\"
    return f"{text} \\"


def _blank_after_backslash(call: TrainerCall) -> Iterator[PreflightFinding]:
    """At the end of the call: bash passes the blank on as a word, and hydra refuses it."""
    line = call.command.end_line
    if not call.command.words or not call.command.words[-1].text.isspace():
        return
    text = call.line(line)
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="blank-after-backslash",
        message="a blank follows the backslash: bash passes it on as a word, and hydra refuses that",
        place=call.place(line),
        evidence=("hydra: token recognition error at: ' '", repr(text.strip("\n")[-60:])),
        remedy=f"{re.sub(rf'[{BLANKS}]*(#.*)?$', '', text)}  (nothing after the backslash)",
    )
