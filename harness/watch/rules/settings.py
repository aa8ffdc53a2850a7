"""The settings in force in a watched training, as the rules need them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.numbers import mapping, number
from harness.watch.records import TrainingStarted


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """Numbers of the configuration in force; None where it does not have them."""

    max_epoch: int | None
    accum_grad: int
    grad_clip: float | None
    learning_rate: float | None
    scheduler: str
    warmup_steps: float | None
    chosen_by: str
    """The statistic by which the trainer chooses the best model: `acc` or `loss`. Empty where the trainer holds none:
    releases up to 1.0.18 do not choose by one."""
    patience: float | None
    """Of early stopping."""
    train_conf: Mapping[str, object]

    @classmethod
    def of(cls, training: TrainingStarted) -> WatchSettings:
        """From the recorded configuration."""
        in_force = training.in_force
        train = mapping(in_force.get("train_conf"))
        optimizer, scheduler = mapping(in_force.get("optim_conf")), mapping(in_force.get("scheduler_conf"))

        def of_trainer(name: str) -> float | None:
            return number(in_force.get(name, train.get(name)))

        epochs, accumulated = of_trainer("max_epoch"), of_trainer("accum_grad")
        return cls(
            max_epoch=int(epochs) if epochs is not None else None,
            accum_grad=max(1, int(accumulated or 1)),
            grad_clip=of_trainer("grad_clip"),
            learning_rate=number(optimizer.get("lr")),
            scheduler=str(in_force.get("scheduler") or ""),
            warmup_steps=number(scheduler.get("warmup_steps")),
            chosen_by=str(in_force.get("avg_keep_nbest_models_type") or ""),
            patience=number(train.get("early_stopping_patience")),
            train_conf=train,
        )


def planned_steps(training: TrainingStarted) -> int | None:
    """Optimizer steps of the whole training in each rank, from where it started."""
    settings = WatchSettings.of(training)
    if training.batches is None or settings.max_epoch is None:
        return None
    epochs = settings.max_epoch - training.first_epoch
    return max(0, epochs) * (training.batches // settings.accum_grad)


def uniform_loss(training: TrainingStarted) -> float | None:
    """The label-smoothing loss, in nats per token, of a prediction that gives each class the same score.

    ln V less the entropy of a smoothed target, which the loss leaves out (see `harness/rules/unigram.py`).
    """
    classes, smoothing = training.vocabulary, training.label_smoothing
    if classes is None or classes < 2 or smoothing is None or not 0.0 <= smoothing < 1.0:
        return None
    confidence = 1.0 - smoothing
    entropy = confidence * math.log(confidence)
    if smoothing:
        entropy += smoothing * math.log(smoothing / (classes - 1))
    return math.log(classes) + entropy
