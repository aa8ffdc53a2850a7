"""Memory on a card from the user's own rows: the largest batch that their sampler makes, and what fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_preflight_dry_run import inputs_at, overridden
from user_folders import write_jsonl

from harness.core.errors import InputError
from harness.preflight.forecast import memory
from harness.preflight.forecast.worst_batch import RowLength, in_their_type, worst_batch
from harness.variants.catalogue import load_variant


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


def users(folder: Path) -> Path:
    """A model folder without weights, and fifty rows beside it, one of which no release takes."""
    config = json.loads(json.dumps(load_variant("paraformer").config))
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(["<blank>", "<s>", "</s>", "好", "<unk>"]))
    rows = [
        {"key": f"u{n}", "source": "a.wav", "source_len": 150 + n, "target": "好" * 8, "target_len": 8}
        for n in range(50)
    ]
    rows.append({"key": "vanishes", "source": "a.wav", "source_len": 9000, "target": "好", "target_len": 1})
    return write_jsonl(folder / "train.jsonl", rows)


@pytest.mark.release
@pytest.mark.parametrize(("fitting", "found"), [(40, []), (20, ["batch-does-not-fit"]), (0, ["batch-does-not-fit"])])
def test_the_largest_batch_of_a_users_rows_against_a_card(
    layout: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitting: int, found: list[str]
) -> None:
    def fit(*given: Any) -> tuple[memory.Fits, memory.Fits]:
        name = given[-1]
        return memory.Fits(name=name, peak=30 << 30, largest=fitting), memory.Fits(name="x", peak=1, largest=0)

    monkeypatch.setattr(memory, "_fit", fit)
    train = users(tmp_path)
    inputs = inputs_at(
        tmp_path,
        install_dir=layout("1.4.16"),
        train=train,
        command=overridden({"dataset_conf.batch_type": "token", "dataset_conf.batch_size": 6000}),
        card="24GB",
    )
    part = memory.check(inputs)
    assert part.skipped == ""
    assert "32 rows" in part.facts[0].value
    assert "u37 (line 38)" in part.facts[0].value
    assert "predicted, not measured on a GPU" in part.facts[0].value
    assert part.facts[1].label == "that batch in fp32"
    assert part.facts[1].value.startswith("30,720 MiB; largest batch_size on 24GB ")
    assert [one.rule for one in part.findings] == found
    if fitting == 20:
        assert part.findings[0].remedy == "++dataset_conf.batch_size=3740"
        assert part.findings[0].place.key == "dataset_conf.batch_size"
        assert "u37" in part.findings[0].evidence[0]
