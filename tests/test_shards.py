"""Splitting a matrix into shards: every cell in one of them, none away from what it depends on, and about as long."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import outcome
from strategies import cells as any_cell

from harness.config.expansion import import_cell
from harness.config.matrix import Matrix, load_matrix
from harness.config.shards import Shard, ShardOrigin, dependent_groups, split
from harness.core.cells import Cell, Check, Status
from harness.core.errors import StoreError
from harness.core.evidence import REUSED
from harness.releases import load_lock, resolve
from harness.run.durations import ExpectedSeconds, RecordedCell, committed_run, expected_seconds
from harness.run.time_left import USUAL_SECONDS
from harness.variants.catalogue import available

MATRICES = Path(__file__).parent.parent / "matrices"
LOCKED = load_lock(MATRICES / "releases.lock.toml")
VARIANTS = ("paraformer", "paraformer_streaming", "sanm")


def model_cells(releases: Sequence[str], *, importing: bool = False) -> list[Cell]:
    """The cells of three models of each release, and of its import if it is wanted."""
    checks = ("construct", "loss_contract", "properties", "finetune@train", "finetune@train_ds", "decode@train")
    models = [
        Cell.parse(f"{release}/{variant}/v8404-h320/reduced/{check}/cpu-fp32")
        for release in releases
        for variant in VARIANTS
        for check in checks
    ]
    return [*(import_cell(release) for release in releases if importing), *models]


def usual(cell: Cell) -> float:
    return USUAL_SECONDS[cell.check]


@pytest.mark.parametrize("text", ["1/1", "2/5", "5/5", "12/100"])
def test_a_shard_reads_what_it_writes(text: str) -> None:
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize("text", ["", "2", "0/5", "6/5", "2/0", "2/5 ", "a/b", "-1/5", "1.5/3", "02/5", "2/5/7", "٢/5"])
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2/5"):
        Shard.parse(text)


@settings(max_examples=15)
@given(st.lists(any_cell(), unique=True, max_size=8), st.integers(1, 6))
def test_each_cell_is_in_one_shard(cells: list[Cell], count: int) -> None:
    parts = split(cells, count, usual).parts
    assert len(parts) == count
    assert sorted(cell.id for part in parts for cell in part) == sorted(cell.id for cell in cells)


@settings(max_examples=15)
@given(
    st.lists(st.sampled_from(["1.0.0", "1.0.12", "1.4.16"]), unique=True, min_size=1), st.booleans(), st.integers(1, 9)
)
def test_what_a_cell_depends_on_is_in_its_shard(releases: list[str], importing: bool, count: int) -> None:
    cells = model_cells(releases, importing=importing)
    for part in split(cells, count, usual).parts:
        for cell in part:
            below = [other for other in cells if cell.depends_on(other)]
            assert set(below) <= set(part)


def test_the_split_follows_from_cells_and_seconds_alone() -> None:
    cells = model_cells(["1.0.0", "1.0.12", "1.3.4", "1.4.16"])
    mixed = random.Random(7).sample(cells, len(cells))
    one, two = split(cells, 3, usual), split(mixed, 3, usual)
    assert [set(part) for part in one.parts] == [set(part) for part in two.parts]
    assert one.sha256 == two.sha256
    assert one.sha256 != split(cells, 4, usual).sha256
    assert one.parts[0] == tuple(cell for cell in cells if cell in set(one.parts[0]))


def test_other_seconds_make_another_split_and_it_is_noticed() -> None:
    cells = model_cells(["1.0.0", "1.0.12", "1.3.4", "1.4.16"])
    slow = split(cells, 2, lambda cell: 67.0 if cell.release == "1.0.12" else usual(cell))
    assert slow.sha256 != split(cells, 2, usual).sha256
    (alone,) = [part for part in slow.parts if any(cell.release == "1.0.12" for cell in part)]
    assert {cell.release for cell in alone} == {"1.0.12"}


def test_releases_stay_whole_where_that_balances_and_models_where_it_does_not() -> None:
    many = split(model_cells([f"1.0.{number}" for number in range(12)]), 3, usual)
    labels = [{cell.release for cell in part} for part in many.parts]
    assert sum(map(len, labels)) == 12
    few = split(model_cells(["1.4.16"]), 3, usual)
    assert [len({cell.variant for cell in part}) for part in few.parts] == [1, 1, 1]


def test_with_its_import_a_release_is_one_group_and_further_shards_are_empty() -> None:
    cells = model_cells(["1.4.16"], importing=True)
    assert len(dependent_groups(cells)) == 1
    assert [len(part) for part in split(cells, 3, usual).parts] == [len(cells), 0, 0]


def committed(name: str) -> Matrix:
    """A matrix of the project, on a machine without a GPU."""
    return load_matrix(
        MATRICES / f"{name}.toml", resolve=lambda spec: resolve(spec, LOCKED), variants=available(), gpu_present=False
    )


@pytest.mark.parametrize(("name", "count"), [("architectures", 8), ("nightly", 3), ("pr", 2)])
def test_the_projects_matrices_split_into_parts_of_about_the_same_duration(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(MATRICES.parent)
    matrix = committed(name)
    seconds = expected_seconds(matrix, committed_run(matrix))
    loads = [sum(map(seconds, part)) for part in split(matrix.cells, count, seconds).parts]
    assert min(loads) > 0
    # Whole releases: of the few of `nightly` and `pr` the newest have more cells.
    assert max(loads) < (1.15 if name == "architectures" else 1.6) * sum(loads) / count


LOSS = "1.4.16/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"


def recorded(name: str, seconds: float, status: Status = Status.PASSED) -> RecordedCell:
    return RecordedCell(id=name, status=status, seconds=seconds)


def test_a_cell_is_expected_to_take_what_it_took_or_what_it_took_in_other_releases() -> None:
    older = (LOSS.replace("1.4.16", f"1.4.{number}") for number in (13, 14, 15))
    known = [recorded(name, seconds) for name, seconds in zip(older, (2.0, 4.0, 90.0), strict=True)]
    expected = ExpectedSeconds.of([*known, recorded(LOSS, 7.0)], USUAL_SECONDS)
    assert expected(Cell.parse(LOSS)) == 7.0
    assert expected(Cell.parse(LOSS.replace("1.4.16", "1.4.17"))) == 5.5
    other = Cell.parse(LOSS.replace("h320", "h512"))
    assert expected(other) == USUAL_SECONDS[Check.LOSS_CONTRACT]


def test_what_did_not_run_takes_no_time_and_says_nothing_about_other_releases() -> None:
    expected = ExpectedSeconds.of([recorded(LOSS, 0.0, Status.SKIPPED)], USUAL_SECONDS)
    assert expected(Cell.parse(LOSS)) == 0.0
    assert expected(Cell.parse(LOSS.replace("1.4.16", "1.4.17"))) == USUAL_SECONDS[Check.LOSS_CONTRACT]
    faulty = ExpectedSeconds.of([recorded(LOSS, 99.0, Status.ERRORED)], USUAL_SECONDS)
    assert faulty(Cell.parse(LOSS)) == USUAL_SECONDS[Check.LOSS_CONTRACT]


def test_a_reused_cell_says_nothing_of_how_long_it_takes(tmp_path: Path) -> None:
    ran, reused = (outcome(LOSS.replace("1.4.16", label), seconds=7.0) for label in ("1.4.15", "1.4.14"))
    reused = replace(reused, seconds=0.0, evidence={REUSED: {"cell": ran.cell.id, "ran": ""}})
    lines = [json.dumps(one.to_json()) + "\n" for one in (ran, reused)]
    (tmp_path / "outcomes.jsonl").write_text("".join(lines))
    expected = expected_seconds(committed("pr"), [tmp_path])
    assert [expected(one.cell) for one in (ran, reused)] == [7.0, 7.0]


def test_a_run_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    matrix = committed("pr")
    with pytest.raises(StoreError, match="holds no run"):
        expected_seconds(matrix, [tmp_path])
    (tmp_path / "outcomes.jsonl").write_text('{"schema": 3, "id": 1}\n')
    with pytest.raises(StoreError, match="a line that is no outcome"):
        expected_seconds(matrix, [tmp_path])


def test_an_origin_is_read_back_and_nothing_else_is() -> None:
    origin = split(model_cells(["1.4.16"]), 3, usual).origin(Shard(number=2, count=3), ["runs/last"])
    assert (origin.name, origin.selected) == ("2/3", 18)
    told = {name: getattr(origin, name) for name in ShardOrigin.__dataclass_fields__}
    assert ShardOrigin.from_json({**told, "durations": ["runs/last"]}) == origin
    with pytest.raises(ValueError, match="has not the fields"):
        ShardOrigin.from_json({"number": 1})
