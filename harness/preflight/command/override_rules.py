"""Rules about the trainer's words: what hydra refuses, and what it reads otherwise than they look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from harness.core.cells import Severity
from harness.preflight.command.hydra_words import HydraWords, Override, as_text
from harness.preflight.command.unreadable_words import UnreadableWord, unreadable
from harness.preflight.command.words import Word
from harness.preflight.findings import Place, PreflightFinding

PREFLIGHT_OPTIONS = frozenset(
    [
        "--train",
        "--valid",
        "--script",
        "--release",
        "--gpus",
        "--gpu",
        "--dry-run",
        "--json",
        "--html",
        "--fix",
        "--verbose",
        "-v",
    ]
)
MOST_SHOWN = 3
"""Words of one cause that are shown."""
_PRINTING = frozenset({"cfg", "info", "help", "hydra-help", "version", "shell-completion"})
_NO = frozenset({"no", "off", "n", "none", "nil", "non", "disable", "disabled"})


def findings(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    """In the order of the words; `file` is empty for words of the command line."""
    yield from _refused(words, file)
    yield from _sweeps(words, file)
    yield from _unreadable(words, file)
    yield from _without_plus(words, file)
    yield from _twice(words, file)
    yield from _texts(words, file)
    yield from _prints_only(words, file)


def _place(file: str, word: Word, key: str = "") -> Place:
    return Place(file=file, line=word.line if file else None, key=key)


def _refused(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    """Words with a dash in front, which hydra's argument parser refuses with exit status 2."""
    if words.strays:
        first = words.strays[0]
        name = first.text.lstrip("-").partition("=")[0]
        of_preflight = first.text.partition("=")[0] in PREFLIGHT_OPTIONS and not file
        launching = name.replace("-", "_") in ("nproc_per_node", "nnodes", "node_rank", "master_addr", "master_port")
        remedy = f"++{first.text.lstrip('-')}"
        if of_preflight:
            remedy = f"{first.text} before the `--`"
        elif launching:
            remedy = f"{first.text} before the trainer's file" if file else "--gpus N before the `--`"
        elif "=" not in first.text:
            remedy = f"++{name}=…"
        message = "hydra takes a word with dashes for an option of its own and refuses it: the trainer does not start"
        if of_preflight:
            message = "an option of preflight comes after `--`, where the trainer's arguments are"
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="option-for-setting",
            message=message,
            place=_place(file, first, name),
            evidence=(f"hydra: {words.refusal}"[:300], *(word.text[:100] for word in words.strays[1:4])),
            remedy=remedy,
            count=len(words.strays),
        )
    elif words.refusal and words.overrides:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="hydra-refuses-words",
            message="hydra's own options must come before all settings: it refuses what follows them",
            place=_place(file, words.overrides[-1].word, words.overrides[-1].key),
            evidence=(f"hydra: {words.refusal}"[:300],),
            remedy="--config-path and --config-name directly after the trainer's file",
        )


def _sweeps(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    by_cause: dict[str, list[Override]] = {}
    for override in words.overrides:
        if override.sweep and "multirun" not in words.options:
            by_cause.setdefault(swept(override)[0], []).append(override)
    for why, several in by_cause.items():
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="hydra-sweep",
            message=f"hydra takes the value for several runs and stops (Ambiguous value for argument): {why}",
            place=_place(file, several[0].word, several[0].key),
            evidence=tuple(f"hydra receives {override.word.text[:200]}" for override in several[:MOST_SHOWN]),
            remedy=swept(several[0])[1],
            count=len(several),
        )


def swept(override: Override) -> tuple[str, str]:
    """Why hydra sees several runs in a value, and the line to type."""
    typed, prefix = override.typed_value, override.prefix or "++"
    if call := re.match(r"(\w+)\(", typed):
        return f"{call[1]}() is a function of hydra's", as_text(prefix, override.key, typed)
    if re.fullmatch(r"\d+,\d+", typed):
        return "a comma is no decimal point", f"{prefix}{override.key}={typed.replace(',', '.')}"
    items = ",".join(item.strip() for item in typed.split(","))
    as_list = f"'{prefix}{override.key}=[{items}]'"
    why = "the shell took the quotes, and a bare comma separates runs"
    return why, f"{as_text(prefix, override.key, typed)} for a text, {as_list} for a list"


def _unreadable(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    """One finding for each cause, however many words it concerns."""
    by_message: dict[str, list[UnreadableWord]] = {}
    for unreadable_word in unreadable(words, in_script=bool(file)):
        by_message.setdefault(unreadable_word.message, []).append(unreadable_word)
    for message, several in by_message.items():
        first = several[0].override
        received = [
            f"hydra receives {unreadable_word.override.word.text[:200]!r}" for unreadable_word in several[:MOST_SHOWN]
        ]
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="hydra-cannot-read",
            message=message,
            place=_place(file, first.word, first.key if "=" in first.word.text else ""),
            evidence=(*received, f"hydra: {first.error[:200]}"),
            remedy=several[0].remedy,
            count=len(several),
        )


