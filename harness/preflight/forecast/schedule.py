"""What the training will do: steps, learning rates, validations, checkpoints, a resume; and where that is not training.

The numbers of batches are the release's own, see `harness.preflight.rows.measured`; the learning rates come from its
scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.forecast.checkpoints import about_disk, checkpoint_facts
from harness.preflight.inputs import Inputs
from harness.preflight.rows.data_files import named
from harness.preflight.rows.measured import Arrivals, Measurement, Steps, entry_of, measure, output_folder
from harness.text.units import plural
from harness.worker.trainer import options

SECTION = "schedule"

NEAR_PEAK = 0.9
"""A warm-up that ends at such a share of the configured rate, or above it, is as good as complete."""

_MANY_EXAMPLES = 1000
"""Rows in a batch that nobody means: a number of frames with batches by example."""

_BATCH_TYPES = {
    "example": "{size} {rows}, whatever the length",
    "length": "{size} frames of 10 ms: the longest row's source_len × rows is at most that",
    "token": "{size} frames of 10 ms: the longest row's source_len × rows is at most that",
}


def check(inputs: Inputs) -> PreflightPart:
    """Facts about the whole training, and findings where it takes no step, or not the steps that are configured."""
    if not named(inputs, "train"):
        return PreflightPart(skipped="The schedule was not computed: no training set is named (--train train.jsonl).")
    measurement = measure(inputs)
    arrivals = measurement.arrivals
    if arrivals is None or arrivals.failure is not None or arrivals.steps is None:
        return PreflightPart(
            findings=tuple(_resume(inputs, arrivals)),
            skipped="The schedule was not computed: the release made no batches of the rows.",
        )
    if arrivals.ended is not None or arrivals.valid_ended:
        return PreflightPart(
            findings=tuple(_resume(inputs, arrivals)),
            skipped="The schedule was not computed: the sampler ends the training, see the finding about it.",
        )
    steps = arrivals.steps
    findings = [*_no_steps(measurement, steps, inputs), *_resume(inputs, arrivals), *_batch_size(arrivals, inputs)]
    findings += [*_scheduler(arrivals, steps, inputs), *_slices(measurement, inputs)]
    findings += about_disk(inputs, steps)
    facts = (*_facts(arrivals, steps, inputs), *checkpoint_facts(inputs, steps))
    return PreflightPart(findings=tuple(findings), facts=facts)


def _number(inputs: Inputs, path: str, default: float) -> float:
    value = inputs.settings.get(path)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _no_steps(measurement: Measurement, steps: Steps, inputs: Inputs) -> Iterator[PreflightFinding]:
    """A training that ends without a step, and with exit status 0."""
    if steps.total:
        return
    arrivals, train = measurement.arrivals, measurement.train
    batches = sum(ranks[0].batches for ranks in arrivals.epochs) if arrivals is not None else 0
    if steps.epochs <= 0:
        why, place = f"max_epoch is {inputs.settings.get('train_conf.max_epoch')}", "train_conf.max_epoch"
        remedy = "++train_conf.max_epoch=50"
    elif batches:
        why = f"accum_grad ({steps.accumulation}) is larger than the number of batches in an epoch"
        place, remedy = "train_conf.accum_grad", "++train_conf.accum_grad=1"
    else:
        rows = train.count if train is not None else 0
        why = f"none of the {plural(rows, 'training row')} arrives in a batch"
        place, remedy = "train_data_set_list", "see the findings about the rows"
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="no-steps",
        message=f"the training takes no step: {why}. It writes checkpoints of the start weights and exits with 0",
        place=inputs.settings.place(place),
        evidence=(f"{plural(steps.epochs, 'epoch')}, {batches} batches, 0 optimizer steps",),
        remedy=remedy,
    )


def _resume(inputs: Inputs, arrivals: Arrivals | None) -> Iterator[PreflightFinding]:
    """A checkpoint in output_dir, from which the trainer continues instead of starting from the model's folder."""
    finished = arrivals.finished if arrivals is not None else None
    resumes = inputs.settings.get("train_conf.resume", inputs.settings.get("resume", True))
    if finished is None or not resumes:
        return
    folder = output_folder(inputs)
    if finished.get("epoch") is None:
        if "unreadable" not in finished:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="resume-no-checkpoint",
                message="the output folder holds a model.pt that no trainer saved: the trainer resumes from it and "
                "stops with KeyError: 'epoch'",
                place=inputs.settings.place("output_dir"),
                evidence=(f"model.pt in {folder.name} has no `epoch`",),
                remedy="++output_dir=A_NEW_FOLDER, not the model's own",
            )
        return
    epoch, last = int(finished["epoch"]), int(_number(inputs, "train_conf.max_epoch", 100))
    if epoch >= last:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="resume-finished",
            message=f"the output folder holds a training that ended after epoch {epoch}, and max_epoch is {last}: the "
            "trainer resumes there, takes no step and exits with 0",
            place=inputs.settings.place("output_dir"),
            evidence=(f"model.pt in {folder.name} is of epoch {epoch}",),
            remedy="++output_dir=A_NEW_FOLDER, or a larger ++train_conf.max_epoch",
        )
    else:
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="resume-continues",
            message=f"the output folder holds a checkpoint of epoch {epoch}: the training continues from it, with its "
            "optimizer, and not from the model's folder",
            place=inputs.settings.place("output_dir"),
            evidence=(f"model.pt in {folder.name} is of epoch {epoch}; max_epoch is {last}",),
            remedy="++output_dir=A_NEW_FOLDER to start from the model's folder",
        )


