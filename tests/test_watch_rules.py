"""The rules of `watch` on records: each fault is named with its severity, and sound neighbours are not."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.cells import Severity
from harness.rules.recipe import warmup_rate
from harness.watch.findings import WatchFinding
from harness.watch.records import (
    BatchUtterance,
    Ended,
    EpochEnded,
    Group,
    LoaderEnded,
    Memory,
    PostMortem,
    ReadBack,
    Saved,
    TrainingForward,
    TrainingStarted,
)
from harness.watch.state import TrainingState
from harness.watch.watching import of_folder
from tests.watch_states import BASELINE, IN_FORCE, examined, falling, process, state, step, training

MIB = 2**20


def in_force(**changes: Any) -> dict[str, Any]:
    return {"in_force": {**IN_FORCE, **changes}}


def noisy(level: float, spread: float = 0.1, seed: int = 0) -> Any:
    return lambda number: level + spread * random.Random(seed * 10**6 + number).gauss(0, 1)


def test_a_sound_training_has_no_finding() -> None:
    assert examined(state()) == {}
    assert examined(state(ended=None), ended=False) == {}


STARVED = {"data": 0.5, "forward": 0.3}


def accumulates_nothing() -> TrainingState:
    return state(started=training(**in_force(accum_grad=4)))


def leaking(number: int) -> dict[str, Any]:
    return {"memory": Memory(resident=10**9 + 20 * MIB * number)}


def left_out(number: int) -> dict[str, Any]:
    return {"skipped": True, "gradient_norm": math.inf} if number == 70 else {}


def averaged() -> TrainingState:
    found = state()
    one = Saved(
        at=1.0,
        step=200,
        epoch=3,
        path="exp/model.pt.avg10",
        bytes=1,
        seconds=0.1,
        tensors=9,
        missing=(),
        other_values=("a",),
    )
    found.add("host-100.jsonl", one)
    return found


def sound_states() -> dict[str, Callable[[], TrainingState]]:
    """Sound trainings in other configurations; none may be accused of anything above `minor`."""
    frozen = (Group(name="encoder", parameters=10**7, trainable=0), Group(name="decoder", parameters=5, trainable=5))
    adamw = training(**in_force(optim="adamw", grad_clip=1.0))
    long_warm_up = training(**in_force(scheduler_conf={"warmup_steps": 30000}))
    accumulating = training(**in_force(accum_grad=4), batches=50)
    resumed = training(first_epoch=2, **in_force())
    constant_rate = training(**in_force(scheduler="", scheduler_conf={}))
    by_loss = training(**in_force(avg_keep_nbest_models_type="loss"))
    no_clip = training(**in_force(grad_clip=0))
    from_scratch = training(initialised_from="")
    stepped_ahead = training()
    return {
        "adamw, another bound": lambda: state(started=adamw, of_step=lambda _: {"clipped_at": 1.0}),
        "frozen encoder": lambda: state(started=training(groups=frozen)),
        "warm-up beyond the end": lambda: state(
            started=long_warm_up, of_step=lambda n: {"learning_rates": (warmup_rate(0.002, 30000, n),)}
        ),
        "accumulation": lambda: state(started=accumulating, of_step=lambda _: {"passes": 4}),
        "resumed": lambda: state(
            100, started=resumed, of_step=lambda n: {"learning_rates": (warmup_rate(0.002, 40, n + 100),)}
        ),
        "constant rate": lambda: state(started=constant_rate, of_step=lambda _: {"learning_rates": (0.001,)}),
        "best by loss": lambda: state(started=by_loss),
        "no clipping": lambda: state(started=no_clip, of_step=lambda _: {"clipped_at": None, "gradient_norm": None}),
        "from scratch": lambda: state(started=from_scratch, loss=lambda n: 8.0 * math.exp(-n / 100) + 1.0),
        "schedule one step ahead": lambda: state(
            started=stepped_ahead, of_step=lambda n: {"learning_rates": (warmup_rate(0.002, 40, n + 1),)}
        ),
        "no attention loss": lambda: state(
            of_step=lambda n: {
                "forwards": (dataclasses.replace(step(n, loss=1.0).forwards[0], stats={"loss_ctc": 60.0}),)
            }
        ),
        "two ranks": lambda: state(
            started=training(wrapped="DistributedDataParallel", rows=800),
            rank=1,
            world=2,
            into=state(started=training(wrapped="DistributedDataParallel", rows=800), world=2),
        ),
        "one step left out": lambda: state(of_step=left_out),
        # Its engine clips and accumulates by a configuration of its own.
        "DeepSpeed": lambda: state(
            started=training(wrapped="DeepSpeedEngine", **in_force(accum_grad=4)),
            of_step=lambda _: {"clipped_at": None, "gradient_norm": None},
        ),
        "a release that chooses no best": lambda: state(
            started=training(
                **{"in_force": {name: one for name, one in IN_FORCE.items() if name != "avg_keep_nbest_models_type"}}
            ),
            without_statistics=True,
        ),
        "three words": lambda: state(loss=lambda n: 0.2, of_step=lambda _: {"unigram": 1.1}),
        "an averaged checkpoint": averaged,
        "memory that wanders": lambda: state(
            of_step=lambda n: {"memory": Memory(resident=2 * 10**9 + 30 * MIB * (n * 7919 % 11))}
        ),
    }


@pytest.mark.parametrize("name", sound_states())
def test_sound_trainings_are_not_accused(name: str) -> None:
    found = examined(sound_states()[name]())
    assert all(one.severity is Severity.MINOR for one in found.values()), found


def broken_states() -> dict[str, tuple[str, Severity, Callable[[], TrainingState]]]:
    """By fault: the rule, its severity, the state."""
    broken, wrong, minor = Severity.BROKEN, Severity.WRONG, Severity.MINOR
    wrapped = training(wrapped="DistributedDataParallel", rows=800)
    saved = Saved(
        at=1.0, step=50, epoch=0, path="x/model.pt", bytes=1, seconds=0.1, tensors=9, missing=("a.b",), other_values=()
    )

    def with_record(record: Any, found: TrainingState | None = None) -> TrainingState:
        found = found or state()
        found.add("host-100.jsonl", record)
        return found

    read_back = ReadBack(
        at=1.0, path="x/model.pt", tensors=9, equal=8, missing=(), different=("decoder.w",), moved={"encoder": 1.0}
    )
    out_of_memory = Ended(
        at=1.0,
        step=20,
        epoch=0,
        how="exception",
        status=1,
        exception="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        post_mortem=PostMortem(
            phase="forward",
            batch=(BatchUtterance(key="long", frames=900, tokens=3), BatchUtterance(key="short", frames=100, tokens=3)),
            padded_frames=1800,
            weights=10,
            allocated=5 * MIB,
            reserved=9 * MIB,
        ),
    )
    assertion = dataclasses.replace(out_of_memory, exception="AssertionError: no")
    return {
        "nan": ("loss-not-finite", broken, lambda: state(loss=lambda n: math.nan if n > 60 else falling(n))),
        "inf once, left out": (
            "loss-not-finite",
            minor,
            lambda: state(of_step=lambda n: {"skipped": True, "loss": math.inf} if n == 60 else {}),
        ),
        "huge loss": ("loss-overflows-exp", broken, lambda: state(loss=lambda n: 800.0 if n == 60 else falling(n))),
        "nearly huge": ("loss-overflows-exp", wrong, lambda: state(loss=lambda n: 650.0 if n == 60 else falling(n))),
        "no gradient": ("gradient-zero", broken, lambda: state(of_step=lambda _: {"gradient_norm": 0.0})),
        "no rate": (
            "learning-rate-zero",
            broken,
            lambda: state(started=training(**in_force(scheduler="")), of_step=lambda _: {"learning_rates": (0.0,)}),
        ),
        "random start": ("start-at-random-level", wrong, lambda: state(loss=lambda n: 9.1 * math.exp(-n / 100))),
        "at the baseline": ("not-learning", broken, lambda: state(loss=noisy(BASELINE))),
        "above the baseline": (
            "not-learning",
            broken,
            lambda: state(800, started=training(**in_force(max_epoch=16)), loss=noisy(1.3 * BASELINE, 0.3)),
        ),
        "at the baseline from random weights": (
            "not-learning",
            minor,
            lambda: state(started=training(initialised_from=""), loss=noisy(BASELINE)),
        ),
        "diverges": ("diverged", broken, lambda: state(loss=lambda n: falling(n) if n < 100 else 2 + n / 10)),
        "one token": ("texts-of-one-token", broken, lambda: state(of_step=lambda _: {"unigram": 0.62})),
        "other schedule": ("schedule-not-kept", wrong, lambda: state(of_step=lambda _: {"learning_rates": (0.001,)})),
        "warm-up too long": (
            "warm-up-not-over",
            minor,
            lambda: state(
                started=training(**in_force(scheduler_conf={"warmup_steps": 30000})),
                of_step=lambda n: {"learning_rates": (warmup_rate(0.002, 30000, n),)},
            ),
        ),
        "not clipped": ("not-clipped", wrong, lambda: state(of_step=lambda _: {"clipped_at": None})),
        "clipped at 1": ("clipped-otherwise", wrong, lambda: state(of_step=lambda _: {"clipped_at": 1.0})),
        "accumulates nothing": (
            "accumulates-otherwise",
            wrong,
            accumulates_nothing,
        ),
        "half left out": ("steps-skipped", wrong, lambda: state(of_step=lambda n: {"skipped": n % 2 == 0})),
        "all left out": ("steps-skipped", broken, lambda: state(of_step=lambda n: {"skipped": n > 100})),
        "fewer batches than accumulated": (
            "epoch-without-step",
            broken,
            lambda: state(3, started=training(**in_force(accum_grad=100))),
        ),
        "an epoch fewer": ("epochs-missing", wrong, lambda: state(150)),
        "an epoch more": ("epochs-too-many", minor, lambda: state(250)),
        "rows lost": ("rows-not-trained", wrong, lambda: state(started=training(rows=600))),
        "unequal ranks": (
            "ranks-batches-differ",
            broken,
            lambda: state(
                started=dataclasses.replace(wrapped, batches=40), rank=1, world=2, into=state(started=wrapped, world=2)
            ),
        ),
        "ranks drift": (
            "ranks-drift",
            broken,
            lambda: state(
                started=wrapped,
                rank=1,
                world=2,
                of_step=lambda n: {"gradient_norm": 3.5},
                into=state(started=wrapped, world=2),
            ),
        ),
        "ranks not connected": (
            "ranks-not-connected",
            broken,
            lambda: state(rank=1, world=2, into=state(world=2)),
        ),
        "a slow rank": (
            "rank-waits",
            minor,
            lambda: state(
                started=wrapped,
                rank=1,
                world=2,
                of_step=lambda _: {"seconds": {"data": 1.0, "forward": 0.4}},
                into=state(started=wrapped, world=2),
            ),
        ),
        "ranks end apart": (
            "ranks-steps-differ",
            wrong,
            lambda: state(190, started=wrapped, rank=1, world=2, into=state(started=wrapped, world=2)),
        ),
        "starved, with long validations": (
            "starved-by-data",
            minor,
            lambda: state(of_step=lambda n: {"seconds": {"data": 0.5, "forward": 0.9, "validation": 5.0}}),
        ),
        "starved": (
            "starved-by-data",
            minor,
            lambda: state(of_step=lambda _: {"seconds": STARVED}),
        ),
        "leak": (
            "memory-grows",
            wrong,
            lambda: state(of_step=leaking),
        ),
        "leak on a GPU": (
            "memory-grows",
            wrong,
            lambda: state(of_step=lambda n: {"memory": Memory(resident=10**9, allocated=10**9 + MIB * n)}),
        ),
        "checkpoint lacks a tensor": ("checkpoint-not-the-model", broken, lambda: with_record(saved)),
        "checkpoint of other values": (
            "checkpoint-not-the-model",
            broken,
            lambda: with_record(dataclasses.replace(saved, missing=(), other_values=("a",))),
        ),
        "best by nothing": (
            "best-by-nothing",
            wrong,
            lambda: state(started=training(**in_force(avg_keep_nbest_models_type="cer"))),
        ),
        "read back": ("read-back-differs", broken, lambda: with_record(read_back)),
        "nothing moved": (
            "parts-not-moved",
            broken,
            lambda: with_record(dataclasses.replace(read_back, different=(), moved={"encoder": 0.0})),
        ),
        "killed": ("killed", broken, lambda: state(ended=None)),
        "out of memory": ("out-of-memory", broken, lambda: with_record(out_of_memory, state(20, ended=None))),
        "exception": (
            "ended-by-exception",
            broken,
            lambda: with_record(assertion, state(20, ended=None)),
        ),
    }


@pytest.mark.parametrize("name", broken_states())
def test_each_fault_is_named(name: str) -> None:
    rule, severity, found = broken_states()[name]
    findings = examined(found())
    assert rule in findings, findings
    assert findings[rule].severity is severity
    assert findings[rule].message


def test_the_largest_batch_that_fitted_is_named_where_memory_ran_out() -> None:
    finding = examined(broken_states()["out of memory"][2]())["out-of-memory"]
    assert "800 padded frames, this one 1800" in finding.remedy
    assert any("2 utterances, the longest 900 frames (long), 44% padding" in line for line in finding.evidence)


def test_a_person_who_ends_the_training_is_no_fault() -> None:
    found = state(20, ended=None)
    found.add(
        "host-100.jsonl",
        Ended(at=1.0, step=20, epoch=0, how="exception", status=1, exception="builtins.KeyboardInterrupt: "),
    )
    assert examined(found) == {}


def ended_by(exception: str, *traceback: str) -> TrainingState:
    found = state(20, ended=None)
    ended = Ended(at=1.0, step=20, epoch=0, how="exception", status=1, exception=exception, traceback=traceback)
    found.add("host-100.jsonl", EpochEnded(at=1.0, epoch=0, step=20, batches=20, utterances=160, distinct=160))
    found.add("host-100.jsonl", ended)
    return found


def test_an_epoch_that_an_exception_cut_off_has_lost_no_rows() -> None:
    assert set(examined(ended_by("builtins.RuntimeError: no"))) == {"ended-by-exception"}


def left_behind(seconds: float, validation: float = 0.0) -> TrainingState:
    """Rank 0 has ended the first epoch, and rank 1 has not, so many seconds later."""
    wrapped = training(wrapped="DistributedDataParallel", rows=None)

    def validated(_: int) -> dict[str, Any]:
        return {"seconds": {"forward": 1.0, "validation": validation}}

    found = state(50, started=wrapped, world=2, ended=None, of_step=validated)
    state(49, started=wrapped, rank=1, world=2, ended=None, into=found, of_step=validated)
    found.now = 1050.0 + seconds
    return found


def test_a_rank_that_waits_within_an_epoch_that_another_has_ended_is_named() -> None:
    assert "ranks-batches-differ" not in examined(left_behind(50), ended=False)
    # Ten seconds of validation before each step are no part of it: twenty steps are not 220 s.
    assert "ranks-batches-differ" in examined(left_behind(70, validation=10.0), ended=False)
    finding = examined(left_behind(70), ended=False)["ranks-batches-differ"]
    assert (finding.severity, finding.rank) == (Severity.BROKEN, 1)
    assert "rank 0 has ended an epoch after 50 batches, and rank 1 waits" in finding.message


def in_a_further_batch(other: Ended, *, accum_grad: int = 1, parts: int = 1) -> dict[str, WatchFinding]:
    """Two ranks after 20 batches: rank 0 has no further one, and rank 1 ended as given."""
    given = in_force(accum_grad=accum_grad, dataset_conf={"data_split_num": parts})
    wrapped = training(wrapped="DistributedDataParallel", rows=None, **given)
    found = state(20, started=wrapped, world=2, ended=None)
    state(20, started=wrapped, rank=1, world=2, ended=None, into=found)
    found.add("host-100.jsonl", LoaderEnded(at=1020.0, epoch=0, step=20, batches=20))
    crash = Ended(at=1.0, step=20, epoch=0, how="crash", status=None, exception="Fatal Python error: Aborted")
    found.add("host-100.jsonl", crash)
    found.add("host-101.jsonl", other)
    return examined(found)


def test_ranks_that_break_off_within_an_epoch_have_different_numbers_of_batches_where_one_had_a_further_one() -> None:
    """As in 1.4.16 with gloo: rank 0 waits after its last batch, and meets the gradients of rank 1's further one."""
    reset = Ended(at=1.0, step=20, epoch=0, how="exception", status=1, exception="E: Connection reset", batches=21)
    place = ('  File "x.py", line 1 in _engine_run_backward', '  File "x.py", line 2 in backward')
    crash = Ended(at=1.0, step=20, epoch=0, how="crash", status=None, exception="Aborted", traceback=place)
    for other in (reset, crash):
        finding = in_a_further_batch(other)["ranks-batches-differ"]
        assert (finding.severity, finding.rank) == (Severity.BROKEN, 1)
    # It had no batch more, broke off before, waits as rank 0 does, or may be anywhere in them.
    sound = (
        in_a_further_batch(dataclasses.replace(reset, batches=20)),
        in_a_further_batch(dataclasses.replace(reset, batches=None)),
        in_a_further_batch(dataclasses.replace(crash, traceback=('  File "x.py", line 3 in all_reduce',))),
        in_a_further_batch(crash, accum_grad=4),
        in_a_further_batch(reset, parts=2),
    )
    assert not any("ranks-batches-differ" in one for one in sound)
    assert set(sound[0]) == {"crashed", "ended-by-exception"}


