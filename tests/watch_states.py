"""States of watched trainings, made of records as the observers write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from harness.rules.recipe import warmup_rate
from harness.watch.examine import WatchFindings
from harness.watch.findings import WatchFinding
from harness.watch.records import (
    Ended,
    EpochEnded,
    Group,
    Memory,
    ProcessStarted,
    Saved,
    TrainingForward,
    TrainingStarted,
    TrainingStep,
    Validated,
)
from harness.watch.state import TrainingState

BASELINE = 5.0
IN_FORCE = {
    "source": "trainer",
    "optim": "adam",
    "optim_conf": {"lr": 0.002},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 40},
    "train_conf": {},
    "avg_keep_nbest_models_type": "acc",
    "max_epoch": 4,
    "accum_grad": 1,
    "grad_clip": 5,
}


def training(**changes: Any) -> TrainingStarted:
    """A Paraformer of 8404 tokens whose attention loss has a smoothing of 0.1."""
    given: dict[str, Any] = {
        "at": 1000.0,
        "trainer": "funasr.train_utils.trainer_ds.Trainer",
        "entry": "funasr/bin/train_ds.py",
        "model": "Paraformer",
        "device": "cpu",
        "wrapped": "",
        "in_force": IN_FORCE,
        "output_dir": "",
        "batches": 50,
        "rows": 400,
        "first_epoch": 0,
        "groups": (Group(name="encoder", parameters=10**7, trainable=10**7),),
        "optimizer": "Adam",
        "scheduler": "WarmupLR",
        "label_smoothing": 0.1,
        "normalize_length": True,
        "vocabulary": 8404,
        "initialised_from": "model.pt",
    }
    return TrainingStarted(**{**given, **changes})


def process(rank: int = 0, world: int = 1) -> ProcessStarted:
    """A process of one rank."""
    return ProcessStarted(
        at=999.0,
        format=1,
        host="host",
        pid=100 + rank,
        parent=1,
        rank=rank,
        local_rank=rank,
        world_size=world,
        argv=("train_ds.py",),
        working_directory="",
        python="3.11",
        torch="2.6",
        funasr="1.4.16",
        funasr_folder="",
    )


def falling(step: int) -> float:
    """The loss of a sound fine-tune: from half of the baseline to a fifth."""
    wave = 0.1 * math.sin(step * 12.9898)
    return BASELINE * (0.2 + 0.3 * math.exp(-step / 60)) + wave


def step(number: int, *, loss: float, batches: int = 50, **changes: Any) -> TrainingStep:
    """One step of a sound training, `number` from 1 on."""
    epoch = (number - 1) // batches
    passes = changes.pop("passes", 1)
    one = TrainingForward(
        loss=loss + 0.05,
        stats={"loss_att": loss, "acc": 0.5},
        utterances=8,
        frames=100,
        tokens=12,
        frames_used=700,
        tokens_used=80,
    )
    given: dict[str, Any] = {
        "at": 1000.0 + number,
        "step": number,
        "epoch": epoch,
        "skipped": False,
        "forwards": (one,) * passes,
        "learning_rates": (warmup_rate(0.002, 40, number),),
        "gradient_norm": 3.0 + math.sin(number),
        "clipped_at": 5.0,
        "scale": None,
        "seconds": {"data": 0.01, "forward": 0.4, "backward": 0.5, "optimizer": 0.05, "other": 0.04},
        "memory": Memory(resident=2 * 10**9 + 1000 * (number * 7919 % 13)),
        "unigram": BASELINE,
        "tokens_seen": 80 * number,
    }
    return TrainingStep(**{**given, **changes})


def state(
    steps: int = 200,
    *,
    loss: Callable[[int], float] = falling,
    of_step: Callable[[int], Mapping[str, Any]] = lambda _: {},
    ended: str | None = "finished",
    started: TrainingStarted | None = None,
    rank: int = 0,
    world: int = 1,
    into: TrainingState | None = None,
    without_statistics: bool = False,
) -> TrainingState:
    """A training of so many steps in epochs of 50, each validated and saved; `of_step` changes a step's fields."""
    found, file = into or TrainingState(), f"host-{100 + rank}.jsonl"
    begun = started or training()
    batches = begun.batches or 50
    found.add(file, process(rank, world))
    found.add(file, begun)
    for number in range(1, steps + 1):
        changed = dict(of_step(number))
        found.add(file, step(number, loss=changed.pop("loss", loss(number)), batches=batches, **changed))
        if number % batches == 0:
            epoch = number // batches - 1
            at = 1000.0 + number
            found.add(
                file,
                EpochEnded(
                    at=at, epoch=epoch, step=number, batches=batches, utterances=8 * batches, distinct=8 * batches
                ),
            )
            found.add(
                file,
                Validated(
                    at=at,
                    step=number,
                    epoch=epoch,
                    batches=3,
                    loss=1.0,
                    stats={} if without_statistics else {"acc": 0.6},
                    seconds=1.0,
                ),
            )
            found.add(
                file,
                Saved(
                    at=at,
                    step=number,
                    epoch=epoch,
                    path="model.pt.ep1",
                    bytes=10**6,
                    seconds=0.1,
                    tensors=10,
                    missing=(),
                    other_values=(),
                ),
            )
    if ended:
        found.add(file, Ended(at=2000.0, step=steps, epoch=3, how=ended, status=0, exception=""))
    return found


def examined(found: TrainingState, *, ended: bool = True) -> dict[str, WatchFinding]:
    """The findings by rule; a fault of a rule is raised."""
    findings = WatchFindings()
    findings.update(found, ended=ended)
    assert not findings.faults, findings.faults
    return findings.found