def _batch_size(arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    """A batch size in the other unit: rows where frames are meant, frames where rows are."""
    kind = str(inputs.settings.get("dataset_conf.batch_type", "example"))
    size = _number(inputs, "dataset_conf.batch_size", 0)
    most = max((epoch.most for ranks in arrivals.epochs for epoch in ranks), default=0)
    place = inputs.settings.place("dataset_conf.batch_size")
    if kind == "example" and size >= _MANY_EXAMPLES:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="batch-size-of-frames",
            message=f"batch_size {size:g} counts rows, because batch_type is example: a batch has up to {most} rows",
            place=place,
            remedy="++dataset_conf.batch_type=token, if frames are meant; else such as ++dataset_conf.batch_size=16",
        )
    counted = [epoch for ranks in arrivals.epochs for epoch in ranks]
    alone = most == 1 and sum(epoch.rows for epoch in counted) > len(counted)
    if kind != "example" and 1 < size <= 200 and alone:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="batch-size-of-rows",
            message=f"batch_size {size:g} counts frames of 10 ms, because batch_type is {kind}: a batch has one row",
            place=place,
            remedy="++dataset_conf.batch_type=example, if rows are meant; else such as ++dataset_conf.batch_size=6000",
        )


def _slices(measurement: Measurement, inputs: Inputs) -> Iterator[PreflightFinding]:
    """`data_split_num` with one jsonl, which is no list to be read in slices."""
    path = "dataset_conf.data_split_num"
    setting, train = inputs.settings.by_path.get(path), measurement.train
    count = int(_number(inputs, path, 1))
    if setting is None or count <= 1 or train is None or train.data.listed:
        return
    if not options.dataset_options(str(inputs.install_dir)).list_files:
        return
    yield PreflightFinding(
        # SenseVoice's own config has 32, and its finetune.sh sets 1.
        severity=Severity.WRONG if setting.from_command else Severity.MINOR,
        rule="epoch-repeats-file",
        message=f"data_split_num {count} reads a list of files in {count} slices; one jsonl is read whole for each of "
        f"them: every epoch trains {count} times on every row",
        place=setting.place,
        remedy=f"++{path}=1",
    )


