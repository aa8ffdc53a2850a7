"""A mark tells how far a release got and where it stopped, without colour."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_factory import RELEASES, blocked, cell, judged, loss_failure, outcome, tuned

from harness.config.expansion import import_cell
from harness.core.cells import Check, Failure, Status
from harness.core.versions import Order
from harness.report.grid import Mark, build_grid
from harness.report.labels import LEVEL_MEANING, LEVEL_NAME, LEVEL_SIGN
from harness.rules.levels import Level


def grid_of(outcomes):
    found = judged(outcomes)
    return build_grid(found, Order.of({item.outcome.cell.release for item in found}, ()))


def chain(release, *statuses):
    checks = ("construct", "loss_contract")
    return [outcome(cell(release, check), status) for check, status in zip(checks, statuses, strict=False)]


@pytest.mark.parametrize(
    ("statuses", "sign", "words", "check"),
    [
        ((Status.PASSED, Status.PASSED), "✓ L", "loss_contract passed", Check.LOSS_CONTRACT),
        ((Status.PASSED, Status.FAILED), "C ✗ L*", "construct passed, loss_contract broken", Check.LOSS_CONTRACT),
        ((Status.TIMED_OUT,), "T C*", "construct timed out", Check.CONSTRUCT),
        ((Status.ERRORED, Status.PASSED), "? C", "construct errored", Check.CONSTRUCT),
        ((Status.PASSED, Status.OUT_OF_MEMORY), "C M L*", "construct passed, loss_contract out of memory", None),
        ((Status.PASSED, Status.SKIPPED), "C – L", "construct passed, loss_contract skipped", None),
    ],
)
def test_a_mark_shows_the_last_check_reached_and_the_first_that_failed(statuses, sign, words, check):
    mark = Mark.of(judged(chain("1.4.0", *statuses)))
    assert (mark.sign, mark.words) == (sign, words)
    assert check in (None, mark.judged.outcome.cell.check)


@pytest.mark.parametrize(
    ("statuses", "sign"),
    [
        ({"data": Status.FAILED, "finetune": Status.PASSED}, "F ✗ D*"),
        ({"data": Status.PASSED, "finetune": Status.PASSED}, "✓ F"),
        ({"data": Status.FAILED, "finetune": Status.FAILED}, "✗ F*"),
        ({"data": Status.FAILED}, "✗ D*"),
        ({"data": Status.FAILED, "finetune": Status.PASSED, "decode": Status.FAILED}, "F ✗ T*"),
    ],
)
def test_a_check_that_blocks_nothing_hides_neither_what_passed_after_it_nor_what_failed(statuses, sign):
    cells = [
        outcome(replace(tuned("1.4.0", "train_ds").cell, check=Check(check)), status)
        for check, status in statuses.items()
    ]
    assert Mark.of(judged(cells)).sign == sign


def failed(check, signature, release="1.4.0"):
    at = replace(tuned(release, "train_ds").cell, check=Check(check))
    return outcome(at, Status.FAILED, failure=Failure(type="E", message="m", signature=signature))


def passed(*checks):
    return [outcome(replace(tuned("1.4.0", "train_ds").cell, check=Check(check))) for check in checks]


@pytest.mark.parametrize(
    ("others", "check", "signature", "sign", "level"),
    [
        ([], "finetune", "NotTrained@schedule", "≠ F*", Level.WRONG),
        (["decode"], "finetune", "NotTrained@schedule", "T ≠ F*", Level.WRONG),
        (["decode"], "finetune", "NotTrained@accuracy", "✗ F*", Level.BROKEN),
        (["finetune"], "data", "DataDiffers@long", "F ≠ D*", Level.WRONG),
        (["finetune"], "checkpoint", "CheckpointBroken@saved_whole", "F ✗ S*", Level.BROKEN),
        (["data"], "finetune", "NotTrained@log", "D ≈ F*", Level.MINOR),
    ],
)
def test_a_mark_shows_how_grave_it_is(others, check, signature, sign, level):
    mark = Mark.of(judged([*passed(*others), failed(check, signature)]))
    assert (mark.sign, mark.level) == (sign, level)


def test_a_mark_is_about_what_is_gravest():
    cells = [failed("finetune", "NotTrained@log"), failed("data", "DataDiffers@long")]
    assert Mark.of(judged(cells)).sign == "≠ D*"
    assert Mark.of(judged([*cells, failed("decode", "NotDecoded@error_rate")])).sign == "✗ T*"


def test_every_level_has_a_sign_and_a_word_of_its_own():
    assert len({LEVEL_SIGN[level] for level in Level}) == len(Level)
    assert len({LEVEL_NAME[level] for level in Level}) == len({LEVEL_MEANING[level] for level in Level}) == len(Level)


def test_a_known_failure_has_no_star():
    failing = outcome(cell(RELEASES[6], "loss_contract"), Status.FAILED, failure=loss_failure(320, 8404))
    assert Mark.of(judged([failing])).sign == "✗ L"


def test_rows_are_releases_newest_first_and_columns_are_models_and_trainers():
    grid = grid_of(
        [
            outcome(import_cell("1.0.29")),
            outcome(cell("1.0.30", "construct")),
            outcome(cell("1.0.29", "construct", variant="paraformer")),
            tuned("1.0.29", "train"),
            tuned("1.0.29", "train_ds"),
        ]
    )
    assert [row.release for row in grid.rows] == ["1.0.30", "1.0.29"]
    assert [(column.variant, column.entry) for column in grid.columns] == [
        (None, None),
        ("paraformer", None),
        ("paraformer_streaming", None),
        ("paraformer_streaming", "train"),
        ("paraformer_streaming", "train_ds"),
    ]
    assert [mark.sign if mark else None for mark in grid.rows[1].marks] == ["✓ I", "✓ C", None, "✓ F", "✓ F"]
    assert grid.one_place == "reduced cpu-fp32"


def test_neighbours_that_look_the_same_make_one_band():
    grid = grid_of([item for release in RELEASES[:5] for item in chain(release, Status.PASSED, Status.PASSED)])
    assert [str(band.span) for band in grid.bands] == ["1.0.0 – 1.0.4 (5 releases)"]


def test_a_failure_with_another_signature_does_not_join_a_band():
    one = outcome(cell("1.0.0", "construct"), Status.FAILED, failure=loss_failure(1, 2))
    other = outcome(
        cell("1.0.1", "construct"), Status.FAILED, failure=replace(loss_failure(1, 2), signature="TypeError@other")
    )
    assert [str(band.span) for band in grid_of([one, other]).bands] == ["1.0.1", "1.0.0"]


def test_a_blocked_trainer_leads_to_its_own_cell():
    at, by = cell("1.0.0", "finetune@train"), cell("1.0.0", "construct")
    grid = grid_of([outcome(by, Status.FAILED), blocked(at, by)])
    assert [mark.judged.outcome.cell for mark in grid.rows[0].marks] == [by, at]
    assert grid.rows[0].marks[1].sign == "∙ F"
