"""Keys that nothing reads, and keys that a constructor refuses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.keys import history
from harness.preflight.keys.nearest import SIMILAR, Nearest, called_here, closest, nearest, nearest_section, similarity
from harness.preflight.keys.reading import Fixed, Reading
from harness.preflight.settings import Setting

MOST_LISTED = 8
_RECOGNITION = ("auto/auto_model.py",)
_READ_THERE = re.compile(r"""(?:kwargs|cfg)(?:\.get\(|\.pop\(|\[)\s*["'](\w+)["']""")


def unread_keys(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    """Findings about keys without effect and keys that are refused."""
    in_config: list[tuple[Setting, str]] = []
    for setting in inputs.settings:
        if setting.path.split(".")[0] == "hydra":
            continue
        if finding := _refused(inputs, reading, setting):
            yield finding
        elif _is_read(inputs, reading, setting):
            continue
        elif setting.from_command:
            yield _without_effect(inputs, reading, setting, entry)
        elif near := _misspelt(inputs, reading, setting.path):
            in_config.append((setting, near))
    if in_config:
        yield _in_config(inputs, in_config)


def _is_read(inputs: Inputs, reading: Reading, setting: Setting) -> bool:
    if reading.is_read(setting.path):
        return True
    reference = f"${{{setting.path}}}"
    return any(isinstance(other.value, str) and reference in other.value for other in inputs.settings)


def _refused(inputs: Inputs, reading: Reading, setting: Setting) -> PreflightFinding | None:
    """A key that makes a call fail: given twice, or no parameter of what takes fixed ones."""
    section, _, key = setting.path.rpartition(".")
    if setting.path == "vocab_size" and not setting.from_command:
        return None
    if where := reading.given.get(section, {}).get(key):
        return _given_twice(inputs, reading, setting, where)
    for call in reading.fixed.get(section, ()):
        if key not in call.takes:
            return _unknown_parameter(reading, setting, call)
    return None


def _given_twice(inputs: Inputs, reading: Reading, setting: Setting, where: str) -> PreflightFinding:
    section, _, key = setting.path.rpartition(".")
    belongs = key if key in reading.read and section else ""
    remedy = f"write it at the top level: `{_line(key, setting)}`" if belongs else "leave the key out"
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="key-given-twice",
        message=f"FunASR passes `{key}` itself in addition to all of `{section or 'the settings'}`: the training ends "
        f"with a TypeError, got multiple values for keyword argument '{key}'",
        place=setting.place,
        evidence=(f"passed at {where} of {inputs.release.label}", *_as_typed(setting)),
        remedy=remedy,
    )


def _unknown_parameter(reading: Reading, setting: Setting, call: Fixed) -> PreflightFinding:
    section, _, key = setting.path.rpartition(".")
    remedy = "leave the key out"
    if near := called_here(setting.path, call.takes) or closest(key, call.takes, 0.6):
        remedy = f"write `{_line(f'{section}.{near}', setting)}`"
    elif (belongs := nearest(reading, setting.path)) and belongs.exact:
        remedy = f"write `{_line(belongs.path, setting)}`, it belongs there"
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="key-refused",
        message=f"{call.callee.removesuffix('.__init__')} takes no `{key}`: the training ends with a TypeError",
        place=setting.place,
        evidence=(f"it takes {_listed(key, call.takes)} ({call.where})", *_as_typed(setting)),
        remedy=remedy,
    )


def _listed(key: str, takes: tuple[str, ...]) -> str:
    """The parameters, of many the most similar ones."""
    if len(takes) <= MOST_LISTED:
        return ", ".join(takes)
    most_similar = sorted(takes, key=lambda parameter: -similarity(key, parameter))[:MOST_LISTED]
    return f"{', '.join(most_similar)} and {len(takes) - MOST_LISTED} more"


def _without_effect(inputs: Inputs, reading: Reading, setting: Setting, entry: str) -> PreflightFinding:
    near = _meant(reading, setting.path)
    recognition = not near and setting.path in _read_in_recognition(inputs.install_dir)
    severity = Severity.MINOR if recognition else Severity.WRONG
    evidence = [*_as_typed(setting)]
    if near:
        read = reading.read[near.path]
        now = inputs.settings.get(near.path)
        in_force = f"{now!r}" if now is not None else f"FunASR's default {read.default}" if read.default else "not set"
        evidence.append(f"`{near.path}` is read at {read.where}; it is {in_force}")
    if other_releases := history.read_in(setting.path, entry):
        evidence.append(f"`{setting.path}` is read by {other_releases}")
    if recognition:
        evidence.append("only recognition reads it, after the training")
    return PreflightFinding(
        severity=severity,
        rule="key-without-effect",
        message=f"nothing in FunASR {inputs.release.version} reads `{setting.path}`: "
        f"the training is as if it were not there",
        place=setting.place,
        evidence=tuple(evidence),
        remedy=_remedy(reading, setting, near, other_releases),
    )


def _remedy(reading: Reading, setting: Setting, near: Nearest | None, other_releases: str) -> str:
    if near:
        belongs = "it belongs there" if near.exact else "if that is meant"
        number = isinstance(setting.value, bool) and reading.read[near.path].default.lstrip("-").isdigit()
        return f"write `{f'++{near.path}=NUMBER' if number else _line(near.path, setting)}`, {belongs}"
    if other_releases:
        return f"use one of these releases, or leave the key out: {other_releases}"
    return "leave the key out"


def _meant(reading: Reading, path: str) -> Nearest | None:
    section, _, leaf = path.partition(".")
    if leaf and section not in reading.read and (other := nearest_section(reading, section)):
        if reading.is_read(f"{other}.{leaf}") and f"{other}.{leaf}" in reading.read:
            return Nearest(path=f"{other}.{leaf}", exact=True)
        return nearest(reading, f"{other}.{leaf}")
    return nearest(reading, path)


def _misspelt(inputs: Inputs, reading: Reading, path: str) -> str:
    """The key that one of config.yaml seems to be, which is not set there."""
    section, _, key = path.rpartition(".")
    known = [
        candidate
        for candidate in reading.keys(section)
        if inputs.settings.get(f"{section}.{candidate}" if section else candidate) is None
    ]
    if history.is_known(path):
        return ""
    return closest(key, known, SIMILAR + 0.07)


def _in_config(inputs: Inputs, misspelt: list[tuple[Setting, str]]) -> PreflightFinding:
    setting, near = misspelt[0]
    return PreflightFinding(
        severity=Severity.MINOR,
        rule="config-key-without-effect",
        message=f"nothing in FunASR {inputs.release.version} reads `{setting.path}` of the config"
        + (f" and {len(misspelt) - 1} more that look misspelt" if len(misspelt) > 1 else ""),
        place=setting.place,
        evidence=tuple(f"{setting.place}: `{name}` is read" for setting, name in misspelt[:8]),
        remedy=f"write `{near}` in its place",
        count=len(misspelt),
    )


def _read_in_recognition(install_dir: Path) -> frozenset[str]:
    keys: set[str] = set()
    for name in _RECOGNITION:
        path = install_dir / "funasr" / name
        if path.is_file():
            keys |= set(_READ_THERE.findall(path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(keys)


def _as_typed(setting: Setting) -> tuple[str, ...]:
    return (f"typed: {setting.text[:200]}",) if setting.text else ()


def _line(key: str, setting: Setting) -> str:
    """The setting under another key: for the shell, or as the config has it."""
    value = str(setting.value).lower() if isinstance(setting.value, bool) else str(setting.value)
    if not setting.from_command:
        return f"{key}={value[:80]}"
    # As hydra received it: a list or a text in quotes is not what Python writes for it.
    name, _, received = setting.text.lstrip("+").partition("=")
    as_received = received if name == setting.path else value
    return shlex.quote(f"++{key}={as_received}") if len(as_received) <= 80 else f"++{key}=…"
