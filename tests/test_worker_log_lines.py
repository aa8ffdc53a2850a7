"""What the trainers of several releases print of a step, read back; and what they printed and nobody computed."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from forked import Forked

from harness.worker.trainer.log_lines import RETURNED, LogLines, read

OLD = (
    "Train epoch: 0/3, step 1/4, {'data_load': '0.012', 'forward_time': '0.151'}, (loss: 8.781), "
    "[('loss_att', 7.81), ('acc', 0.012), ('loss_pre', 0.971), ('loss', 8.781)]"
)
NEW = (
    "train, rank: 0, epoch: 0/4, data_slice: 0/1, step_in_slice: 1/4, step_in_epoch: 1, total step: 1, "
    "(loss_avg_rank: 8.771), (loss_avg_slice: 8.800), (ppl_avg_slice: 6.634e+03), (acc_avg_slice: 0.100), "
    "(lr: 2.500e-04), [('loss_att', 7.79), ('acc', 0.01), ('loss_pre', 0.981), ('loss', 8.771)], "
    "{'data_load': '0.010'}, GPU, memory: usage: 0.000 GB, peak: 0.000 GB"
)
BETWEEN = (
    "2024-03-05 10:11:12, rank: 0, epoch: 0/3, step: 1/4, total step: 1, (loss: 8.781), (lr: 2.500e-04), "
    "[('loss_att', 7.81), ('acc', 0.012)], {'data_load': '0.012'}, "
)
VALIDATION = NEW.replace("train,", "val,", 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (BETWEEN, {"loss_att": 7.81, "acc": 0.012, RETURNED: 8.781}),
        (OLD, {"loss_att": 7.81, "acc": 0.012, "loss_pre": 0.971, "loss": 8.781, RETURNED: 8.781}),
        (NEW, {"loss_att": 7.79, "acc": 0.01, "loss_pre": 0.981, "loss": 8.771, RETURNED: 8.771}),
        ("train, (loss_avg_rank: nan), [('acc', tensor)]", {RETURNED: pytest.approx(math.nan, nan_ok=True)}),
        ("", {}),
    ],
)
def test_the_numbers_of_a_line_are_read_by_name(line: str, expected: dict[str, Any]) -> None:
    assert read(line) == expected


def test_differences_are_the_worst_of_each_name() -> None:
    steps = [{"acc": 0.0101, RETURNED: 8.7712}, {"acc": 0.5, RETURNED: 8.771, "unheard_of": 3.0}]
    found = LogLines(lines=[NEW, NEW]).metrics(steps)
    assert found["log_lines"] == 2
    assert found["log_differences"] == pytest.approx({"acc": 0.49, RETURNED: 0.0002})


@pytest.mark.parametrize(
    ("printed", "known", "apart"), [("nan", math.nan, 0.0), ("nan", 1.0, math.inf), ("inf", math.inf, 0.0)]
)
def test_what_is_no_number_equals_itself_alone(printed: str, known: float, apart: float) -> None:
    line = f"train, (loss_avg_rank: {printed})"
    assert LogLines(lines=[line]).metrics([{RETURNED: known}])["log_differences"] == {RETURNED: apart}


def test_without_lines_nothing_is_compared() -> None:
    assert LogLines().metrics([{"acc": 1.0}]) == {"log_lines": 0, "log_differences": {}}


def listen() -> list[str]:
    from tqdm import tqdm

    log = LogLines()
    log.attach()
    logging.getLogger().setLevel(logging.INFO)
    logging.info(NEW)
    logging.info(VALIDATION)
    logging.info("Train epoch: 0, rank: 0\n")
    logging.info("a number: %d", 3)
    with tqdm(total=1, disable=True) as bar:
        bar.set_description("Validation epoch: 0")
    with tqdm(total=1) as bar:
        bar.set_description(OLD)
        bar.set_description("validation epoch: 0/3, (loss: 1.0)")
        bar.set_description(BETWEEN)
        bar.set_description(BETWEEN.replace("epoch", "validation epoch"))
    return log.lines


def test_lines_about_training_steps_are_heard_and_no_others(forked: Forked) -> None:
    pytest.importorskip("tqdm")
    assert forked(listen) == [NEW, OLD, BETWEEN]
