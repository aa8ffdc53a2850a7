"""Rules about the trainer's call: is there one, does bash read it as it looks, are its variables set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.cells import Severity
from harness.preflight.command.call import TrainerCall
from harness.preflight.command.interpreter import ShellInterpreter
from harness.preflight.command.launchers import mentions_trainer
from harness.preflight.command.quotes import unclosed
from harness.preflight.command.scripts import tree_of
from harness.preflight.command.words import Word
from harness.preflight.findings import Place, PreflightFinding

if TYPE_CHECKING:
    from tree_sitter import Node

_COMMENTED = re.compile(r"^\s*#.*(torchrun|bin/train|funasr-train|funasr\.bin\.train)")
_NEEDED = frozenset({"model", "train_data_set_list", "valid_data_set_list", "init_param", "output_dir"})


def no_call(path: Path, raw: bytes, interpreter: ShellInterpreter) -> Iterator[PreflightFinding]:
    """Why nothing is trained: a call that is commented out, or none."""
    lines = raw.decode("utf-8", "replace").splitlines()
    commented = [number for number, line in enumerate(lines, 1) if _COMMENTED.search(line)]
    unreadable = list(_unreadable(path, raw, None))
    yield from unreadable
    if unreadable:
        return
    if interpreter.not_followed and not commented:
        called = ", ".join(dict.fromkeys(interpreter.not_followed))
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="script-calls-another",
            message=f"the script itself calls no trainer, but {called}, which cannot be read here: it is not checked",
            place=Place(file=str(path)),
            remedy="give the script that calls the trainer",
        )
        return
    why = "no line calls torchrun, funasr/bin/train.py or funasr-train"
    misread = [
        (command, place) for command in interpreter.commands if (place := mentions_trainer(command.words)) is not None
    ]
    if commented:
        why = "the call is commented out"
    elif misread:
        command, _ = misread[0]
        why = f"bash takes {command.words[0].text[:40]!r} for the program that it is to run"
        commented = [command.line]
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="no-trainer-call",
        message=f"the script calls no trainer, so nothing is trained: {why}",
        place=Place(file=str(path), line=commented[0] if commented else None),
        evidence=tuple(f"line {number}: {lines[number - 1].strip()[:120]}" for number in commented[:3]),
        remedy=(
            "take away the # in front of each line of the call"
            if "commented" in why
            else "torchrun --nproc_per_node 1 -m funasr.bin.train_ds ++model=… \\"
        ),
    )


def findings(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Of a call that is there."""
    yield from _unreadable(call.path, call.text, call)
    yield from _unset(call)
    yield from _false_defaults(call)


def _unreadable(path: Path, text: bytes, call: TrainerCall | None) -> Iterator[PreflightFinding]:
    """Quotes that are not closed, and what bash cannot read within the call."""
    root = tree_of(text)
    if not root.has_error:
        return
    full_text = text.decode("utf-8", "replace")
    quote = unclosed(full_text)
    lines = [int(node.start_point[0]) + 1 for node in _faults(root)]
    near = [line for line in lines if call is not None and call.command.line - 1 <= line <= call.command.end_line + 1]
    start = quote or next(iter(near if call is not None else lines), None)
    if start is None:
        return
    shown = (full_text.split("\n") + [""] * 2)[start - 1].strip()[:120]
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="shell-syntax",
        message=(
            "a quote is opened here and not closed: bash takes the following lines for a part of the text"
            if quote
            else "bash stops here with a syntax error"
        ),
        place=Place(file=str(path), line=start),
        evidence=(shown,),
        remedy="close the quote" if quote else "put values with ( ) < > | & ; into double quotes",
    )


def _faults(root: Node) -> Iterator[Node]:
    to_visit = [root]
    while to_visit:
        node = to_visit.pop()
        if node.type == "ERROR" or node.is_missing:
            yield node
        to_visit += reversed([child for child in node.children if child.has_error or child.is_missing])


def _unset(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Variables in the call that nothing sets."""
    launcher = [*call.launch.options.values(), *([call.launch.trainer] if call.launch.trainer else [])]
    in_words: dict[str, list[Word]] = {}
    for word in [*launcher, *(override.word for override in call.hydra.overrides)]:
        for name in word.unset:
            in_words.setdefault(name, []).append(word)
    for name in dict.fromkeys([*call.command.unset, *in_words]):
        words = in_words.get(name, [])
        keys = [word.text.lstrip("+~").partition("=")[0] for word in words if word.text.startswith("+")]
        near = difflib.get_close_matches(name, [*call.command.exported, *call.command.unexported], 1, 0.8)
        word_vanishes = name in call.command.unset or any(word in launcher for word in words)
        yield PreflightFinding(
            severity=_unset_severity(call, name, keys, word_vanishes=word_vanishes, mistyped=bool(near)),
            rule="variable-not-set",
            message=(
                f"{_why_unset(call, name)}: bash puts an empty text there"
                + (f", so {', '.join(keys[:3])} {'are' if len(keys) > 1 else 'is'} empty or incomplete" if keys else "")
            ),
            place=call.place(words[0].line if words else call.command.line, keys[0] if keys else ""),
            evidence=tuple(word.text for word in words[:3]),
            remedy=f"${{{near[0]}}}" if near else f"{name}=…  (above the call)",
        )


def _why_unset(call: TrainerCall, name: str) -> str:
    sets = re.compile(rf"^\s*(export\s+|local\s+)?{re.escape(name)}\+?=")
    lines = [number for number, line in enumerate(call.lines, 1) if sets.match(line)]
    if lines:
        return f"${name} is not set when the command runs (line {lines[0]} sets it)"
    return f"nothing in the script sets ${name}"


def _unset_severity(call: TrainerCall, name: str, keys: list[str], *, word_vanishes: bool, mistyped: bool) -> Severity:
    deepspeed = any(
        override.key == "train_conf.use_deepspeed" and override.value is True for override in call.hydra.overrides
    )
    if set(keys) <= {"train_conf.deepspeed_config"} and keys and not deepspeed:
        return Severity.MINOR
    if name.isupper() or name.isdigit():
        # An upper-case name is by custom one of the environment, an argument may be optional.
        return Severity.WRONG if mistyped and word_vanishes else Severity.MINOR
    if word_vanishes or set(keys) & _NEEDED:
        return Severity.BROKEN
    return Severity.WRONG if any("_conf." in key for key in keys) else Severity.MINOR


def _false_defaults(call: TrainerCall) -> Iterator[PreflightFinding]:
    """`${NAME: value}`, which is a part of NAME and no default."""
    for line, name, value in call.false_defaults:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="default-without-dash",
            message=f"${{{name}:{value}}} is no default but a part of {name}, and nothing sets {name}: it is empty",
            place=call.place(line, name),
            evidence=(call.line(line).strip()[:120],),
            remedy=f"${{{name}:-{value.strip()}}}",
        )
