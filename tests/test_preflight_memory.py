"""Memory on a card from the user's own rows: the largest batch that their sampler makes, and what fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forked
from test_preflight_dry_run import LOCK, inputs_at, overridden
from user_folders import environment, model_folder, write_jsonl

from harness.core.errors import InputError
from harness.preflight import memory
from harness.preflight.settings import read_config
from harness.preflight.worst_batch import RowLength, in_their_type, worst_batch
from harness.releases import default_cache, load_lock, resolve


def lengths(*sources: float) -> list[RowLength]:
    return [RowLength(key=f"u{n}", line=n + 1, source=one, target=one / 20) for n, one in enumerate(sources)]


def test_batches_by_rows_pad_every_row_to_the_longest() -> None:
    found = worst_batch(lengths(100, 900, 300), "example", 2)
    assert (found.rows, found.frames, found.tokens) == (2, 900, 45)
    assert found.longest[0].key == "u1"
    assert worst_batch(lengths(100, 900, 300), "example", 32).rows == 3
    assert in_their_type(found, 5, "example") == 5


def test_batches_by_tokens_hold_as_many_rows_as_fit_and_one_that_is_too_long_alone() -> None:
    even = worst_batch(lengths(*[500.0] * 40), "token", 6000)
    assert (even.rows, even.frames) == (12, 500)
    assert in_their_type(even, 20, "token") == 10_000
    alone = worst_batch(lengths(7000, 100, 100), "token", 6000)
    assert (alone.rows, alone.frames) == (1, 7000)
    with_text = worst_batch(lengths(*[500.0] * 40), "length", 6000)
    assert with_text.rows == 11


def test_a_card_is_named_by_its_size_or_its_name() -> None:
    assert memory.card_of("24GB").size == 24 * 10**9
    assert memory.card_of("NVIDIA GeForce RTX 4090").size == 24 * 10**9
    assert memory.card_of("a100").name == "a100"
    with pytest.raises(InputError):
        memory.card_of("a large one")


def test_no_card_costs_nothing_and_no_rows_are_said(tmp_path: Path) -> None:
    assert memory.check(inputs_at(tmp_path)).skipped == ""
    assert "--train" in memory.check(inputs_at(tmp_path, card="24GB", train=None)).skipped


@pytest.mark.release
def test_the_largest_batch_of_a_users_rows_against_two_cards(
    layout: Callable[[str], Path], forked: Forked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_halves", lambda _: ())
    overlay = layout("1.4.16")
    folder = model_folder(forked, overlay, tmp_path / "model")
    rows = [
        {"key": f"u{n}", "source": "a.wav", "source_len": 150 + n, "target": "好" * 8, "target_len": 8}
        for n in range(50)
    ]
    rows.append({"key": "vanishes", "source": "a.wav", "source_len": 9000, "target": "好", "target_len": 1})
    inputs = inputs_at(
        folder,
        release=resolve("1.4.16", load_lock(LOCK))[0],
        overlay=overlay,
        cache=default_cache(),
        environment=environment(),
        train=write_jsonl(tmp_path / "train.jsonl", rows),
        config=read_config(folder / "config.yaml"),
        command=overridden({"dataset_conf.batch_type": "token", "dataset_conf.batch_size": 6000}),
        card="24GB",
    )
    part = memory.check(inputs)
    assert (part.findings, part.skipped) == ((), "")
    assert "32 rows" in part.facts[0].value
    assert "u37 (line 38)" in part.facts[0].value
    assert "predicted, not measured on a GPU" in part.facts[1].value
