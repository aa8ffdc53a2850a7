"""Failures that a user's own key, value or file causes: they are not counted against the release.

A failed cell is the user's where its exception names a key or a value of the user's own variant, or the user's jsonl or
one of its recordings; or where the same training without the user's settings takes its first step (`control`, which the
check records). Where that training ends with the same exception, the failure is the release's whatever it names. Losses
that are no numbers are the user's where they are numbers without the user's settings.

A cell that has no row to train on is never a pass, and says nothing against the release: the file is the cause.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from pathlib import PurePosixPath

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence.common import OwnSettings, UserRows
from harness.core.evidence.decode import DecodeMetrics
from harness.core.evidence.training import Control, TrainingMetrics
from harness.releases.first_releases import FIRST

YOURS = "yours"
"""The key in a failed cell's evidence that names the cause: `reason` is one sentence with the file and the key."""

NO_ROW = "NoRowToTrainOn@user_rows"
"""The signature of a cell whose file has no row to train on."""

_FAILED = (Status.FAILED, Status.CRASHED)
_RAN = (Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.CRASHED)
_OWN_FINDINGS = re.compile(r"(NotTrained|DataDiffers|CheckpointBroken|NotDecoded|WeightsDiffer|PropertyFails)@")
_NOT_OF_LOSSES = frozenset({"start", "configuration", "epochs", "frozen", "accumulation", "ranks", "log", "idling"})
"""Conditions of a training that fail whatever its losses are."""
_RECORDING = re.compile(r"[\w./\\-]+\.(?:wav|flac|mp3|m4a|ogg|opus|pcm|aac)\b", re.IGNORECASE)


def apply_user_rows(outcome: Outcome) -> Outcome:
    """The outcome, failed by the user's file where no row of it can be trained on; any other as it is."""
    rows = outcome.common.user_rows
    if rows is None or rows.trainable != 0 or outcome.status not in _RAN:
        return outcome
    reason = f"{_no_row(rows)} {_what_happened(outcome)}".rstrip()
    return replace(
        outcome,
        status=Status.FAILED,
        reason=reason,
        failure=Failure(type="NoRowToTrainOn", message=reason, signature=NO_ROW),
        evidence={**outcome.evidence, YOURS: {"reason": reason}},
    )


def _no_row(rows: UserRows) -> str:
    text = f"no row of {rows.file} can be trained on ({rows.listed} are listed): "
    if not rows.reasons:
        return f"no row of {rows.file} can be trained on ({rows.listed} are listed)."
    first = rows.reasons[0]
    length = f"; its recording has {first.frames} frames of 10 ms" if first.frames is not None else ""
    return f"{text}line {first.line}: {first.reason}{length}."


def _what_happened(outcome: Outcome) -> str:
    metrics = outcome.training or outcome.metrics_as(DecodeMetrics)
    steps = metrics.steps if metrics else None
    if outcome.failure is not None:
        return f"The release ends with {outcome.failure.signature}."
    if outcome.status is not Status.PASSED:
        return f"The cell {outcome.status.replace('_', ' ')}: {outcome.reason}"
    if steps is None:
        return ""
    return f"The release took {steps} steps and ended without an error."


def rows_reasons(metrics: TrainingMetrics) -> tuple[str, ...] | None:
    """Rows that the release's own limits allow and that did not reach training once an epoch.

    None where it was not observed, and where the training was cut short: that is a matter of steps.
    """
    user_rows = metrics.user_rows
    if user_rows is None or user_rows.missed_count is None or metrics.steps != metrics.steps_expected:
        return None
    if not user_rows.missed_count:
        return ()
    named = user_rows.missed[:5]
    lines = ", ".join(f"line {row.line} ({row.times} times)" for row in named)
    more = f" and {user_rows.missed_count - len(named)} more" if user_rows.missed_count > len(named) else ""
    return (f"Rows that its own limits allow reached training less often than there were epochs: {lines}{more}.",)


def attribute(outcome: Outcome) -> Outcome:
    """The outcome, with the reason in its evidence where the user's own input causes its failure."""
    failure = outcome.failure
    if outcome.status not in _FAILED or failure is None or outcome.common.yours:
        return outcome
    own_settings, rows = outcome.common.own_settings, outcome.common.user_rows
    reason = _by_settings(outcome, failure, own_settings) if own_settings else ""
    reason = reason or (_by_file(failure, rows) if rows else "")
    return replace(outcome, evidence={**outcome.evidence, YOURS: {"reason": reason}}) if reason else outcome