def _scheduler(arrivals: Arrivals, steps: Steps, inputs: Inputs) -> Iterator[PreflightFinding]:
    """A scheduler that cannot be built, or a warm-up that the training does not reach the end of."""
    failure = arrivals.schedule_failure
    if failure is not None:
        return
    name = str(inputs.settings.get("scheduler", "warmuplr"))
    warmup = _number(inputs, "scheduler_conf.warmup_steps", 25000)
    rate = _number(inputs, "optim_conf.lr", 0.001)
    if name not in ("warmuplr", "noamlr", "custom_lambdalr") or not steps.total or not steps.rates:
        return
    path = "scheduler_conf.warmup_steps"
    setting = inputs.settings.by_path.get(path)
    peak = steps.highest or max(steps.rates)
    if steps.total >= warmup or name == "noamlr" or peak >= NEAR_PEAK * rate:
        return
    yield PreflightFinding(
        # As shipped, every training on a small set ends within the warm-up: that is how FunASR's recipe is.
        severity=Severity.WRONG if setting is not None and setting.from_command else Severity.MINOR,
        rule="warmup-longer-than-training",
        message=f"the warm-up takes {warmup:g} steps and the training {steps.total}: the rate never gets above "
        f"{peak:.2g}, {100 * peak / rate:.2g} % of the configured {rate:g}",
        place=inputs.settings.place(path),
        evidence=(f"{plural(steps.epochs, 'epoch')} of about {plural(steps.total // max(1, steps.epochs), 'step')}",),
        remedy=f"++{path}={max(1, steps.total // 10)}",
    )


def _facts(arrivals: Arrivals, steps: Steps, inputs: Inputs) -> Iterator[PreflightFact]:
    def fact(label: str, value: str) -> PreflightFact:
        return PreflightFact(section=SECTION, label=label, value=value)

    kind = str(inputs.settings.get("dataset_conf.batch_type", "example"))
    size = inputs.settings.get("dataset_conf.batch_size")
    if size is not None:
        means = _BATCH_TYPES.get(kind, "{size}").format(size=size, rows="row" if size == 1 else "rows")
        yield fact("batch size", f"{means} (batch_type {kind})")
    ranks = [rank_epoch for epoch in arrivals.epochs for rank_epoch in epoch if rank_epoch.batches]
    if ranks:
        fewest, most = min(rank_epoch.fewest for rank_epoch in ranks), max(rank_epoch.most for rank_epoch in ranks)
        rows = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        batch_counts = {rank_epoch.batches for rank_epoch in ranks}
        counts = (
            f"{max(batch_counts):,}" if len(batch_counts) == 1 else f"{min(batch_counts):,} to {max(batch_counts):,}"
        )
        per = f" in each of {inputs.processes} processes" if inputs.processes > 1 else ""
        yield fact("batches", f"{counts} in an epoch{per}, of {rows} {'row' if rows == '1' else 'rows'}")
    yield fact("steps", _steps_text(steps, inputs))
    if steps.rates:
        rates = dict(zip(steps.rates_at, steps.rates, strict=True))
        rates_in_words = ", ".join(f"{rate:.3g} at step {step:,}" for step, rate in rates.items())
        yield fact(
            "learning rate",
            f"{rates_in_words}; highest {steps.highest:.3g}" if steps.highest is not None else rates_in_words,
        )


def _steps_text(steps: Steps, inputs: Inputs) -> str:
    about = "" if steps.exact else "about "
    configured = inputs.settings.get("train_conf.max_epoch")
    more = (
        "" if configured is None or configured == steps.epochs else f" (max_epoch {_shown(configured)}, and one more)"
    )
    gathered = f", {steps.accumulation} batches each" if steps.accumulation > 1 else ""
    trainer = f"{entry_of(inputs)}.py"
    return f"{about}{steps.total:,} in {plural(steps.epochs, 'epoch')}{more}{gathered}; {trainer}"


def _shown(value: Any) -> str:
    return str(value)[:20]
