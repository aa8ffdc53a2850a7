"""Memory and time by phase in the reports: what was measured stands there, and what was not is said so."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import judged, run_of, training, tuned

from harness.core.cells import Depth, Device, Precision, Status
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.report.memory import NOT_ON_A_GPU, cell_memory
from harness.report.memory_chart import ChartBand, Timeline, draw
from harness.report.summary import summarise

MIB = 2**20
STEPS = 8


def on_cpu(release="1.4.9", **metrics):
    seconds = {
        "data": [0.0] + [0.1] * (STEPS - 1),
        "forward": [5.0] * 4 + [0.3] * (STEPS - 4),
        "backward": [5.0] * 4 + [0.5] * (STEPS - 4),
        "optimizer": [0.08] * STEPS,
        "harness": [0.01] * STEPS,
        "other": [0.01] * STEPS,
    }
    seen = {
        "warmup_steps": 4,
        "phase_clock": "perf_counter",
        "phase_seconds": seconds,
        "memory_parts": {"weights": 88 * MIB, "gradients": 77 * MIB, "optimizer_state": 154 * MIB, "activations": None},
        "memory_peak": None,
        "peak_allocated_by_step": None,
        "held_bytes": [1000 * MIB + step for step in range(STEPS)],
        "utilisation": {"mean": None, "samples": 0, "told": NOT_ON_A_GPU},
    }
    return tuned(release, metrics={**training(steps=STEPS), **seen, **metrics})


def on_gpu(release="1.4.9", *, status=Status.PASSED, **metrics):
    one = on_cpu(release)
    seen = {
        "peak_allocated_bytes": 5000 * MIB,
        "peak_reserved_bytes": 5400 * MIB,
        "peak_used_bytes": 5900 * MIB,
        "held_bytes": [400 * MIB] * STEPS,
        "peak_allocated_by_step": [4000 * MIB] + [5000 * MIB] * (STEPS - 1),
        "memory_peak": {"step": 2, "phase": "backward", "allocated": 5000 * MIB},
        "memory_parts": {
            **one.metrics["memory_parts"],
            "activations": 4100 * MIB,
            "workspace_and_fragmentation": 400 * MIB,
            "context": 500 * MIB,
        },
        "utilisation": {"mean": 0.93, "samples": 12, "told": "measured"},
    }
    cell = replace(one.cell, device=Device.CUDA, depth=Depth.FULL, precision=Precision.BF16)
    reason = "" if status is Status.PASSED else "OutOfMemoryError: planted"
    return replace(one, cell=cell, status=status, reason=reason, metrics={**one.metrics, **seen, **metrics})


def pages(*outcomes):
    summary = summarise(run_of(outcomes), judged(outcomes))
    return render_html(summary), render_markdown(summary)


def section(page):
    return page.partition('<section id="memory">')[2].partition("</section>")[0]


def test_times_are_medians_after_the_warm_up_and_their_shares_make_one():
    cell = cell_memory(on_cpu())
    seconds = {phase.name: phase.seconds for phase in cell.phases}
    assert seconds == {"data": 0.1, "forward": 0.3, "backward": 0.5, "optimizer": 0.08, "harness": 0.01, "other": 0.01}
    assert cell.step_seconds == pytest.approx(1.0)
    assert sum(phase.share for phase in cell.phases) == pytest.approx(1.0)


def test_a_training_that_is_all_warm_up_has_no_times():
    cell = cell_memory(on_cpu(phase_seconds={"forward": [1.0] * 4}))
    assert cell.step_seconds is None
    assert {phase.seconds for phase in cell.phases} == {None}


def test_a_phase_that_could_not_be_seen_is_no_zero():
    seconds = {**on_cpu().metrics["phase_seconds"], "data": None}
    phases = {phase.name: phase for phase in cell_memory(on_cpu(phase_seconds=seconds)).phases}
    assert (phases["data"].seconds, phases["data"].share) == (None, None)


def test_on_a_cpu_nothing_is_reported_of_a_gpus_memory():
    page, file = pages(on_cpu())
    told = section(page)
    assert "not measured on a GPU" in told
    assert "154 MiB" in told
    assert "resident memory of the process" in told
    assert not re.search(r"<th[^>]*>(allocated|reserved|used|activations|GPU busy)<", told)
    row = next(line for line in file.splitlines() if "finetune" in line and "88 MiB" in line)
    assert row.count(NOT_ON_A_GPU) == 5


def test_on_a_gpu_everything_that_was_measured_stands_there():
    page, file = pages(on_gpu())
    told = section(page)
    for words in ("5,000 MiB", "5,400 MiB", "5,900 MiB", "4,100 MiB", "400 MiB", "500 MiB", "93.0 %", "12 looks",
                  "backward, step 3", "optimizer state"):  # fmt: skip
        assert words in told
    assert "resident memory" not in told
    for words in ("5,000 MiB", "4,100 MiB", "93.0 %", "300 ms (30.0 %)"):
        assert words in file
    assert NOT_ON_A_GPU not in file.partition("## Memory and time")[2].partition("\n## ")[0]


def test_what_a_gpu_did_not_tell_is_said_with_its_reason():
    page, _ = pages(on_gpu(utilisation={"mean": None, "samples": 0, "told": "no permission"}, peak_used_bytes=None))
    assert "no permission" in section(page)
    assert '<td class="num">–</td>' in section(page)


@pytest.mark.parametrize(
    ("device", "used", "said"),
    [
        (
            {"clean_at_start": False, "at_start": {"other_processes": 2, "used_bytes": 700 * MIB}, "kind": "GPU"},
            MIB,
            "not clean when the training began (other processes on it: 2; in use: 700 MiB)",
        ),
        ({"clean_at_start": None, "kind": "GPU"}, MIB, "Whether another process used the device is not known."),
        ({"clean_at_start": True, "used_told": "no permission"}, None, "is not known: no permission."),
        ({"clean_at_start": True, "kind": "MIG"}, MIB, "a partition of a GPU"),
        ({"clean_at_start": True, "kind": "GPU"}, MIB, ""),
    ],
)
def test_a_device_that_casts_doubt_on_the_figures_is_said(device, used, said):
    outcome = on_gpu(device=device, peak_used_bytes=used)
    assert bool(cell_memory(outcome).notes) is bool(said)
    for text in pages(outcome):
        assert said in text


def test_memory_that_ran_out_is_reported_with_what_to_do():
    shortage = {
        "requested_bytes": 2560 * MIB,
        "capacity_bytes": 24000 * MIB,
        "free_bytes": 100 * MIB,
        "allocated_bytes": 23000 * MIB,
        "reserved_bytes": 23500 * MIB,
        "phase": "forward",
        "step": 3,
        "largest_phase": "backward",
    }
    page, file = pages(on_gpu(status=Status.OUT_OF_MEMORY, out_of_memory=shortage))
    for text in (section(page), file):
        assert "forward, step 4" in text
        assert "2,560 MiB more were requested" in text
        assert "23,000 MiB allocated and 23,500 MiB reserved" in text
        assert "Use a smaller batch" in text


def test_a_run_whose_trainings_say_nothing_of_it_has_no_such_section():
    page, file = pages(tuned("1.4.9"))
    assert 'id="memory"' not in page
    assert "## Memory and time" not in file


def test_on_a_cpu_one_picture_stands_for_a_model_and_on_a_gpu_each_training_has_its_own():
    releases = ("1.4.7", "1.4.8", "1.4.9")
    assert section(pages(*map(on_cpu, releases))[0]).count("<svg") == 1
    assert section(pages(*map(on_gpu, releases))[0]).count("<svg") == 3


def test_what_a_release_says_is_not_obeyed():
    hostile = "<script>alert(1)</script>"
    busy = {"mean": None, "samples": 0, "told": hostile}
    page, file = pages(on_gpu(utilisation=busy, memory_peak={"step": 1, "phase": hostile}))
    assert hostile not in section(page)
    assert hostile not in file


WHOLE = Timeline(
    what="GPU memory held by tensors",
    held=(300.0 * MIB, 310.0 * MIB, 320.0 * MIB),
    peak=(900.0 * MIB, 910.0 * MIB, 920.0 * MIB),
    bands=(
        ChartBand(kind="weights", name="weights", size=100.0 * MIB),
        ChartBand(kind="optimizer_state", name="optimizer state", size=200.0 * MIB),
    ),
)


def heights(path):
    return [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]


def test_bands_depend_on_each_other_from_zero_and_have_their_names():
    picture = draw(WHOLE, title="memory")
    root = ElementTree.fromstring(picture)
    assert root.findtext("title") == "memory"
    bands = {kind: list(map(float, edges)) for kind, *edges in re.findall(
        r'class="m-(weights|optimizer_state)" d="M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)H', picture)}  # fmt: skip
    assert bands["weights"][0] == bands["optimizer_state"][1]
    bottom = float(re.findall(r'c-rule" d="M[\d.]+ ([\d.]+)H', picture)[0])
    assert bands["weights"][1] == bottom
    assert "optimizer state: 200 MiB" in [element.text for element in root.iter("text")]


def test_what_lies_between_the_counted_and_the_peak_is_filled_where_every_step_is_known():
    assert 'class="m-rest"' in draw(WHOLE, title="memory")
    assert "m-rest" not in draw(replace(WHOLE, peak=(900.0 * MIB, None, 920.0 * MIB)), title="memory")
    assert "m-rest" not in draw(replace(WHOLE, peak=(1.0 * MIB,) * 3), title="memory")


def test_memory_that_grows_climbs():
    picture = draw(WHOLE, title="memory")
    for kind in ("m-held", "m-peak"):
        drawn = heights(re.search(rf'class="{kind}" d="([^"]+)"', picture)[1])
        assert drawn == sorted(drawn, reverse=True)
        assert len(set(drawn)) == 3


def test_a_small_growth_of_the_process_is_seen():
    held = tuple(1400.0 * MIB + MIB * step for step in range(10))
    picture = draw(Timeline(what="resident memory of the process", held=held), title="memory")
    drawn = heights(re.search(r'class="m-held" d="([^"]+)"', picture)[1])
    assert drawn[0] - drawn[-1] > 100
    assert "MiB" in [element.text for element in ElementTree.fromstring(picture).iter("text")]


sizes = st.lists(st.none() | st.floats(min_value=0, max_value=1e15) | st.just(math.nan), max_size=40).map(tuple)


@given(held=sizes, peak=sizes, band=st.floats(min_value=0, max_value=1e12))
def test_any_course_gives_a_sound_picture(held, peak, band):
    bands = (ChartBand(kind="weights", name="weights", size=band),)
    picture = draw(Timeline(what="x < y", held=held, peak=peak, bands=bands), title="</title><script>")
    if picture:
        ElementTree.fromstring(picture)
    assert "<script>" not in picture
    assert not re.search(r"\b(nan|inf)\b", picture)
