"""`drift` as a user meets it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from drift_scene import recording_of, tuned_to
from report_factory import run_of

from harness import cli
from harness.commands import drift
from harness.commands.arguments import make_parser
from harness.compare.drift.divergences import CurveDivergence
from harness.compare.drift.recordings import load_recordings
from harness.run.outcome_lines import line_of

ROOT = Path(__file__).parent.parent
OTHER = (9.0, 8.5, 8.1, 7.5)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "run"
    folder.mkdir()
    outcomes = [
        tuned_to("1.4.0"),
        tuned_to("1.4.1"),
        tuned_to("1.4.2", OTHER),
        tuned_to("1.4.3", OTHER[:3]),
        tuned_to("1.4.6", OTHER[:2]),
    ]
    (folder / "outcomes.jsonl").write_bytes(b"".join(map(line_of, outcomes)))
    (folder / "run.json").write_text(json.dumps(run_of().provenance.to_json()))
    return folder


def test_groups_and_divergences_are_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drift", str(run)]) == 0
    printed = capsys.readouterr()
    assert f"funasr-harness drift {run} --trace 1" in printed.err.replace("\n", "")
    said = printed.out
    assert "1.4.0, 1.4.1 " in said
    assert "divergence 1: 1.4.1 → 1.4.2: not yet explained" in said
    assert "divergence 2: 1.4.2 → 1.4.3: another number of steps (feeding or schedule)" in said
    assert "Not measured between the two: 1.4.4, 1.4.5." in said
    asked = "--check finetune@train --variant paraformer_streaming --dimensions v8404-h320 --depth reduced"
    assert f"funasr-harness bisect --by curve {asked} --device cpu --precision fp32 --good 1.4.3 --bad 1.4.6" in said
    assert said.count("Not measured") == 1
    for line in re.findall(r"funasr-harness (?:drift|bisect) .*", f"{said}\n{printed.err}"):
        # What is printed is understood as it stands: the same command with nothing left open.
        options = make_parser().parse_args(shlex.split(line)[1:])
        asked = (options.good, options.bad) if options.command == "bisect" else (str(options.run), options.trace)
        assert asked in (("1.4.3", "1.4.6"), (str(run), "1"))


def test_the_analysis_is_printed_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drift", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == 1
    assert [(one["before"], one["after"]) for one in record["divergences"]] == [
        ("1.4.1", "1.4.2"),
        ("1.4.2", "1.4.3"),
        ("1.4.3", "1.4.6"),
    ]


def test_what_is_recorded_is_kept_beside_the_run_and_told(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[str] = []

    def record(_asker: Any, divergence: CurveDivergence) -> Any:
        recorded.append(divergence.after)
        return recording_of(divergence)

    monkeypatch.setattr(drift, "record", record)
    monkeypatch.setattr(drift, "cell_runner", lambda _options: None)
    assert cli.main(["drift", str(run), "--trace", "all"]) == 0
    assert recorded == ["1.4.2"]
    assert len(load_recordings(run)) == 1
    assert "the model computes something else (computation)" in capsys.readouterr().out
    assert cli.main(["drift", str(run), "--trace", "2"]) == 0
    assert recorded == ["1.4.2"]
    assert "nothing to record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--trace", "7"], "7 is no number of a divergence"),
        (["--trace", "first"], "first is no number of a divergence"),
        (["--only", "*nothing*"], '"*nothing*" matches no finetune cell'),
    ],
)
def test_what_cannot_be_reported_is_one_clear_error(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], what: str
) -> None:
    assert cli.main(["drift", str(run), *options]) == 2
    assert what in capsys.readouterr().err


def test_a_run_without_curves_is_an_error_that_says_what_to_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "outcomes.jsonl").write_bytes(b"")
    assert cli.main(["drift", str(run)]) == 2
    assert "no finetune cell has a loss curve" in capsys.readouterr().err
