"""Failures that a user's own key, value or file causes: they are not booked as a release's.

A failed cell is the user's where its exception names a key or a value of the user's own variant, or a recording or the
jsonl of theirs; or where the same training, begun without the user's settings, gets over the place of the failure
(`control`, from inside). Where that training ends with the same exception, the failure is the release's whatever it
names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence import OWN_SETTINGS, USER_ROWS
from harness.core.numbers import mapping

YOURS = "yours"
"""The key in a failed cell's evidence that names the cause: `reason` is one sentence with the file and the key."""

CONTROL = "control"
"""The key in the evidence of a training that failed before its first step: `failure` is the signature with which the
same training ends without the user's settings, None where it takes that step."""

_FAILED = (Status.FAILED, Status.CRASHED)
_OWN_FINDINGS = re.compile(r"(NotTrained|DataDiffers|CheckpointBroken|NotDecoded|WeightsDiffer|PropertyFails)@")
_RECORDING = re.compile(r"[\w./\\-]+\.(?:wav|flac|mp3|m4a|ogg|opus|pcm|aac)\b", re.IGNORECASE)


def attribute(outcome: Outcome) -> Outcome:
    """The outcome with the user's part in its failure in the evidence; as it is where they have none."""
    failure = outcome.failure
    if outcome.status not in _FAILED or failure is None or YOURS in outcome.evidence:
        return outcome
    own = mapping(outcome.evidence.get(OWN_SETTINGS))
    reason = _by_settings(outcome, failure, own) if own else ""
    reason = reason or _by_file(failure, mapping(outcome.evidence.get(USER_ROWS)))
    return replace(outcome, evidence={**outcome.evidence, YOURS: {"reason": reason}}) if reason else outcome


def _by_settings(outcome: Outcome, failure: Failure, own: Mapping[str, object]) -> str:
    file, settings = own.get("file"), mapping(own.get("settings"))
    control = outcome.evidence.get(CONTROL)
    without = mapping(control).get("failure") if isinstance(control, Mapping) else ""
    if without == failure.signature:
        return ""
    for path, value in settings.items():
        if names_setting(failure, path, value):
            near = mapping(own.get("near")).get(path)
            meant = f'; did you mean "{near}"?' if near else ""
            return f"{file} sets `{path}: {value}`, which the release ends at: {_told(failure)}{meant}"
    if isinstance(control, Mapping) and without is None:
        listed = ", ".join(f"`{path}`" for path in settings)
        return f"it ends so with the settings of {file} ({listed}) and not without them: {_told(failure)}"
    return ""


def names_setting(failure: Failure, path: str, value: object) -> bool:
    """Whether an exception names a setting: its key's last part or its text, in quotes."""
    if _OWN_FINDINGS.match(failure.signature):
        # A start that is missing, and nothing else wrong: the only finding of the harness's own that is a user's doing.
        missing = "`init_param`" in failure.message and "does not exist" in failure.message
        return path == "init_param" and missing and failure.signature == "NotTrained@start"
    words = [path.rpartition(".")[2], *([value] if isinstance(value, str) and len(value) > 1 else [])]
    if failure.type == "NameError" and isinstance(value, str):
        words += re.findall(r"[A-Za-z_]\w*", value)
    quoted = set(re.findall(r"""['"`]([^'"`]+)['"`]""", failure.message))
    if any(word in quoted or failure.message == word for word in words):
        return True
    if failure.type == "AssertionError" and failure.frames and _is_about_configuration(failure.frames[-1].file):
        # The message of a bare assertion is its code.
        return words[0] in re.findall(r"[A-Za-z_]\w*", failure.message)
    return isinstance(value, str) and "/" in value and PurePosixPath(value).name in failure.message


def _is_about_configuration(file: str) -> bool:
    return file.startswith(("funasr/bin/", "funasr/train_utils/"))


def _by_file(failure: Failure, rows: Mapping[str, object]) -> str:
    if not rows or _OWN_FINDINGS.match(failure.signature):
        return ""
    name = str(rows.get("file"))
    if name in failure.message:
        return f"the release ends at {name}: {_told(failure)}"
    recording = _RECORDING.search(failure.message)
    if recording:
        return (
            f"the release ends at a recording that {name} lists, {PurePosixPath(recording[0]).name}: {_told(failure)}"
        )
    return ""


def _told(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}"