def test_epochs_that_were_cut_off_are_not_compared() -> None:
    """Ranks that accumulate are not in the same batch when one of them fails."""
    wrapped = training(wrapped="DistributedDataParallel", rows=None)
    found = state(20, started=wrapped, world=2, ended=None)
    state(20, started=wrapped, rank=1, world=2, ended=None, into=found)
    for file, batches in (("host-100.jsonl", 81), ("host-101.jsonl", 83)):
        found.add(file, EpochEnded(at=1.0, epoch=0, step=20, batches=batches, utterances=9, distinct=None))
        found.add(file, Ended(at=1.0, step=20, epoch=0, how="exception", status=1, exception="E: x", batches=batches))
    assert set(examined(found)) == {"ended-by-exception"}
    # One of them failed, and torchrun ended the other one.
    found.ranks["host-101.jsonl"].epochs.clear()
    found.add("host-101.jsonl", Ended(at=1.0, step=20, epoch=0, how="signal", status=143, exception=""))
    assert set(examined(found)) == {"ended-by-exception"}


def test_a_rank_that_waits_for_one_that_has_no_further_batch_is_named_before_the_epoch_ends() -> None:
    wrapped = training(wrapped="DistributedDataParallel", rows=None)
    found = state(40, started=wrapped, world=2, ended=None)
    state(40, started=wrapped, rank=1, world=2, ended=None, into=found)
    found.add("host-100.jsonl", LoaderEnded(at=1040.0, epoch=0, step=40, batches=40))
    found.now = 1040.0 + 70
    assert examined(found, ended=False)["ranks-batches-differ"].rank == 1
    found.add("host-101.jsonl", LoaderEnded(at=1040.0, epoch=0, step=40, batches=40))
    assert "ranks-batches-differ" not in examined(found, ended=False)


