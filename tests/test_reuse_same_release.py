"""A check after the contract is taken from an earlier run of the same release, to the byte, and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from execute_scene import make_cell
from reuse_scene import changed, lay_out, published
from test_reuse_gate import BASE, LOSS, MODELS, RELEASE, SOURCE, TRAINER, Gated, gate

from harness import cli
from harness.compare.gate.format import Gate, terminal
from harness.core.cells import Cell, Check, Depth, Device, Entry, Failure, Outcome, Status
from harness.core.evidence import REUSED
from harness.run.provenance import ReuseFacts
from harness.run.reuse import reuse
from harness.run.reuse.kept import KeptOutcomes
from harness.run.reuse.reuse import Reuse

MEASURED = {"step_seconds": [0.2], "phase_seconds": {"forward": [0.1]}, "peak_resident_bytes": 7, "held_bytes": [5]}
HIDDEN = "import os\n\n\ndef train(value):\n    return value + int(open(os.environ['HIDDEN']).read())\n"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("trainings") / "base", RELEASE)


@pytest.fixture
def kept(tmp_path: Path) -> KeptOutcomes:
    return KeptOutcomes(tmp_path / "cache", "here")


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets whether trainings are drawn."""
    return lambda drawn: monkeypatch.setattr(reuse, "by_itself", lambda _source: drawn)


def trainings(found: Gated) -> list[Outcome]:
    return [one for cell, one in found.outcomes.items() if cell.check is Check.FINETUNE]


def test_a_later_run_of_the_same_release_trains_nothing(
    release: Path, kept: KeptOutcomes, tmp_path: Path, draws: Any
) -> None:
    draws(False)
    first = gate({BASE: release}, tmp_path / "tree", kept=kept, more={"metrics": MEASURED})
    assert first.ran(BASE)[Check.FINETUNE] == MODELS
    # a new folder with the same files, as where a CI installs it again
    again = changed(release, LOSS, "* 10", "* 10", to=tmp_path / "again")
    second = gate({BASE: again}, tmp_path / "tree", kept=kept, more={"metrics": MEASURED})
    assert second.ran(BASE)[Check.FINETUNE] == 0
    ran = {one.cell: one for one in trainings(first)}
    for one in trainings(second):
        assert one.evidence[REUSED] == {"cell": one.cell.id, "ran": ran[one.cell].started}
        assert one.status is Status.PASSED
        # what it took is the other run's; what a rule judges is kept
        assert one.metrics == {"parameters": ran[one.cell].metrics["parameters"], "held_bytes": [5]}
        assert one.seconds == 0.0


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        (TRAINER, "# once", "# one time"),
        ("funasr/models/layers.py", "", "\n"),
        ("funasr/template.yaml", "", "dropout: 0.1\n"),
        ("funasr/version.txt", "", "1\n"),
    ],
    ids=["a comment", "a line feed", "a file that nothing reads", "a text"],
)
def test_a_release_that_differs_anywhere_trains(
    release: Path, kept: KeptOutcomes, tmp_path: Path, draws: Any, file: str, before: str, after: str
) -> None:
    draws(False)
    gate({BASE: release}, tmp_path / "tree", kept=kept)
    other = changed(release, file, before, after, to=tmp_path / "other")
    assert gate({BASE: other}, tmp_path / "tree", kept=kept).ran(BASE)[Check.FINETUNE] == MODELS


def test_the_same_files_under_another_version_train(
    release: Path, kept: KeptOutcomes, tmp_path: Path, draws: Any
) -> None:
    draws(False)
    gate({BASE: release}, tmp_path / "tree", kept=kept)
    assert gate({SOURCE: release}, tmp_path / "tree", kept=kept).ran(SOURCE)[Check.FINETUNE] == MODELS


def test_another_request_or_environment_trains(release: Path, kept: KeptOutcomes, tmp_path: Path, draws: Any) -> None:
    draws(False)
    gate({BASE: release}, tmp_path / "tree", kept=kept)
    other = gate({BASE: release}, tmp_path / "tree", kept=kept, more={"seed": 1})
    assert other.ran(BASE)[Check.FINETUNE] == MODELS
    elsewhere = KeptOutcomes(tmp_path / "cache", "elsewhere")
    assert gate({BASE: release}, tmp_path / "tree", kept=elsewhere).ran(BASE)[Check.FINETUNE] == MODELS


