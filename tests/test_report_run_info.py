"""What was run on what, and no VRAM figure where there is none."""

from __future__ import annotations

import pytest
from report_factory import cell, judged, outcome, run_of, training, tuned

from harness.core.cells import Cell, Status
from harness.core.evidence import REUSED
from harness.report.run_info import read_run_info
from harness.run.provenance import ReuseFacts


def on_gpu(check, status=Status.PASSED, **fields):
    at = Cell.parse(f"1.4.0/paraformer/v8404-h320/published/{check}/cuda-bf16")
    return outcome(at, status, **fields)


def setting_of(*outcomes, **fields):
    return read_run_info(run_of(outcomes, **fields).provenance, judged(outcomes))


@pytest.mark.parametrize(
    "outcomes",
    [
        [tuned("1.4.0")],
        [on_gpu("construct", Status.SKIPPED)],
        [on_gpu("construct", Status.ERRORED)],
        [],
    ],
)
def test_a_run_without_a_gpu_says_so(outcomes):
    setting = setting_of(*outcomes, gpus=("A GPU that was not used",))
    assert setting.banner == "Not measured on a GPU: no VRAM figure in this report."
    assert not setting.on_gpu


def test_a_run_on_a_gpu_without_a_fine_tune_has_no_vram_figure_either():
    setting = setting_of(on_gpu("construct"))
    assert setting.on_gpu
    assert setting.banner == "No VRAM figure in this report: no fine-tune was measured on the GPU."


def test_a_fine_tune_on_a_gpu_needs_no_banner():
    metrics = training() | {"peak_allocated_bytes": 5_000_000_000}
    setting = setting_of(on_gpu("finetune@train", metrics=metrics), gpus=("H100",), driver="570.1")
    assert setting.banner == ""
    assert {fact.name: fact.text for fact in setting.facts}["GPU"] == "H100, driver 570.1"


@pytest.mark.parametrize("facts", [None, ReuseFacts(seed=7, reused=0, confirmed=3)], ids=["killed", "whole"])
def test_the_outcomes_say_how_many_were_reused(facts):
    ran = outcome(cell("1.4.0", "construct"))
    reused = outcome(cell("1.4.1", "construct"), evidence={REUSED: {"cell": ran.cell.id, "ran": ran.started}})
    shown = {fact.name: fact.text for fact in setting_of(ran, reused, reuse=facts).facts}["Reuse"]
    assert shown.startswith("1 cell not run, because")
    assert shown.endswith("3 more were drawn (seed 7), run nevertheless, and ended as predicted") == bool(facts)
    assert "Reuse" not in {fact.name for fact in setting_of(ran, reuse=facts).facts}


def test_everything_that_a_reader_asks_for_is_there():
    facts = {fact.name: fact.text for fact in setting_of(outcome(cell("1.4.0", "construct"))).facts}
    assert facts == {
        "Date": "2026-01-01 08:00:00 to 09:10:00 UTC",
        "Host": "Linux-6.1.0-x86_64-with-glibc2.36",
        "Processor": "Imaginary CPU @ 2.00GHz, 2 cores in use, 8 GiB of memory",
        "GPU": "none",
        "Python and torch": "Python 3.11.2, torch 2.13.0+cpu (CPU build)",
        "Libraries": "torchaudio 2.11.0, numpy 2.4.0, transformers 5.1.0",
        "Harness": "0.1.0, commit 0123456789ab",
        "Matrix": "atlas, 2,121 cells, sha256 abababababab…",
    }


def test_what_makes_a_run_less_than_whole_is_reported():
    setting = setting_of(finished=None, selection=("1.4.*",), earlier_commits=("abc+",), harness_dirty=True)
    assert [notice.split(":")[0] for notice in setting.notices] == [
        "The run was not finished when this report was made.",
        "Only a part of the matrix was selected",
        "Some outcomes are by other commits of the harness",
    ]
    assert setting.harness == "0.1.0, commit 0123456789ab with changes"