def test_a_step_after_an_end_takes_the_end_back() -> None:
    found = state(20, ended=None)
    found.add("host-100.jsonl", Ended(at=1.0, step=20, epoch=0, how="exception", status=1, exception="E: caught"))
    assert "ended-by-exception" in examined(found, ended=False)
    found.add("host-100.jsonl", step(21, loss=1.0))
    assert examined(found, ended=False) == {}


def test_epochs_that_no_batch_validated_are_named() -> None:
    def without_validation(steps: int, started: TrainingStarted | None = None, **changes: Any) -> TrainingState:
        found = state(steps, started=started, of_step=lambda _: changes)
        found.ranks["host-100.jsonl"].validations.clear()
        return found

    # With an empty validation set, the trainer compares nothing with nothing.
    finding = examined(without_validation(100))["best-by-nothing"]
    assert finding.severity is Severity.WRONG
    assert "no batch was validated in 2 epochs" in finding.message
    by_loss = training(**in_force(avg_keep_nbest_models_type="loss"))
    assert "best-by-nothing" in examined(without_validation(100, by_loss))
    no_choice = training(**in_force(avg_keep_nbest_models_type=""))
    sound = (without_validation(99), without_validation(100, no_choice), without_validation(100, forwards=()))
    assert not any("best-by-nothing" in examined(one, ended=False) for one in sound)