def test_rows_count_by_their_content_and_not_by_their_path(
    release: Path, kept: KeptOutcomes, tmp_path: Path, draws: Any
) -> None:
    draws(False)

    def trained(folder: str, text: str) -> int:
        rows = tmp_path / folder / "train.jsonl"
        rows.parent.mkdir(exist_ok=True)
        rows.write_text(text)
        more = {"data": {"train": str(rows), "utterances": 1}}
        return gate({BASE: release}, tmp_path / "tree", kept=kept, more=more).ran(BASE)[Check.FINETUNE]

    assert trained("one", "row\n") == MODELS
    assert trained("two", "row\n") == 0
    assert trained("three", "another row\n") == MODELS


@pytest.mark.parametrize(
    "more",
    [{"data": {"own": {}}}, {"finetune": {"processes": 2}}, {"data": {"train": "gone.jsonl"}}],
    ids=["a user's rows", "two processes", "rows that cannot be read"],
)
def test_what_an_earlier_run_cannot_show_trains(
    release: Path, kept: KeptOutcomes, tmp_path: Path, draws: Any, more: Mapping[str, object]
) -> None:
    draws(False)
    for _ in range(2):
        found = gate({BASE: release}, tmp_path / "tree", kept=kept, more=more)
        assert found.ran(BASE)[Check.FINETUNE] == MODELS


def test_a_drawn_training_that_ends_otherwise_has_all_run_and_is_forgotten(
    kept: KeptOutcomes, tmp_path: Path, draws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("HIDDEN", str(state))
    folder = lay_out(tmp_path / "hidden", {**RELEASE, TRAINER: HIDDEN})
    draws(False)
    state.write_text("1")
    gate({BASE: folder}, tmp_path / "tree", kept=kept)
    state.write_text("2")
    # one of the two is drawn
    answers = iter([True, False])
    monkeypatch.setattr(reuse, "by_itself", lambda _source: next(answers))
    found = gate({BASE: folder}, tmp_path / "tree", kept=kept)
    assert found.ran(BASE)[Check.FINETUNE] == MODELS
    assert len(found.count.refuted) == 1
    draws(False)
    assert gate({BASE: folder}, tmp_path / "tree", kept=kept).ran(BASE)[Check.FINETUNE] >= 1


CELL = make_cell(0, check=Check.FINETUNE, entry=Entry.TRAIN, release=BASE)
REQUEST = {"release": {"label": BASE}, "seed": 1}


def reuse_of(folder: Path, kept: KeptOutcomes) -> Reuse:
    return Reuse(published({BASE: folder}), {BASE: folder}, seed=1, kept_outcomes=kept)


def ended(status: Status, cell: Cell = CELL) -> Outcome:
    failed = Failure(type="ValueError", message="", signature="ValueError@funasr/train.py:train")
    return Outcome(
        cell=cell,
        status=status,
        reason="" if status is Status.PASSED else "why",
        failure=failed if status is Status.FAILED else None,
        metrics={"losses": [1.0]},
    )


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        (Status.PASSED, True),
        (Status.FAILED, True),
        (Status.SKIPPED, True),
        (Status.ERRORED, False),
        (Status.TIMED_OUT, False),
        (Status.OUT_OF_MEMORY, False),
        (Status.CRASHED, False),
    ],
)
def test_only_what_follows_from_the_release_is_kept(
    release: Path, kept: KeptOutcomes, draws: Any, status: Status, taken: bool
) -> None:
    draws(False)
    first = reuse_of(release, kept)
    first.learn(ended(status), REQUEST, None)
    first.save()
    found = reuse_of(release, kept).offer(CELL, REQUEST)
    assert (found is not None) is taken
    if found:
        assert (found.status, found.failure) == (status, ended(status).failure)


