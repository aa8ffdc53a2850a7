"""The static reading confirmed: the release builds model, data and trainer, and the keys that it reads are recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.core.errors import HarnessError
from harness.preflight.findings import PreflightFact, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.keys import check as static
from harness.preflight.keys.check import entry_of
from harness.preflight.keys.follow import read_keys
from harness.preflight.release.release_questions import ReleaseQuestion, ask_release, measured

_SET_BY_US = frozenset(
    {"model", "train_data_set_list", "valid_data_set_list", "init_param", "output_dir", "device", "trust_remote_code"}
)


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What was read, seen from both sides."""

    recorded: frozenset[str]
    """Keys that the release read while it ran, up to the first step."""
    missed: frozenset[str]
    """Settings among them that the static reading holds for unread: each would be a false accusation."""
    ended: str
    """`stopped` where all was built; otherwise the exception."""


def check(inputs: Inputs) -> PreflightPart:
    """The findings about keys; with `--dry-run` none about a key that the release is seen to read."""
    part = static.check(inputs)
    if not inputs.dry_run or part.skipped:
        return part
    try:
        confirmed = confirm(inputs)
    except HarnessError as error:
        return replace(part, facts=(*part.facts, _fact(f"not observed: {error}")))
    remaining = (
        finding for finding in part.findings if finding.rule != _UNREAD or finding.place.key not in confirmed.recorded
    )
    return replace(
        part,
        findings=tuple(remaining),
        facts=(*part.facts, _fact(f"{len(confirmed.recorded)}, by running it", detail=True)),
    )


_UNREAD = "key-without-effect"


def _fact(value: str, *, detail: bool = False) -> PreflightFact:
    return PreflightFact(section="settings", label="keys read up to the first step", value=value, detail=detail)


def dry_run_question(inputs: Inputs) -> ReleaseQuestion | None:
    """The measurement, made with `--dry-run`."""
    return question(inputs) if inputs.dry_run else None


def question(inputs: Inputs) -> ReleaseQuestion:
    """The measurement: no step is taken, no weights are loaded, nothing of the user's is written."""
    reading = read_keys(inputs.code, entry_of(inputs), inputs.settings, inputs.config, cache=inputs.cache)
    overrides: dict[str, Any] = {
        setting.path: setting.value
        for setting in inputs.command.overrides
        if setting.path.split(".")[0] not in _SET_BY_US
    }
    settings: Mapping[str, Any] = {
        "class": str(inputs.config.get("model")),
        "overrides": {**overrides, "model": str(inputs.model)},
        "plain": sorted(reading.fixed),
    }
    return ReleaseQuestion(
        name="preflight.keys_read", request={"entry": entry_of(inputs), "settings": json.dumps(settings)}
    )


def confirm(inputs: Inputs) -> Confirmed:
    """Run the release up to the first step, and compare the keys that it read with the static reading.

    Raises:
        HarnessError: the release could not be run.
    """
    outcome = ask_release(inputs, question(inputs))
    if not measured(outcome):
        raise HarnessError(f"keys: {outcome.reason or outcome.failure}")
    measured_keys = outcome.evidence["preflight"]
    reading = read_keys(inputs.code, entry_of(inputs), inputs.settings, inputs.config, cache=inputs.cache)
    recorded = frozenset(measured_keys["read"])
    missed = frozenset(
        setting.path for setting in inputs.settings if setting.path in recorded and not reading.is_read(setting.path)
    )
    return Confirmed(recorded=recorded, missed=missed, ended=measured_keys["ended"])