def test_fsdp_that_wraps_no_model_has_its_own_remedy() -> None:
    """As in 1.4.16: its trainer takes `use_fsdp`, wraps nothing, and cannot save."""
    for settings, remedy in (({"use_fsdp": True}, "leave `use_fsdp` out"), ({}, "start them with torchrun")):
        alone = training(rows=None, **in_force(train_conf=settings))
        found = state(40, started=alone, rank=1, world=2, into=state(40, started=alone, world=2))
        assert examined(found)["ranks-not-connected"].remedy.startswith(remedy)


def test_a_rank_with_fewer_batches_is_named_when_all_have_ended_the_epoch() -> None:
    wrapped = training(wrapped="DistributedDataParallel", rows=None)

    def with_epochs(batches: int, steps: int) -> TrainingState:
        found = state(40, started=wrapped, world=2)
        state(40, started=wrapped, rank=1, world=2, into=found)
        for file, count, taken in (("host-100.jsonl", 40, 40), ("host-101.jsonl", batches, steps)):
            found.add(file, EpochEnded(at=1.0, epoch=0, step=taken, batches=count, utterances=320, distinct=None))
        return found

    assert "ranks-batches-differ" not in examined(with_epochs(40, 40), ended=False)
    mispaired = examined(with_epochs(39, 39), ended=False)["ranks-batches-differ"]
    assert (mispaired.severity, mispaired.rank) == (Severity.BROKEN, 1)
    assert mispaired.message.startswith(
        "rank 1 had 39 batches in epoch 0, and another rank 40: the last step of the others met"
    )
    accumulated = examined(with_epochs(39, 40), ended=False)["ranks-batches-differ"]
    assert (accumulated.severity, accumulated.rank) == (Severity.MINOR, 1)
    assert "took part in no step" in accumulated.message


