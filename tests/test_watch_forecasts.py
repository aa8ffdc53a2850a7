"""Forecasts of a watched training, on records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.performance.prediction.cards import GpuCard
from harness.watch.coming_batch import ComingBatch, coming_batch, forecast_of, needed_memory
from harness.watch.records import Memory, ProcessStarted
from harness.watch.state import TrainingState
from harness.watch.upcoming import forecasts
from tests.watch_states import IN_FORCE, process, state, step, training

GIB = 2**30


def values(found: TrainingState, **given: Any) -> dict[str, str]:
    return {one.label: one.value for one in forecasts(found, **given)}


def test_the_end_of_the_epoch_and_of_the_training_follow_from_the_steps_so_far() -> None:
    found = values(state(60, ended=None), now=2000.0)
    assert found["the training"].startswith("2 min")
    assert set(found) >= {"this epoch", "the training"}
    assert values(state(200, ended="finished")) == {}


def test_a_training_of_unknown_length_has_no_forecast_of_its_end() -> None:
    begun = training(batches=None)
    assert "the training" not in values(state(60, ended=None, started=begun))


def test_the_checkpoints_that_the_disk_takes_are_counted(tmp_path: Path) -> None:
    found = values(state(60, ended=None, started=training(output_dir=str(tmp_path))))
    assert found["the disk"].endswith("more checkpoints")


def growing(number: int) -> dict[str, Any]:
    reserved = 4 * GIB + number * 2**24
    return {"memory": Memory(resident=1, allocated=GIB, reserved=reserved, peak_allocated=GIB, peak_reserved=reserved)}


def test_a_card_that_fills_is_foreseen() -> None:
    from harness.watch.records import CardSample

    found = state(180, ended=None, started=training(device="cuda:0"), of_step=growing)
    card = CardSample(at=1.0, index=0, name="card", total=10 * GIB, used=5 * GIB)
    found.add("", card)
    assert values(found)["the card of rank 0"] == "is full in about 204 steps"
    steady = state(180, ended=None, started=training(device="cuda:0"), of_step=lambda _: growing(1))
    steady.add("", card)
    assert "the card of rank 0" not in values(steady)


def test_another_card_is_compared_with_what_was_reserved() -> None:
    found = state(60, started=training(device="cuda:0"), of_step=growing)
    label = "a card of 24GB"
    assert values(found, card=GpuCard.parse("24GB"))[label].startswith("would hold what was reserved so far: ")
    small = values(found, card=GpuCard.parse("5GB"))["a card of 5GB"]
    assert small.startswith("would not hold")
    assert "not measured on a GPU" in values(state(60), card=GpuCard.parse("24GB"))[label]


@pytest.fixture
def rows(tmp_path: Path) -> ProcessStarted:
    lines = [{"key": f"r{n}", "source_len": 100 + n, "target_len": 5} for n in range(100)]
    lines.append({"key": "long", "source_len": 1200, "target_len": 50})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "no json\n[]\n")
    begun = process()
    return ProcessStarted(
        **{
            **{name: getattr(begun, name) for name in begun.__dataclass_fields__},
            "working_directory": str(tmp_path),
            "argv": ("train_ds.py", "++train_data_set_list='train.jsonl'", "++x=y"),
        }
    )


def with_data(**data: Any) -> Any:
    return training(in_force={**IN_FORCE, "frontend_conf": {"lfr_n": 6}, "dataset_conf": data})


def test_the_largest_batch_is_that_of_the_samplers_rule(rows: ProcessStarted) -> None:
    coming = coming_batch(rows, with_data(batch_type="example", batch_size=8))
    assert coming is not None
    assert (coming.batch.rows, coming.batch.frames, coming.padded) == (8, 1200, 8 * 200)
    limited = coming_batch(rows, with_data(batch_type="example", batch_size=8, max_source_length=500))
    assert limited is not None
    assert limited.batch.frames == 199


def test_nothing_is_said_where_the_rows_or_the_frontend_are_not_known(rows: ProcessStarted) -> None:
    assert coming_batch(rows, training()) is None
    assert coming_batch(process(), with_data(batch_size=8)) is None


def test_the_largest_batch_is_foreseen_until_it_was_seen(rows: ProcessStarted) -> None:
    coming = coming_batch(rows, with_data(batch_type="example", batch_size=8))
    assert isinstance(coming, ComingBatch)
    found = state(40, ended=None, world=2)
    ranks = state(40, ended=None, rank=1, world=2, into=found).training_ranks
    before = forecast_of(coming, ranks)
    assert before is not None
    assert before.value == "may still come, 2.0 times the largest so far"
    assert "long" in before.detail
    # One line, however many ranks there are, until one of them has had it.
    assert [one.label for one in forecasts(found, coming=coming)].count("the largest batch") == 1
    ranks[1].largest_padded = 1600
    assert forecast_of(coming, ranks) is None


def test_batches_that_repeat_grow_no_larger(rows: ProcessStarted) -> None:
    for shuffle, foreseen in ((False, False), (True, True)):
        begun = with_data(batch_type="example", batch_size=8, shuffle=shuffle)
        coming = coming_batch(rows, begun)
        assert coming is not None
        within, after = (state(steps, ended=None, started=begun).training_ranks for steps in (40, 60))
        assert forecast_of(coming, within) is not None
        assert (forecast_of(coming, after) is not None) == foreseen


def test_its_memory_lies_on_the_line_of_the_peaks() -> None:
    assert needed_memory([(100.0, 1.0), (200.0, 2.0), (300.0, 3.0)], 1000.0) == pytest.approx(10.0)
    assert needed_memory([(100.0, 1.0), (200.0, 2.0)], 1000.0) is None
    assert needed_memory([(100.0, 3.0), (200.0, 2.0), (300.0, 1.0)], 1000.0) is None
    found = state(0, ended=None)
    file = next(iter(found.ranks))
    for number, peak in enumerate([9, 1, 2, 2, 3], 1):
        found.add(file, step(number, loss=1.0, memory=Memory(resident=1, peak_allocated=peak)))
    # The first two steps also allocate the optimizer's state.
    assert [peak for _, peak in found.ranks[file].peaks] == [2.0, 3.0]
