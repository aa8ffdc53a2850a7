"""What the steps of a log show: losses that are no numbers, rates never reached, nothing learned, nothing validated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from harness.core.cells import Severity
from harness.explain.errors_of_log import PREFLIGHT
from harness.explain.explanation import LogExplanation, Owner, silent_fault
from harness.explain.own_texts import OwnTexts
from harness.explain.silent_texts import not_learning
from harness.explain.training_lines import EpochOf, TrainingRecord
from harness.text.units import count, plural

FEWEST_STEPS = 10
"""Steps of a finished training below which nothing is said of its losses and rates."""
FEWEST_EPOCHS = 3
STANDS_STILL = 0.98
"""Of the first epoch's mean training loss: a finished training whose last epoch is above it has not learned, if its
accuracy is low too. Continued training of a good model stands still as well, and its accuracy is high."""
RISES = 1.1
LOW_ACCURACY = 0.5
NO_ACCURACY = 0.005
MANY_SKIPPED = 0.2
"""Share of steps with a gradient norm that is no number; fp16's scaler skips a few at its start."""
GROWS = 1.5
"""Of the memory that stays allocated, from the first epoch to the last, rising in each."""


def faults_of_steps(record: TrainingRecord, texts: OwnTexts | None = None) -> Iterator[LogExplanation]:
    """What is wrong with the steps that a log shows; more can be said with the texts of the training."""
    yield from _losses(record)
    rates = list(_rates(record))
    yield from rates
    if not rates and not record.broken_losses:
        at_baseline = list(not_learning(record, texts)) if texts and _finished(record) else []
        yield from at_baseline or _learning(record)
    yield from _validation(record)
    yield from _memory(record)


def _losses(record: TrainingRecord) -> Iterator[LogExplanation]:
    broken = sum(record.broken_losses.values())
    if broken and record.first_broken:
        kinds = " and ".join(record.broken_losses)
        epoch, step = record.first_broken
        yield silent_fault(
            "loss-no-number",
            f"The loss is {kinds} in {count(broken)} of {count(record.steps)} logged steps, first in epoch {epoch}, "
            f"step {step}",
            owner=Owner.UNKNOWN,
            severity=Severity.BROKEN,
            remedy="A log does not show why. Look at the losses and the learning rate before that step; with "
            "use_fp16 try "
            "use_bf16; `preflight` reads the recordings and the features' statistics.",
            commands=(PREFLIGHT,),
            evidence=tuple(_before(record, epoch)),
        )
    if record.bad_norms and record.bad_norms >= max(3, MANY_SKIPPED * record.steps):
        yield silent_fault(
            "steps-skipped",
            f"{plural(record.bad_norms, 'step')} changed nothing: the gradient's norm was no number",
            owner=Owner.UNKNOWN,
            remedy="A log does not show why the gradients overflow; with use_fp16 try use_bf16, or a lower "
            "optim_conf.lr.",
        )


def _before(record: TrainingRecord, epoch: int) -> Iterator[str]:
    epoch_record = record.train.get(epoch)
    if epoch_record and epoch_record.rate_last is not None:
        yield f"learning rate in that epoch: {epoch_record.rate_first:.3g} to {epoch_record.rate_last:.3g}"
    if epoch_record and epoch_record.loss is not None:
        yield f"mean of that epoch's losses that are numbers: {epoch_record.loss:.3f}"


def _finished(record: TrainingRecord) -> bool:
    """Whether the training came to its end: then what it did not reach it will not reach."""
    last = max(record.train, default=-1)
    completed = record.averaged or (record.epochs is not None and last >= record.epochs - 1 and record.saved >= 1)
    return completed and record.steps >= FEWEST_STEPS


def _rates(record: TrainingRecord) -> Iterator[LogExplanation]:
    if record.rates >= FEWEST_EPOCHS and record.rate_highest == 0:
        yield silent_fault(
            "rate-zero",
            f"The learning rate is 0 in all {count(record.rates)} logged steps",
            severity=Severity.BROKEN,
            cause="A step with a rate of 0 changes no weight.",
            remedy="Set ++optim_conf.lr, such as 0.0002, and look at scheduler_conf.",
            commands=(PREFLIGHT,),
        )
        return
    epochs = [epoch for epoch in record.train.values() if epoch.rate_first is not None and epoch.rate_last is not None]
    if not _finished(record) or len(epochs) < 2 or record.rate_highest is None:
        return
    rises = all(_rises(epoch) for epoch in epochs) and all(
        (a.rate_last or 0) < (b.rate_first or 0) for a, b in pairwise(epochs)
    )
    if rises and epochs[-1].rate_last == record.rate_highest:
        planned = record.rate_configured or _planned(record)
        steps = f" of {count(record.warm_up)} steps" if record.warm_up else ""
        yield silent_fault(
            "rate-never-reached",
            f"The learning rate was still rising when the training ended: {record.rate_highest:.3g} at most"
            + (f" of {planned:.3g}" if planned else ""),
            cause=f"The warm-up{steps} (scheduler_conf.warmup_steps) is longer than the whole training, so "
            "optim_conf.lr was never reached.",
            remedy="Set ++scheduler_conf.warmup_steps to a tenth of the training's steps.",
            commands=(PREFLIGHT,),
            evidence=tuple(_progress(record)),
        )


def _rises(epoch: EpochOf) -> bool:
    return epoch.steps == 1 or (epoch.rate_first or 0) < (epoch.rate_last or 0)


