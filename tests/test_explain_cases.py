"""Logs that real trainings wrote and users reported: each is explained by the right rule, and sound ones by none."""

from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.explain.explain import explain_stream, explain_text
from harness.explain.explanation import LogReport
from harness.explain.terminal import render

FOLDER = Path(__file__).parent / "explain_cases"
CASES: list[dict[str, Any]] = tomllib.loads((FOLDER / "cases.toml").read_text("utf-8"))["case"]
SOUND = sorted(path.stem for path in FOLDER.glob("sound_*.log"))


def read(name: str) -> LogReport:
    with (FOLDER / f"{name}.log").open("rb") as stream:
        return explain_stream(stream, source=f"{name}.log", named=None, cache=Path("/nowhere"))


@pytest.mark.parametrize("case", CASES, ids=lambda one: one["log"])
def test_a_real_log_is_explained_by_its_rule_alone(case: dict[str, Any]) -> None:
    report = read(case["log"])
    assert [one.rule for one in report.explanations] == case["rules"]
    first = report.explanations[0]
    assert (str(first.owner), first.explained) == (case["owner"], case.get("explained", True))
    assert case["release"] in report.release


def test_the_readme_has_what_is_printed_of_the_first_failure() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert "\n".join(line.plain for line in render(read("seed"))) in readme


@pytest.mark.parametrize("name", SOUND)
def test_nothing_wrong_is_found_in_a_sound_training(name: str) -> None:
    report = read(name)
    assert report.fine, [one.rule for one in report.explanations]
    assert report.notes == ()
    assert name.split("_")[1] in report.release


def test_there_are_enough_of_both() -> None:
    assert len(SOUND) >= 8
    assert len(CASES) >= 40
    assert {case["log"] for case in CASES} | set(SOUND) == {path.stem for path in FOLDER.glob("*.log")}


def test_the_logs_have_nothing_of_a_machine() -> None:
    for path in FOLDER.glob("*.log"):
        assert not re.search(rf"{re.escape(str(Path.home()))}/|/tmp/", path.read_text("utf-8")), path.name


@pytest.mark.parametrize("case", CASES, ids=lambda one: one["log"])
def test_a_log_that_is_cut_anywhere_is_read(case: dict[str, Any]) -> None:
    data = (FOLDER / f"{case['log']}.log").read_bytes()
    for at in (len(data) // 3, len(data) - 30):
        explain_stream(io.BytesIO(data[:at]), source="x", named=None, cache=Path("/nowhere"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        # Titles of reports, as they are.
        ("assert x.size(2) == self.size AssertionError", "streaming-hidden-states-into-loss"),
        ("AssertionError: assert x.size(2) == self.size", "streaming-hidden-states-into-loss"),
        ("assert text_lengths.dim() == 1, text_lengths.shape AssertionError: torch.Size([])", "seaco-batch-of-one"),
        (
            "forward() missing 4 required positional arguments: 'speech', 'speech_lengths', 'text', and 'text_lengths'",
            "utterance-larger-than-batch",
        ),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "card-is-full"),
        # What fits several causes, or none that is known, is not explained.
        (
            "TypeError: forward() missing 3 required positional arguments: 'speech_lengths', 'text', and 'text_len'",
            "outside-funasr",
        ),
        ("RuntimeError: The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1",
         "outside-funasr"),
        ("**NameError: name 'load_audio' is not defined**", "outside-funasr"),
        ("KeyError: 6491", "outside-funasr"),
        ("IndexError: list index out of range", "outside-funasr"),
        ("the loss does not fall", "outside-funasr"),
    ],
)  # fmt: skip
def test_a_pasted_title_is_explained_where_its_text_is_enough(text: str, rule: str) -> None:
    (one,) = explain_text(text, named=None, cache=Path("/nowhere")).explanations
    assert one.rule == rule
    assert one.explained == (rule != "outside-funasr")


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ("Ambiguous value for argument 'freeze_param=a,b'\n1. To use it as a list, use key=[a]", "override-ambiguous"),
        ("mismatched input '=' expecting <EOF>\nSee https://hydra.cc for details", "override-not-understood"),
        ("Could not override 'optim_conf.lr'.\nTo append to your config use +optim_conf.lr=1", "override-of-no-key"),
        ("Primary config directory not found.\nCheck that the config directory exists", "config-not-found"),
        ("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n  exitcode  : -9 (pid: 7)", "signal-9"),
        ("finetune.sh: line 60:  4242 Killed                  python train.py", "signal-9"),
        ("RuntimeError: DataLoader worker (pid 77) is killed by signal: Killed. ", "worker-ended"),
        ("RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is", "shared-memory-is-full"),
        ("OSError: [Errno 28] No space left on device", "disk-is-full"),
        ("RuntimeError: CUDA error: device-side assert triggered", "index-out-of-range-on-card"),
        ("RuntimeError: CUDA error: invalid device ordinal", "fewer-cards-than-processes"),
        ("torch.distributed.DistNetworkError: The server socket has failed to listen: EADDRINUSE", "port-in-use"),
        ("ModuleNotFoundError: No module named 'tensorboardX'", "library-missing"),
        ("ModuleNotFoundError: No module named 'funasr.bin.build_trainer'", "funasr-of-other-age"),
        ("AttributeError: module 'numpy' has no attribute 'float'", "library-of-other-age"),
        ("RuntimeError: Could not load libtorchcodec. Likely causes: FFmpeg is not", "audio-needs-torchcodec"),
        ("KeyboardInterrupt: stop", "interrupted"),
        ("PermissionError: [Errno 13] Permission denied: '/data/exp'", "permission"),
        ("AssertionError: choose a window size 400 that is [2, 120]", "audio-too-short"),
        ("RuntimeError: Expected to have finished reduction in the prior iteration before", "unused-parameters"),
        ("ValueError: loaded state dict contains a parameter group that doesn't match the size of optimizer's group",
         "optimizer-state-of-another-training"),
    ],
)  # fmt: skip
def test_what_is_printed_without_a_traceback_is_explained(lines: str, rule: str) -> None:
    report = explain_stream(io.BytesIO(lines.encode()), source="x", named=None, cache=Path("/nowhere"))
    assert [one.rule for one in report.explanations] == [rule]


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    text = "ValueError: \x1b[2J\x1b]0;title\x07 [red]bold[/red] \u202e <script>\x00"
    report = explain_stream(io.BytesIO(text.encode()), source="\x1b[31mx.log", named=None, cache=Path("/nowhere"))
    shown = "\n".join(line.plain for line in render(report, verbose=True))
    assert "[red]bold[/red]" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x00", "\u202e"}


@pytest.mark.parametrize("case", CASES, ids=lambda one: one["log"])
def test_an_explanation_is_short(case: dict[str, Any]) -> None:
    assert len(list(render(read(case["log"])))) <= 30