def test_ranks_that_break_off_apart_have_different_numbers_of_batches() -> None:
    wrapped = training(wrapped="DistributedDataParallel", rows=None)
    found = state(50, started=wrapped, world=2, ended="signal")
    other = state(50, started=dataclasses.replace(wrapped, batches=51), rank=1, world=2, ended=None)
    found.ranks |= other.ranks
    assert found.training_ranks[1].training is not None
    found.training_ranks[1].training = wrapped
    assert "broke off" in examined(found)["ranks-batches-differ"].message
    # Killed in the middle of an epoch, all of them.
    both = state(30, started=wrapped, world=2, ended=None)
    state(30, started=wrapped, rank=1, world=2, ended=None, into=both)
    assert set(examined(both)) == {"killed"}


def test_a_script_that_trains_twice_has_two_trainings_and_not_two_ranks() -> None:
    found = state(200)
    later = state(100, started=training(**in_force(max_epoch=2)))
    begun = process()
    found.ranks["host-200.jsonl"] = dataclasses.replace(
        later.ranks["host-100.jsonl"], file="host-200.jsonl", process=dataclasses.replace(begun, at=1500.0, pid=200)
    )
    assert examined(found) == {}
    assert [one.file for one in found.training_ranks] == ["host-200.jsonl"]
    # What was wrong with the first one stays found.
    found.ranks["host-100.jsonl"].ended = None
    assert set(examined(found)) == {"killed"}
    assert len(state(rank=1, world=2, into=state(world=2)).training_ranks) == 2