def own_absent_component(outcome: Outcome) -> str:
    """Which setting of the user's names a component that the release lacks; empty where that is another variant's too.

    What the harness's own variants name is in `FIRST`: a release without it is older than it.
    """
    own, absent = outcome.common.own_settings, outcome.common.absent
    table, _, name = absent.partition("/")
    if own is None or not name or absent in FIRST:
        return ""
    path = next((path for path, value in own.settings.items() if value == name), "")
    if not path:
        return ""
    near = difflib.get_close_matches(
        name, [known.partition("/")[2] for known in FIRST if known.startswith(f"{table}/")]
    )
    meant = f'; did you mean "{near[0]}"?' if near else "."
    return f"{own.file} sets `{path}: {name}`, which {outcome.cell.release} does not have{meant}"


def _by_settings(outcome: Outcome, failure: Failure, own_settings: OwnSettings) -> str:
    file = own_settings.file
    control = outcome.training_evidence.control if outcome.training_evidence else None
    if control and control.failure == failure.signature:
        return ""
    for path, value in own_settings.settings.items():
        # A key that stock input has too says nothing: with it the release is given the same key.
        if names_setting(failure, path, value, by_key=path not in own_settings.shared):
            near = own_settings.near.get(path)
            meant = f'; did you mean "{near}"?' if near else ""
            return f"{file} sets `{path}: {value}`, which the release ends at: {_exception_in_words(failure)}{meant}"
    if control and control.failure is None and (control.finite is None or _diverged(failure, control)):
        listed = ", ".join(f"`{path}`" for path in own_settings.settings)
        return f"it ends so with the settings of {file} ({listed}) and not without them: {_exception_in_words(failure)}"
    return ""


def _diverged(failure: Failure, control: Control) -> bool:
    """Whether a training broke off or its losses ran away, where without the user's settings they do not.

    What other trainings of the check showed, and what does not follow from losses, is not the user's.
    """
    if not control.finite:
        return False
    kind, _, parts = failure.signature.partition("@")
    unmet = frozenset(parts.split("+"))
    return kind != "NotTrained" or ("losses" in unmet and not unmet & _NOT_OF_LOSSES)


def names_setting(failure: Failure, path: str, value: object, *, by_key: bool = True) -> bool:
    """Whether an exception names a setting: its key's last part, if `by_key`, or its text, in quotes."""
    if _OWN_FINDINGS.match(failure.signature):
        # A start that is missing, and nothing else wrong: the only finding of the harness's own that is a user's doing.
        missing = "`init_param`" in failure.message and "does not exist" in failure.message
        return path == "init_param" and missing and failure.signature == "NotTrained@start"
    keys = [path.rpartition(".")[2]] if by_key else []
    words = [*keys, *([value] if isinstance(value, str) and len(value) > 1 else [])]
    if failure.type == "NameError" and isinstance(value, str):
        words += re.findall(r"[A-Za-z_]\w*", value)
    quoted = set(re.findall(r"""['"`]([^'"`]+)['"`]""", failure.message))
    if any(word in quoted or failure.message == word for word in words):
        return True
    if (
        keys
        and failure.type == "AssertionError"
        and failure.frames
        and _is_about_configuration(failure.frames[-1].file)
    ):
        # The message of a bare assertion is its code.
        return keys[0] in re.findall(r"[A-Za-z_]\w*", failure.message)
    return isinstance(value, str) and "/" in value and PurePosixPath(value).name in failure.message


def _is_about_configuration(file: str) -> bool:
    return file.startswith(("funasr/bin/", "funasr/train_utils/"))


def _by_file(failure: Failure, rows: UserRows) -> str:
    if _OWN_FINDINGS.match(failure.signature):
        return ""
    name = rows.file
    if name in failure.message:
        return f"the release ends at {name}: {_exception_in_words(failure)}"
    recording = _RECORDING.search(failure.message)
    if recording:
        file = PurePosixPath(recording[0]).name
        return f"the release ends at a recording that {name} lists, {file}: {_exception_in_words(failure)}"
    return ""


def _exception_in_words(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}"
