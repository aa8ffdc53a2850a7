"""How the committed run of every release ended for a model: `reports/atlas`."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.built_in import committed_reports
from harness.core.cells import Check, Outcome, Severity, Status
from harness.preflight.all_releases.release_table import ReleaseReason
from harness.preflight.inputs import Inputs
from harness.preflight.release.known import variants_of
from harness.run.archive import holds_run
from harness.run.store import load_run

ATLAS = committed_reports() / "atlas"
_TRIED = (Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE)
_ENDED = (Status.FAILED, Status.CRASHED, Status.TIMED_OUT)


def has_atlas() -> bool:
    """Whether the committed run is at hand."""
    return holds_run(ATLAS)


def recorded_reasons(inputs: Inputs) -> Mapping[str, tuple[ReleaseReason, ...]]:
    """By release, how the run ended for the model, where a training could not be done."""
    variants = variants_of(inputs.config)
    if not variants or not has_atlas():
        return {}
    reasons_by_release: dict[str, dict[str, ReleaseReason]] = {}
    for outcome in load_run(ATLAS, only=lambda name: name.split("/")[1] in variants).outcomes:
        if outcome.cell.variant in variants and _ends_training(outcome, inputs.command.entry):
            signature = outcome.failure.signature if outcome.failure else str(outcome.status)
            reason = ReleaseReason(
                severity=Severity.BROKEN,
                rule=signature,
                text=f"its training ended with {signature} in the harness's own run",
            )
            reasons_by_release.setdefault(outcome.cell.release, {}).setdefault(signature, reason)
    return {release: tuple(all_.values())[:1] for release, all_ in reasons_by_release.items()}


def _ends_training(outcome: Outcome, entry: str | None) -> bool:
    cell = outcome.cell
    if cell.check not in _TRIED or outcome.status not in _ENDED or (entry and cell.entry not in (None, entry)):
        return False
    # That it trained otherwise than configured is what known issues and the other parts report.
    return outcome.failure is None or not outcome.failure.signature.startswith("NotTrained@")