def test_impact_says_nothing_of_checks_whose_code_is_not_recorded(
    release: Path, kept: KeptOutcomes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = "1.4.16"
    learns = Reuse(published({label: release}), {label: release}, seed=1, kept_outcomes=kept)
    learns.learn(ended(Status.PASSED, replace(CELL, release=label)), REQUEST, None)
    learns.save()
    words = ["impact", "--source", "1.4.15", "--against", label, "--cache", str(tmp_path / "cache")]
    assert cli.main(words) == 2
    assert f"no cell of {label} is recorded" in capsys.readouterr().err


def test_a_gate_says_what_it_took_from_earlier_runs() -> None:
    facts = ReuseFacts(seed=1, reused=14, confirmed=4, refuted=())
    gated = Gate(
        source="1.4.16+local", of="a change", against="1.4.16", matrix="later_checks", pairs=(), diagnoses={},
        notices=(), reuse=facts,
    )  # fmt: skip
    assert "14 cells of 1.4.16 taken from earlier runs." in terminal(gated)
    assert "taken from earlier runs" not in terminal(replace(gated, reuse=replace(facts, reused=0)))


def test_which_checks_an_earlier_run_of_the_same_release_shows() -> None:
    shown = {check for check in Check if Reuse({}, {}, seed=1).remembers(replace(CELL, check=check))}
    assert shown == {Check.PROPERTIES, Check.DATA, Check.FINETUNE, Check.CHECKPOINT, Check.DECODE}


def test_a_training_on_a_gpu_is_never_taken(release: Path, kept: KeptOutcomes, draws: Any) -> None:
    draws(False)
    cell = replace(CELL, device=Device.CUDA, depth=Depth.FULL)
    first = reuse_of(release, kept)
    first.learn(ended(Status.PASSED, cell), REQUEST, None)
    first.save()
    assert reuse_of(release, kept).offer(cell, REQUEST) is None


def test_a_fault_of_the_machine_refutes_nothing(release: Path, kept: KeptOutcomes, draws: Any) -> None:
    draws(False)
    first = reuse_of(release, kept)
    first.learn(ended(Status.PASSED), REQUEST, None)
    first.save()
    draws(True)
    second = reuse_of(release, kept)
    assert second.offer(CELL, REQUEST) is None
    second.learn(ended(Status.ERRORED), REQUEST, None)
    assert not second.count.refuted
    second.learn(ended(Status.FAILED), REQUEST, None)
    assert set(second.count.refuted) == {CELL.id}


def measured(step: float, held: int, place: int, loss: float = 1.0) -> Outcome:
    """A training as it comes out of a run: with what it took, and where its cell's folder was."""
    metrics = {
        "losses": [loss],
        "step_seconds": [step],
        "held_bytes": [held],
        "invariants": {"running_seconds": [step], "idle_seconds": [step], "trainable_parameters": 80},
        "config_in_force": {"init_param": f"<workspace>/scratch/{place}/seed-0/model/model.pt"},
        "trainings": [{"losses": [loss], "step_seconds": [step]}],
        "mismatch": [{"line": f"[2026-11-27 03:58:5{place},128][root][INFO] - ignore_init_mismatch:True"}],
    }
    said = {"said": [f"no such file: <workspace>/scratch/{place}/model.pt"]}
    evidence = {"findings": [{"code": "init-param-missing", "message": "It is not there.", "detail": said}]}
    return replace(ended(Status.PASSED), metrics=metrics, evidence=evidence)


def test_a_drawn_training_confirms_whatever_time_and_memory_it_took(
    release: Path, kept: KeptOutcomes, draws: Any
) -> None:
    first = reuse_of(release, kept)
    first.learn(measured(0.2, 100, 3), REQUEST, None)
    first.save()
    draws(True)
    second = reuse_of(release, kept)
    assert second.offer(CELL, REQUEST) is None
    second.learn(measured(0.3, 101, 1), REQUEST, None)
    assert (second.count.confirmed[Check.FINETUNE], second.count.refuted) == (1, {})
    second.learn(measured(0.2, 100, 3, loss=1.0000001), REQUEST, None)
    assert set(second.count.refuted) == {CELL.id}


def test_about_one_training_in_sixteen_is_drawn(release: Path, kept: KeptOutcomes) -> None:
    first = reuse_of(release, kept)
    first.learn(ended(Status.PASSED), REQUEST, None)
    first.save()
    drawn = 0
    for seed in range(320):
        later = Reuse(published({BASE: release}), {BASE: release}, seed=seed, kept_outcomes=kept)
        # the draw is not repeated with each question
        answers = {later.offer(CELL, REQUEST) is None for _ in range(3)}
        assert len(answers) == 1
        drawn += answers.pop()
    assert 8 <= drawn <= 36
