"""The answer in the terminal: a few lines a variant, wrapped, with words in place of colours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from report_factory import RELEASES, blocked, cell, judged, loss_failure, outcome, tuned

from harness.config.expansion import import_cell
from harness.core.cells import Failure, Status
from harness.report.terminal import TITLE, answer

ROOT = Path(__file__).parent.parent
NEWEST = RELEASES[-1]


def good(release, variant="paraformer_streaming"):
    return [
        outcome(import_cell(release)),
        outcome(cell(release, "construct", variant=variant)),
        tuned(release, "train_ds", variant=variant),
    ]


def bad(release, **place):
    low = outcome(cell(release, "loss_contract", **place), Status.FAILED, failure=loss_failure(320, 8404))
    return [low, blocked(cell(release, "finetune@train", **place), low.cell)]


def lines(outcomes, width=400):
    return answer(judged(outcomes), RELEASES, width=width).splitlines()


def test_it_says_which_releases_train_which_not_and_why_and_what_the_newest_came_to():
    broken = [item for release in RELEASES[6:12] for item in bad(release)]
    assert lines([*broken, *good(RELEASES[12]), *good(RELEASES[13])]) == [
        TITLE,
        f"paraformer_streaming: can be fine-tuned with {RELEASES[12]}, {RELEASES[13]}",
        "  cannot be fine-tuned:",
        f"    {RELEASES[6]} – {RELEASES[11]} (6 releases): The loss does not fit: The attention loss of the streaming"
        " model gets hidden states instead of scores over the vocabulary",
        f"  the newest here, {RELEASES[13]}: passed: import, construct, finetune",
    ]


def test_what_is_wrong_with_the_newest_is_reported_and_of_an_older_one_not():
    failure = Failure(type="PropertyFails", message="m", signature="PropertyFails@parts_add_up")
    older, newest = (
        [*good(release), outcome(cell(release, "properties"), Status.FAILED, "parts_add_up: m", failure=failure)]
        for release in (RELEASES[-2], NEWEST)
    )
    told = lines([*older, *newest])
    assert told[1] == f"paraformer_streaming: can be fine-tuned with {RELEASES[-2]}, {NEWEST}"
    assert told[2] == f"  the newest here, {NEWEST}: passed: import, construct, finetune"
    assert told[3].startswith("    wrong: properties: parts_add_up")
    assert len(told) == 4


def test_where_the_newest_is_broken_the_reason_is_reported_once():
    told = lines([*good(RELEASES[-2]), *bad(NEWEST)])
    assert told[1] == f"paraformer_streaming: can be fine-tuned with {RELEASES[-2]}"
    assert told[-1] == f"  the newest here, {NEWEST}: broken: loss_contract"
    assert sum("AssertionError" in line for line in told) == 1


def test_where_nothing_trains_that_is_said_first():
    assert lines(bad(NEWEST))[1] == "paraformer_streaming: no release of this run is known to be fit for fine-tuning"


def test_a_variant_that_was_not_fine_tuned_is_not_said_to_be_unfit():
    told = lines([*good(NEWEST, "paraformer"), outcome(cell(NEWEST, "construct"))])
    assert told[3:] == [
        "paraformer_streaming: nothing was fine-tuned",
        f"  nothing broken, and nothing fine-tuned: {NEWEST}",
        f"  the newest here, {NEWEST}: passed: import, construct",
    ]
    assert lines([outcome(cell(NEWEST, "construct"))])[1] == "paraformer_streaming: nothing was fine-tuned"


def test_a_check_that_failed_came_to_an_answer():
    failure = Failure(type="DataDiffers", message="m", signature="DataDiffers@long")
    told = lines([outcome(cell(NEWEST, "data@train_ds"), Status.FAILED, failure=failure)])
    assert f"  the newest here, {NEWEST}: no check passed" in told
    assert any(line.startswith("    wrong: data") for line in told)


def test_a_fault_of_the_machine_is_not_known_and_nobody_is_accused():
    fault = outcome(cell(NEWEST, "finetune@train_ds"), Status.ERRORED, "The disk is full.")
    told = lines([outcome(cell(NEWEST, "construct")), fault])
    assert "  not known:" in told
    assert not any("cannot be fine-tuned" in line for line in told)
    assert told[-1] == f"  the newest here, {NEWEST}: passed: construct; fault of the machine: finetune"


def test_many_reasons_are_cut_short_and_said_to_be():
    failures = [
        outcome(
            cell(release, "construct"),
            Status.FAILED,
            failure=Failure(type=f"E{number}", message="m", signature=f"E{number}@funasr/m.py:f"),
        )
        for number, release in enumerate(RELEASES[:7])
    ]
    told = lines(failures)
    assert "    and 4 more, in the report" in told
    assert sum(line.startswith("    1.") for line in told) == 3


def test_cells_about_no_variant_have_no_answer():
    assert lines([outcome(import_cell(NEWEST))]) == []


@pytest.mark.parametrize("width", [40, 72, 120])
def test_it_is_wrapped_at_the_terminals_width_and_says_the_same(width):
    outcomes = [*[item for release in RELEASES[6:12] for item in bad(release)], *good(NEWEST)]
    wrapped = lines(outcomes, width)
    assert max(map(len, wrapped)) <= width
    assert " ".join(" ".join(wrapped).split()) == " ".join(" ".join(lines(outcomes)).split())


def test_what_a_release_says_cannot_act_on_the_terminal():
    failure = Failure(type="E", message="m", signature="E@funasr/\x1b[2Jm.py:f")
    (text,) = ["\n".join(lines([outcome(cell(NEWEST, "construct"), Status.FAILED, failure=failure)]))]
    assert "\x1b" not in text


def test_a_run_starts_without_the_parts_that_only_the_reports_need():
    code = (
        "import sys, harness.commands.run\n"
        "print([name for name in ('jinja2', 'harness.report.summary', 'harness.report.html', 'harness.compare.drift',"
        " 'harness.compare.transitions', 'numpy', 'scipy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
