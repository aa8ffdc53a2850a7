"""`preflight --dry-run`: the release's own trainer takes a few steps on the user's rows, from the user's weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.core.cells import Device, Outcome, Severity, Status
from harness.preflight.dry_run.dry_run_answer import DryRun
from harness.preflight.dry_run.dry_run_failure import OUT_OF_MEMORY, culprit, of_this_machine, too_large_for_the_card
from harness.preflight.dry_run.dry_run_findings import facts, of_start, of_steps
from harness.preflight.dry_run.dry_run_refusals import not_tried
from harness.preflight.dry_run.dry_run_request import (
    Changes,
    Checkpoint,
    changes_of,
    checkpoint_of,
    gpu_name,
    request_for,
)
from harness.preflight.dry_run.dry_run_sample import ROWS, Sample, read_sample
from harness.preflight.findings import Place, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ReleaseQuestion, ask_release, measured
from harness.preflight.rows.data_files import DataSets, data_sets
from harness.run.progress import stage
from harness.worker.trainer.options import trainer_options

SECONDS = 600.0
MEMORY_BYTES = 8 << 30
MEMORY_BESIDE_A_GPU_BYTES = 16 << 30
"""Of the host: the whole model is there, and CUDA's libraries."""


@dataclass(frozen=True, kw_only=True)
class DryRunPlan:
    """What is tried."""

    entry: str
    train: Sample
    valid: Sample | None
    changes: Changes
    checkpoint: Checkpoint
    question: ReleaseQuestion


def check(inputs: Inputs) -> PreflightPart:
    """Findings of a short training; nothing of the user's is written."""
    if not inputs.dry_run:
        return PreflightPart()
    dry_run_plan = plan(inputs)
    if isinstance(dry_run_plan, str):
        return PreflightPart(skipped=f"dry run: {dry_run_plan}")
    with stage(f"training on {len(dry_run_plan.train.rows)} rows with FunASR {inputs.release.label}"):
        outcome = ask_release(inputs, dry_run_plan.question)
    return judged(inputs, dry_run_plan, outcome)


def plan(inputs: Inputs) -> DryRunPlan | str:
    """What is to be tried, or why nothing can be."""
    sets = data_sets(inputs)
    rows = sets.of("train")
    if rows is None:
        return "no training rows can be read (--train)"
    try:
        train = read_sample(rows.files, inputs.root)
    except OSError as error:
        return f"{rows.name} cannot be read: {error}"
    if not any(row.readable for row in train.rows):
        return f"no row of {rows.name} has a recording that exists"
    if refused := not_tried(inputs):
        return refused
    entry = inputs.command.entry
    if entry is None:
        entry = trainer_options(str(inputs.install_dir), inputs.release.version, "train_ds").native_entry
    if not (inputs.install_dir / "funasr" / "bin" / f"{entry}.py").is_file():
        return f"this release has no {entry}.py"
    valid, remarks = _validation(inputs, sets, train)
    # Earlier samplers drop the last batch: there must be two of either set.
    changes = changes_of(inputs, min(len(sample.rows) for sample in (train, valid) if sample is not None))
    changes = replace(changes, said=(*changes.said, *remarks))
    checkpoint = checkpoint_of(inputs)
    question = ReleaseQuestion(
        name="preflight.dry_run",
        device=inputs.device,
        request=request_for(inputs, entry, train, valid, checkpoint, changes),
        timeout_seconds=SECONDS,
        memory_bytes=MEMORY_BYTES if inputs.device is Device.CPU else MEMORY_BESIDE_A_GPU_BYTES,
        variables={"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"},
    )
    return DryRunPlan(entry=entry, train=train, valid=valid, changes=changes, checkpoint=checkpoint, question=question)


def _validation(inputs: Inputs, sets: DataSets, train: Sample) -> tuple[Sample | None, tuple[str, ...]]:
    """The rows to validate on, None where the command has none that can be read; and what is to be said of them."""
    rows = sets.of("valid")
    if rows is not None:
        try:
            full_sample = read_sample(rows.files, inputs.root, most=ROWS)
        except OSError:
            return None, ()
        # Some releases draw validation batches by the number of training rows.
        most = len(train.rows) if full_sample.listed >= train.listed else max(1, min(full_sample.listed, ROWS // 2))
        return replace(full_sample, rows=full_sample.rows[:most]), ()
    if inputs.command.called and not any(setting.path == "valid_data_set_list" for setting in inputs.command.unvalued):
        return None, ()
    return train, ("validated on the same rows",)


def judged(inputs: Inputs, dry_run_plan: DryRunPlan, outcome: Outcome) -> PreflightPart:
    """What is wrong with what was tried."""
    if not measured(outcome):
        return _not_measured(inputs, outcome)
    answer = DryRun.from_json(outcome.evidence["preflight"])
    if answer.unreadable:
        return PreflightPart(
            skipped=f"dry run: the checkpoint cannot be read without running code: {answer.unreadable}"
        )
    findings: list[PreflightFinding] = []
    skipped = ""
    for training in (*answer.ended, answer.training):
        if training.failure is None:
            continue
        if training.status == OUT_OF_MEMORY:
            if inputs.device is Device.CUDA and inputs.card is None:
                findings.append(too_large_for_the_card(inputs, training))
            else:
                skipped = f"dry run: it does not fit the memory here ({training.failure.message[:200]})"
            continue
        if training.status == "errored" or of_this_machine(training.failure):
            skipped = f"dry run: it cannot run here ({training.failure.type}: {training.failure.message[:200]})"
            continue
        findings.append(culprit(inputs, dry_run_plan.entry, training, dry_run_plan.train, dry_run_plan.valid))
    findings += of_start(inputs, answer, dry_run_plan.checkpoint)
    if answer.training.failure is None:
        findings += of_steps(inputs, answer.training)
    measured_facts = facts(
        answer,
        sampled=len(dry_run_plan.train.rows),
        listed=dry_run_plan.train.listed,
        changed=dry_run_plan.changes.said,
        gpu=gpu_name(inputs) if inputs.device is Device.CUDA else None,
    )
    return PreflightPart(findings=tuple(findings), facts=tuple(measured_facts), skipped=skipped)


def _not_measured(inputs: Inputs, outcome: Outcome) -> PreflightPart:
    if outcome.status is Status.FAILED:
        finding = PreflightFinding(
            severity=Severity.BROKEN,
            rule="training-ends",
            message=f"the release cannot be imported for a training: {outcome.reason}",
            place=Place(file=str(inputs.model)),
        )
        return PreflightPart(findings=(finding,))
    return PreflightPart(skipped=f"dry run: {outcome.status.replace('_', ' ')}: {outcome.reason}")