def _without_plus(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    """`key=value` and `~key`: FunASR's trainer starts from an empty config, in which there is no key yet."""
    if "config-name" in words.options:
        return
    # a tree, because a list of all keys makes a time that grows with their square
    keys_so_far: dict[str, Any] = {}
    for override in words.overrides:
        outside = (
            not override.key.strip()
            or override.error
            or override.key[0] in "$`"
            or override.key.startswith(("hydra.", "hydra/"))
        )
        is_set = _in_tree(override.key, keys_so_far)
        if not outside and override.prefix in ("", "~") and not is_set:
            removing = override.prefix == "~"
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="setting-without-plus",
                message=(
                    "hydra does not know the model's config.yaml, so it has no such key to remove: the trainer stops"
                    if removing
                    else "without ++ hydra changes only keys that it knows, and it knows none: the trainer stops"
                ),
                place=_place(file, override.word, override.key),
                evidence=(f"hydra: Could not {'remove' if removing else 'override'} {override.key!r}",),
                remedy=f"++{override.key}=null" if removing else f"++{override.word.text}",
            )
        elif not outside and override.prefix == "+" and is_set:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="setting-appended-twice",
                message="with a single + hydra only adds keys, and this one is there already: the trainer stops",
                place=_place(file, override.word, override.key),
                evidence=("hydra: Could not append to config. An item is already at " + repr(override.key),),
                remedy=f"+{override.word.text}",
            )
        if not outside and override.prefix != "~":
            group = keys_so_far
            for name in override.key.split("."):
                group = group.setdefault(name, {})


def _in_tree(key: str, tree: dict[str, Any]) -> bool:
    """Whether this key, or a key in a group of this name, has been set."""
    group: dict[str, Any] | None = tree
    for name in key.split("."):
        group = group.get(name) if group is not None else None
    return group is not None


def _twice(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    by_key: dict[str, list[Override]] = {}
    for override in words.overrides:
        if override.key and not override.error and override.prefix != "~":
            by_key.setdefault(override.key, []).append(override)
    for key, several in by_key.items():
        values = {_spelled(override) for override in several}
        if len(values) < 2 or isinstance(several[-1].value, dict):
            continue
        last = several[-1]
        yield PreflightFinding(
            severity=Severity.MINOR if key in ("output_dir", "train_conf.log_interval") else Severity.WRONG,
            rule="setting-given-twice",
            message=f"given {len(several)} times with different values: the last one, {_spelled(last)}, is in force",
            place=_place(file, last.word, key),
            evidence=tuple(
                f"{f'line {override.word.line}: ' if file else ''}{override.word.text[:120]}"
                for override in several[:4]
            ),
            remedy=f"keep one of them: {last.word.text[:120]}",
            count=len(several),
        )


def _spelled(override: Override) -> str:
    return (
        override.word.text
        if override.unknown
        else repr(override.value)
        if not isinstance(override.value, str)
        else override.value
    )


def _texts(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    """`no` and `None`, which hydra reads as texts; a text is true where the trainer expects a boolean."""
    for override in words.overrides:
        if (
            not isinstance(override.value, str)
            or override.quoted
            or override.value.lower() not in _NO
            or override.error
        ):
            continue
        switch = is_switch(override.key)
        yield PreflightFinding(
            severity=Severity.WRONG if switch else Severity.MINOR,
            rule="word-for-no",
            message=(
                f"hydra reads {override.value} as a text"
                + (", which is true wherever the trainer asks yes or no" if switch else ", not as nothing")
            ),
            place=_place(file, override.word, override.key),
            evidence=(f"{override.key} = {override.value!r}",),
            remedy=f"{override.prefix}{override.key}={'false' if switch else 'null'}",
        )


def is_switch(key: str) -> bool:
    """Whether FunASR reads this key as a boolean."""
    last = key.rpartition(".")[2]
    return last.startswith(("use_", "enable_", "disable_", "is_")) or last in (
        "resume",
        "shuffle",
        "freeze",
        "drop_last",
    )


def _prints_only(words: HydraWords, file: str) -> Iterator[PreflightFinding]:
    for name in _PRINTING & set(words.options):
        word: Any = words.options[name]
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="hydra-prints-only",
            message=f"with --{name} hydra prints and ends: nothing is trained",
            place=_place(file, word),
            remedy=f"take --{name} away",
        )
