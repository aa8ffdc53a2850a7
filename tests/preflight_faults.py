"""The planted faults of preflight's tests as one table: `python tests/preflight_faults.py` writes it.

Only faults that a test plants one by one are listed; each is named by the rule beside it, or its test fails.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.text.markdown import code

PAGE = Path(__file__).parent.parent / "reports" / "preflight_faults.md"
KINDS = {
    "K1": "a setting that nothing reads",
    "K2": "a setting that means something else than its name",
    "K3": "a value in the wrong unit",
    "K4": "a file that is not what its name says",
    "K5": "a command that the shell or hydra takes apart differently",
    "K6": "a start that is not the checkpoint's",
    "K7": "a combination that the trainer cannot do",
    "K8": "rows that vanish, are replaced or cannot be read",
    "K10": "a result that is not what was trained",
}
OF_A_CASE = {
    "1": "K3", "2": "K7", "4": "K5", "5": "K1", "6": "K1", "7": "K2", "9": "K7", "10": "K7", "11": "K7", "12": "K8",
    "13": "K4", "14": "K8", "15": "K1", "16": "K7", "17": "K7", "18": "K7", "19": "K7", "K4": "K4", "K8": "K8",
    "K10": "K10",
}  # fmt: skip
OF_A_RULE = {
    **dict.fromkeys(("value-type", "value-range", "component-unknown", "lora-without-layers"), "K7"),
    **dict.fromkeys(("text-for-switch", "half-precision-weights", "ranking-unknown"), "K2"),
    **dict.fromkeys(("learning-rate-steep", "warmup-share"), "K3"),
}
STARTS = frozenset({"prefix", "two files", "list of files", "no start", "fewer tokens", "more blocks", "fewer blocks"})


@dataclass(frozen=True, kw_only=True)
class PlantedFault:
    """One fault, and what must be said of it."""

    kind: str
    what: str
    named_by: str
    """The finding's rule, or between slashes a pattern of its text."""
    severity: str
    test: str
    """The module that plants it."""


def planted() -> list[PlantedFault]:
    """All of them, by kind."""
    found = [*_cases(), *_folders(), *_weights(), *_rows(), *_commands(), *_keys(), *_combinations()]
    return sorted(found, key=lambda one: list(KINDS).index(one.kind))


def _module(name: str) -> Any:
    return importlib.import_module(f"test_preflight_{name}")


def _parameters(test: Callable[..., object]) -> list[Any]:
    """Of the test's only list of parameters."""
    (mark,) = [one for one in test.pytestmark if one.name == "parametrize"]  # type: ignore[attr-defined]
    return list(mark.args[1])


def _cases() -> Iterator[PlantedFault]:
    for case in _module("cases").CASES:
        if case.finds:
            changed = " ".join(case.words) if case.words else case.name
            yield PlantedFault(
                kind=OF_A_CASE[case.name.partition("-")[0]],
                what=f"{changed} ({case.variant}, {case.release})",
                named_by=" and ".join(f"/{says}/" for _, says in case.finds),
                severity=", ".join(dict.fromkeys(severity.replace("|", " or ") for severity, _ in case.finds)),
                test="cases",
            )


def _folders() -> Iterator[PlantedFault]:
    for name, _, rule, severity in _module("folder").FAULTS:
        yield PlantedFault(kind="K4", what=name, named_by=rule, severity=severity, test="folder")


def _weights() -> Iterator[PlantedFault]:
    for name, (_, overrides, named) in _module("weights").FAULTS.items():
        if named is None:
            continue
        rule, severity = named
        kind = "K10" if rule == "later-load-takes-base" else "K6" if name in STARTS else "K4"
        changed = "".join(f", {key}={value}" for key, value in overrides.items())
        yield PlantedFault(kind=kind, what=f"{name}{changed}", named_by=rule, severity=severity, test="weights")


def _rows() -> Iterator[PlantedFault]:
    for name, (_, rule) in _module("rows").FAULTS.items():
        yield PlantedFault(kind="K8", what=name, named_by=rule, severity="above minor", test="rows")


def _commands() -> Iterator[PlantedFault]:
    for before, after, rule, severity, _ in _module("command").PLANTED:
        if rule:
            what = f"{before.strip()} → {after.strip() or 'nothing'}"
            yield PlantedFault(kind="K5", what=what, named_by=rule, severity=severity, test="command")


def _keys() -> Iterator[PlantedFault]:
    for key, value, rule, severity in _parameters(_module("keys").test_a_value_that_the_release_cannot_take):
        what = f"++{key}={value}"
        yield PlantedFault(kind=OF_A_RULE[rule], what=what, named_by=rule, severity=severity, test="keys")


def _combinations() -> Iterator[PlantedFault]:
    for release, entry, overrides, rule in _parameters(_module("combinations").test_what_the_trainer_cannot_do):
        changed = " ".join(f"++{key.replace('__', '.')}={value}" for key, value in overrides.items())
        severity = "wrong" if rule == "fp16-with-bf16" else "broken"
        what = f"{changed} ({entry}, {release})"
        yield PlantedFault(kind="K7", what=what, named_by=rule, severity=severity, test="combinations")


def page() -> str:
    """The page, with the number of faults of each kind."""
    faults = planted()
    lines = [
        "# Preflight: planted faults",
        "",
        f"{len(faults)} faults that the tests plant one by one in a sound set-up (`tests/test_preflight_*.py`). Each "
        "must be named with its rule and severity, or its test fails: all of them are named. The sound neighbours "
        "that must not be accused are in the same files, and `tests/test_preflight_sound.py` runs all of `preflight` "
        "on ten sound folders in 1.2.7, 1.3.30 and 1.4.16. Severity `broken or wrong`: the test allows both.",
        "",
        "<!-- The tables are written by `python tests/preflight_faults.py`. -->",
        "",
        "| kind | what | faults |",
        "| --- | --- | --- |",
        *(f"| {kind} | {what} | {sum(one.kind == kind for one in faults)} |" for kind, what in KINDS.items()),
        "",
        "| kind | planted | named by | severity | test |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {one.kind} | {code(one.what)} | {code(one.named_by)} | {one.severity} | {one.test} |" for one in faults),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{len(planted())} planted faults in {PAGE.name}\n")