def test_the_overflow_of_the_perplexity_is_reported_from_other_overflows() -> None:
    line = '    f"(ppl_avg_slice: {math.exp(loss_avg_epoch):.3e}), "'
    found = examined(ended_by("builtins.OverflowError: math range error", line))
    assert set(found) == {"loss-overflows-exp"}
    assert found["loss-overflows-exp"].severity is Severity.BROKEN
    assert set(examined(ended_by("builtins.OverflowError: math range error", "x = f(y)"))) == {"ended-by-exception"}


def test_what_the_configuration_leaves_out_of_a_checkpoint_is_not_missing() -> None:
    begun = training(**in_force(train_conf={"effective_save_name_excludes": ["encoder."]}))
    found = state(started=begun)
    one = Saved(
        at=1.0,
        step=50,
        epoch=0,
        path="model.pt",
        bytes=1,
        seconds=0.1,
        tensors=9,
        missing=("encoder.w",),
        other_values=(),
    )
    found.add("host-100.jsonl", one)
    assert examined(found) == {}
    found.add("host-100.jsonl", dataclasses.replace(one, missing=("encoder.w", "decoder.w")))
    assert set(examined(found)) == {"checkpoint-not-the-model"}


def test_records_of_a_training_that_still_runs_are_not_those_of_a_killed_one(tmp_path: Path) -> None:
    begun = dataclasses.asdict(dataclasses.replace(process(), host=socket.gethostname(), pid=os.getpid()))
    folder = tmp_path / "records"
    folder.mkdir()
    lines = [{"kind": "process", **begun}, {"kind": "training", **dataclasses.asdict(training())}]
    (folder / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert set(of_folder(tmp_path).findings.found) == set()
    ended = subprocess.Popen(["true"])
    ended.wait()
    lines[0]["pid"] = ended.pid
    (folder / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert set(of_folder(tmp_path).findings.found) == {"killed"}


def test_a_command_that_trains_nothing_is_said() -> None:
    assert set(examined(TrainingState())) == {"nothing-observed"}
    idle = TrainingState()
    for record in (state(0).ranks["host-100.jsonl"].process,):
        assert record is not None
        idle.add("host-100.jsonl", record)
    assert set(examined(idle)) == {"no-step-taken"}


def test_rows_are_counted_over_all_ranks_and_only_when_all_are_known() -> None:
    wrapped = training(wrapped="DistributedDataParallel", rows=400)
    alone = state(started=wrapped, world=2)
    assert "rows-not-trained" not in examined(alone)
    halves = TrainingState()
    for rank in (0, 1):
        state(49, started=wrapped, rank=rank, world=2, into=halves)
        halves.add(
            f"host-{100 + rank}.jsonl",
            EpochEnded(at=1.0, epoch=0, step=49, batches=25, utterances=200, distinct=200),
        )
    assert "rows-not-trained" not in examined(halves)


def test_trainings_that_fall_slowly_are_hardly_ever_called_not_learning() -> None:
    """Falling by the least fall over the steps of the first test, at the baseline: one in a thousand may be accused."""
    accused = 0
    for seed in range(60):
        noise = noisy(0.0, 0.15, seed)
        # 0.05 of the baseline over the 64 steps of the first test, and more over the later ones.
        loss = lambda n, noise=noise: BASELINE * (1.15 - 0.05 / 63 * n) + noise(n)  # noqa: E731
        accused += "not-learning" in examined(state(loss=loss))
    assert accused == 0


def test_one_forward_without_statistics_is_no_reason_to_fail() -> None:
    bare = TrainingForward(loss=None, stats={}, utterances=1, frames=1, tokens=1, frames_used=None, tokens_used=None)
    assert all(
        one.severity is Severity.MINOR for one in examined(state(of_step=lambda _: {"forwards": (bare,)})).values()
    )


ROOT = Path(__file__).parent.parent


def test_the_page_lists_exactly_the_rules_of_the_code() -> None:
    page = (ROOT / "reports" / "watch_rules.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    code = "".join(path.read_text("utf-8") for path in (ROOT / "harness" / "watch" / "rules").glob("*.py"))
    named = set(re.findall(r'rule="([a-z-]+)"', code)) | {"out-of-memory", "ended-by-exception"}
    assert named - listed == set()
    assert {name for name in listed if "-" in name or name in ("killed", "diverged")} - named == set()