def _planned(record: TrainingRecord) -> float | None:
    match = re.search(r"optim_conf\.lr=([\d.eE+-]+)", record.overrides)
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


def _progress(record: TrainingRecord) -> Iterator[str]:
    first, last = next(iter(record.train.values())), list(record.train.values())[-1]
    if first.loss is not None and last.loss is not None:
        yield f"mean training loss {first.loss:.3f} in the first epoch, {last.loss:.3f} in the last"
    if last.accuracy is not None:
        yield f"accuracy {first.accuracy or 0:.3f} in the first epoch, {last.accuracy:.3f} in the last"


def _learning(record: TrainingRecord) -> Iterator[LogExplanation]:
    epochs = list(record.train.values())
    frozen = _constant_validation(record)
    if frozen is not None:
        yield silent_fault(
            "nothing-changes",
            f"The validation's loss is {frozen:.3f} in all {len(record.valid)} validations: the weights do not change",
            owner=Owner.UNKNOWN,
            severity=Severity.BROKEN,
            remedy="A log does not show why: look at freeze_param, lora_only and the learning rate.",
            commands=(PREFLIGHT,),
            evidence=tuple(_progress(record)),
        )
        return
    if not _finished(record) or len(epochs) < FEWEST_EPOCHS:
        return
    first, last = epochs[0], epochs[-1]
    accuracy = last.accuracy
    if first.loss is not None and last.loss is not None and first.loss > 0 and last.loss > RISES * first.loss:
        yield silent_fault(
            "loss-rises",
            f"The training loss rises: {first.loss:.3f} in the first epoch, {last.loss:.3f} in the last",
            owner=Owner.UNKNOWN,
            remedy="A log does not show why; try a tenth of optim_conf.lr.",
            commands=(PREFLIGHT,),
        )
    elif _stands_still(first, last):
        yield silent_fault(
            "loss-stands-still",
            f"The training loss does not fall: {first.loss:.3f} in the first epoch, {last.loss:.3f} in the "
            "last, with an "
            f"accuracy of {accuracy or 0:.3f}",
            owner=Owner.UNKNOWN,
            remedy="A log does not show why. `preflight` compares rows, token list, weights and rate with one another.",
            commands=(PREFLIGHT,),
        )
    elif accuracy is not None and accuracy < NO_ACCURACY:
        yield silent_fault(
            "accuracy-zero",
            f"The accuracy is {accuracy:.3f} in the last epoch: hardly any token is right",
            owner=Owner.UNKNOWN,
            remedy="A log does not show why. `preflight` compares rows, token list, weights and rate with one another.",
            commands=(PREFLIGHT,),
            evidence=tuple(_progress(record)),
        )


def _stands_still(first: EpochOf, last: EpochOf) -> bool:
    if first.loss is None or last.loss is None or first.loss <= 0 or last.accuracy is None:
        return False
    return last.loss >= STANDS_STILL * first.loss and last.accuracy < LOW_ACCURACY


def _constant_validation(record: TrainingRecord) -> float | None:
    """The validation's loss where it is the same number in every one of several epochs."""
    losses = [round(epoch.loss, 3) if epoch.loss is not None else None for epoch in record.valid.values()]
    steps = {epoch.steps for epoch in record.valid.values()}
    if len(losses) < FEWEST_EPOCHS or len(set(losses)) != 1 or len(steps) != 1 or losses[0] in (None, 0.0):
        return None
    return losses[0]


def _validation(record: TrainingRecord) -> Iterator[LogExplanation]:
    computed = "acc" in record.statistics
    ranked = set(record.best_accuracies)
    if record.statistics and not computed and ranked and ranked <= {"0.0000", "0.0"}:
        named = [name for name in record.statistics if name not in ("loss", "batch_size")]
        yield silent_fault(
            "accuracy-never-computed",
            "`acc` stays 0 because this model does not compute it: model.pt.best and the average mean nothing",
            owner=Owner.FUNASR,
            cause="The trainer ranks checkpoints by the statistic `acc`, and the model reports others: every "
            "value is 0, "
            "so each checkpoint in turn is the best.",
            remedy="Start again in a new output_dir with ++train_conf.avg_keep_nbest_models_type=loss; of "
            "this training "
            "choose a checkpoint by its validation loss.",
            evidence=(f"the model reports {', '.join(named)}",),
        )
    without = record.entered["Train"] >= 2 and record.saved >= 2 and not record.entered["Validate"]
    if without and not record.valid:
        yield silent_fault(
            "never-validated",
            f"{plural(record.saved, 'checkpoint')} {'was' if record.saved == 1 else 'were'} saved, and no "
            "validation ran",
            owner=Owner.UNKNOWN,
            remedy="Which checkpoint is the best is not known; compare them on your own validation set.",
        )


def _memory(record: TrainingRecord) -> Iterator[LogExplanation]:
    used = [epoch.memory for epoch in record.train.values() if epoch.memory > 0]
    if len(used) < FEWEST_EPOCHS or not all(a < b for a, b in pairwise(used)):
        return
    if used[-1] > GROWS * used[0]:
        yield silent_fault(
            "memory-grows",
            f"The memory that stays allocated on the GPU grows in each epoch: {used[0]:.1f} GB to {used[-1]:.1f} GB",
            owner=Owner.UNKNOWN,
            remedy="A log does not show what keeps it. Watch the training: funasr-harness watch -- bash finetune.sh",
        )
