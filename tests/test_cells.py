"""The shared records: ids and outcomes survive the way to text and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from strategies import cells, outcomes, shapes

from harness.config.expansion import import_cell
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Outcome, Precision
from harness.core.earlier_schemas import SCHEMA

FINETUNE = "1.4.16/paraformer_streaming/v8404-h320/reduced/finetune@train/cpu-fp32"


@given(shapes)
def test_a_shape_is_read_back_as_it_was_written(shape: Dimensions) -> None:
    assert Dimensions.parse(str(shape)) == shape


@given(cells())
def test_a_cell_is_read_back_from_its_id(cell: Cell) -> None:
    assert Cell.parse(cell.id) == cell


@given(cells(), cells())
def test_two_cells_share_an_id_only_when_they_are_the_same(one: Cell, other: Cell) -> None:
    assert (one.id == other.id) == (one == other)


@given(outcomes)
def test_an_outcome_is_read_back_from_strict_json(outcome: Outcome) -> None:
    text = json.dumps(outcome.to_json(), allow_nan=False)
    assert Outcome.from_json(json.loads(text)) == outcome


def test_the_id_of_a_finetune_cell_names_the_entry_point() -> None:
    cell = Cell(
        release="1.4.16",
        variant="paraformer_streaming",
        dimensions=Dimensions(vocab_size=8404, hidden_size=320),
        depth=Depth.REDUCED,
        check=Check.FINETUNE,
        entry=Entry.TRAIN,
        device=Device.CPU,
        precision=Precision.FP32,
    )
    assert cell.id == FINETUNE


@pytest.mark.parametrize(
    "text", ["", "v8404", "h320-v8404", "v0-h320", "v8404-h0", "v08404-h320", "v8404-h320 ", "v-1-h2"]
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not state dimensions"):
        Dimensions.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.4.16",
        FINETUNE + "/more",
        FINETUNE.replace("v8404-h320", "8404x320"),
        FINETUNE.replace("reduced", "tiny"),
        FINETUNE.replace("finetune@train", "finetun"),
        FINETUNE.replace("@train", "@trainer"),
        FINETUNE.replace("cpu-fp32", "cpu"),
        FINETUNE.replace("cpu", "tpu"),
    ],
)
def test_what_is_no_cell_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cell id"):
        Cell.parse(text)


def test_an_outcome_of_another_schema_is_refused() -> None:
    data = Outcome(cell=Cell.parse(FINETUNE), status="passed", reason="").to_json()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"schema {SCHEMA + 1}"):
        Outcome.from_json(data | {"schema": SCHEMA + 1})


def test_the_checks_are_listed_in_their_order() -> None:
    assert sorted(Check, key=lambda check: check.position) == [
        Check.IMPORT,
        Check.CONSTRUCT,
        Check.LOSS_CONTRACT,
        Check.PROPERTIES,
        Check.DATA,
        Check.FINETUNE,
        Check.CHECKPOINT,
        Check.DECODE,
    ]


def test_every_cell_of_a_release_depends_on_its_import() -> None:
    assert Cell.parse(FINETUNE).depends_on(import_cell("1.4.16"))
    assert not Cell.parse(FINETUNE).depends_on(import_cell("1.4.15"))
    assert not import_cell("1.4.16").depends_on(Cell.parse(FINETUNE))


def test_a_cell_depends_on_earlier_checks_of_its_own_model_and_place_alone() -> None:
    cell = Cell.parse(FINETUNE)
    construct = replace(cell, check=Check.CONSTRUCT, entry=None)
    assert cell.depends_on(construct)
    assert not construct.depends_on(cell)
    assert not cell.depends_on(cell)
    assert not cell.depends_on(replace(construct, variant="paraformer"))
    assert not cell.depends_on(replace(construct, dimensions=Dimensions(vocab_size=8501, hidden_size=320)))
    assert not cell.depends_on(replace(construct, device=Device.CUDA))
    assert not cell.depends_on(replace(construct, depth=Depth.FULL))


@pytest.mark.parametrize("check", [Check.PROPERTIES, Check.DATA, Check.CHECKPOINT])
def test_nothing_depends_on_what_does_not_stop_a_training(check: Check) -> None:
    cell = replace(Cell.parse(FINETUNE), check=Check.DECODE)
    assert not cell.depends_on(replace(cell, check=check))
    assert replace(cell, check=check).depends_on(replace(cell, check=Check.CONSTRUCT, entry=None))


def test_what_was_saved_depends_on_its_own_trainer_alone() -> None:
    cell = Cell.parse(FINETUNE)
    checkpoint = replace(cell, check=Check.CHECKPOINT)
    assert checkpoint.depends_on(cell)
    assert not checkpoint.depends_on(replace(cell, entry=Entry.TRAIN_DS))


def test_the_two_entry_points_do_not_depend_on_each_other() -> None:
    cell = Cell.parse(FINETUNE)
    assert not cell.depends_on(replace(cell, entry=Entry.TRAIN_DS))
