"""What a `finetune` cell reports of a training, sound or with one thing wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from parsed import criterion_of, targets_of

from harness.rules.recipe import warmup_rate
from harness.rules.unigram import Unigram, step_losses

ROWS = [[5, 6, 7, 2], [8, 9, 2], [5, 10, 11, 12, 2], [13, 14, 2]]
"""Utterances of 15 tokens altogether, the last of each the end of the sentence: always saying that gets 4 right."""
CRITERION = {"classes": 8404, "smoothing": 0.1, "normalize_length": True}
STEPS_AN_EPOCH = 2
FALLING = (2.4, 1.3, 0.6, 0.4, 0.3, 0.2)
"""Epochs' losses over the constant prediction's."""
RISING = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8)
"""Epochs' accuracies."""


def constant_loss() -> float:
    """What the constant prediction costs on the batch of all rows, which every step has."""
    targets = targets_of({"rows": ROWS, "steps": [[[0, 1, 2, 3]]]})
    criterion = criterion_of(CRITERION)
    assert targets is not None
    assert criterion is not None
    return step_losses(Unigram.of(criterion, targets.counts()), targets)[0]


def seed_training(
    seed: int = 0, epochs: Sequence[float] = FALLING, accuracies: Sequence[float] = RISING, **changed: Any
) -> dict[str, Any]:
    """One seed's training, of `STEPS_AN_EPOCH` steps an epoch, each on all rows."""
    steps = len(epochs) * STEPS_AN_EPOCH
    bound = constant_loss()
    return {
        "seed": seed,
        "criterion": CRITERION,
        "targets": {"rows": ROWS, "steps": [[[0, 1, 2, 3]]] * steps},
        "steps_of_epochs": [STEPS_AN_EPOCH] * len(epochs),
        "stats": {
            "loss_att": [bound * value * factor for value in epochs for factor in (0.9, 1.1)],
            "acc": [value for value in accuracies for _ in range(STEPS_AN_EPOCH)],
        },
        **changed,
    }


def heard(own: Sequence[int] = (3, 3), *, mode: str = "evaluation", texts: int = 12, **changed: Any) -> dict[str, Any]:
    """What is recorded of a model that hears; in one mode each text's own speech scores `own`, by halves."""
    sound = {"own": [[3, 2]] * texts, "others": [[[0, 1]] * texts] * 3, "silence": [[1, 0]] * texts}
    return {
        "of": "held_out",
        "score": "tokens",
        "tokens": [[3, 3]] * texts,
        "modes": {"evaluation": sound, "training": sound, mode: {**sound, "own": [list(own)] * texts}},
        **changed,
    }


def invariants(steps: int = 12, **changed: Any) -> dict[str, Any]:
    """What is reported beside the curves of a trainer that keeps its invariants."""
    return {
        "learning_rate": 0.002,
        "warmup_steps": 8,
        "gradient_clip": 5,
        "trainable_parameters": 80,
        "without_gradient": [],
        "not_in_optimizer": [],
        "not_from_checkpoint": [],
        "norms_before_steps": [
            {"step": 0, "norm": 5.0000001, "found_by_clipping": 11.1},
            {"step": 1, "norm": 4.2, "found_by_clipping": 4.2},
        ],
        "steps_begun_with_gradients": [],
        "log_lines": steps,
        "log_differences": {"loss_att": 0.00049, "returned loss": 0.0005},
        "loss_difference": 0.0,
        "listed": [STEPS_AN_EPOCH] * len(ROWS),
        "idle_seconds": [0.004] * steps,
        "running_seconds": [0.3] * steps,
        **changed,
    }


def metrics(
    trainings: Sequence[dict[str, Any]] | None = None, *, observed: dict[str, Any] | None = None, **changed: Any
) -> dict[str, Any]:
    """The metrics of a cell; those of the first seed besides."""
    seeds = [seed_training()] if trainings is None else list(trainings)
    first = seeds[0] if seeds else seed_training()
    losses = [value + 0.5 for value in first["stats"]["loss_att"]]
    return {
        "steps": len(losses),
        "steps_expected": len(losses),
        "epochs": len(first["steps_of_epochs"]),
        "epochs_expected": len(first["steps_of_epochs"]),
        "losses": losses,
        "epoch_losses": [math.fsum(losses[at : at + 2]) / 2 for at in range(0, len(losses), 2)],
        "learning_rates": [warmup_rate(0.002, 8, step + 1) for step in range(len(losses))],
        "held_bytes": [700 * 2**20] * len(losses),
        "relative_change_by_group": {"encoder": 0.02, "predictor": 0.03, "decoder": 0.05, "other": 0.0},
        "accuracy_recomputed": first["stats"]["acc"],
        **{name: first[name] for name in ("stats", "targets", "criterion", "steps_of_epochs")},
        "invariants": invariants(len(losses)) if observed is None else observed,
        "trainings": seeds,
        **changed,
    }
