"""`diagnose` and `gate` as a user meets them; torch and the process tree are stood in for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_scene import CELL, FakeTree, World, make_world

from harness.commands import common
from harness.compare.diagnose.investigate import slug
from harness.core.cells import Cell, Failure, Frame, Status

LOSS = CELL.format("loss_contract")
BEFORE = LOSS.replace("1.4.16", "1.4.15")
FAILURE = Failure(
    type="AssertionError",
    message="x.size(2) == self.size",
    frames=(Frame(file="funasr/__init__.py", line=1, function="<module>", code="__version__"),),
    signature="AssertionError@funasr/__init__.py:<module>",
)
FAILED: dict[str, Any] = {"status": Status.FAILED, "reason": "it fails", "failure": FAILURE}


@pytest.fixture(scope="session")
def diagnosis_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(
    tmp_path: Path, diagnosis_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    return make_world(tmp_path / "user", diagnosis_cache, capsys, monkeypatch)


def diagnose(world: World, *arguments: str) -> Any:
    return world.call("diagnose", *arguments, "--matrix", "matrices/small.toml", "--cache", str(world.cache))


def gate(world: World, *arguments: str) -> Any:
    return world.call("gate", *arguments, "--matrix", "matrices/small.toml", "--cache", str(world.cache))


def test_it_tells_which_release_it_chose_and_stores_what_it_found(world: World) -> None:
    world.tree.failing[LOSS] = FAILED
    world.run()
    said = diagnose(world, LOSS)
    assert said.status == 1, said.err
    assert (
        "and the same cell of 1.4.15: the nearest release in which this cell passes (runs/small); earlier, next to it"
        in said.err
    )
    assert "The cause is not known." in said.out
    assert "known: in 1.4.16 it ends in AssertionError in funasr/__init__.py:<module>" in said.out
    assert "What to do: Go back to 1.4.15" in said.out
    folder = world.folder / "runs" / "diagnoses" / slug(Cell.parse(LOSS), "1.4.15")
    stored = json.loads((folder / "diagnosis.json").read_text(encoding="utf-8"))
    assert (stored["cell"], stored["against"], stored["cause"]) == (LOSS, "1.4.15", "")
    assert "compared with 1.4.15" in (folder / "diagnosis.md").read_text(encoding="utf-8").lower()


def test_the_diagnosis_is_printed_as_json(world: World) -> None:
    world.tree.failing[LOSS] = FAILED
    world.run()
    said = diagnose(world, LOSS, "--json")
    record = json.loads(said.out)
    assert (record["schema"], record["cell"], record["against"], record["cause"]) == (1, LOSS, "1.4.15", "")


def test_a_cell_that_passes_is_run_alone_and_needs_no_diagnosis(world: World) -> None:
    world.run()
    world.tree.asked.clear()
    said = diagnose(world, LOSS)
    assert said.status == 0
    assert world.tree.asked == [LOSS]
    assert "It passes: there is nothing to diagnose" in said.err


def test_another_release_can_be_named(world: World) -> None:
    said = diagnose(world, LOSS, "--against", "1.4.15")
    assert said.status == 0
    assert sorted(world.tree.asked) == sorted([BEFORE, LOSS])
    assert "Nothing fails in either." in said.out
    assert "What to do" not in said.out


def test_without_a_release_in_which_it_passes_it_says_so(world: World) -> None:
    world.tree.failing |= {LOSS: FAILED, BEFORE: FAILED}
    world.run()
    said = diagnose(world, LOSS)
    assert said.status == 1
    assert "No run has a release in which paraformer/v8404-h320/reduced/loss_contract/cpu-fp32 passes" in said.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "not a cell id"),
        ([LOSS.replace("1.4.16", "1.4.61")], "1.4.61 is no published release"),
        ([LOSS.replace("paraformer", "parafomer")], "parafomer"),
        ([LOSS, "--against", "all"], "--against all means 2 releases"),
    ],
)
def test_what_cannot_be_asked_is_reported_before_anything_runs(world: World, arguments: list[str], told: str) -> None:
    said = diagnose(world, *arguments)
    assert said.status == 2
    assert told in said.err
    assert world.tree.asked == []


def write_checkout(world: World) -> Path:
    package = world.folder / "checkout" / "funasr"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("mine = 1\n")
    (package / "version.txt").write_text("1.4.16\n")
    return package.parent


def local_label(said_tree: FakeTree) -> str:
    return next(name.partition("/")[0] for name in said_tree.asked if "+local." in name)


def test_a_checkout_that_breaks_nothing_passes_the_gate(world: World) -> None:
    said = gate(world, "--source", str(write_checkout(world)))
    assert said.status == 0, said.err
    assert "against 1.4.16: 0 regressed, 0 fixed, 2 same, 0 spurious" in said.out
    assert "nothing regressed" in (world.folder / "runs/gate/gate.md").read_text(encoding="utf-8")


def test_a_regression_is_reported_with_its_diagnosis_and_ends_with_1(world: World) -> None:
    checkout = write_checkout(world)
    said = gate(world, "--source", str(checkout))
    label = local_label(world.tree)
    world.tree.failing[f"{label}/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"] = FAILED
    said = gate(world, "--source", str(checkout))
    assert said.status == 1
    assert "1 regressed, 0 fixed, 1 same" in said.out
    text = (world.folder / "runs/gate/gate.md").read_text(encoding="utf-8")
    assert "1 cell regressed" in text
    assert "❌ regressed" in text
    assert "The cause is not known." in text
    stored = json.loads((world.folder / "runs/gate/gate.json").read_text(encoding="utf-8"))
    assert stored["counts"] == {"regressed": 1, "fixed": 0, "same": 1, "spurious": 0}
    assert list(stored["diagnoses"]) == [f"{label}/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"]
    said = gate(world, "--source", str(checkout), "--json")
    assert (said.status, json.loads(said.out)) == (1, {**stored, "diagnoses": json.loads(said.out)["diagnoses"]})


def test_a_gate_says_how_many_cells_it_took_over_and_keeps_it_in_its_record(world: World) -> None:
    checkout = write_checkout(world)
    assert "not run" not in gate(world, "--source", str(checkout)).out
    stored = world.folder / "runs/gate/gate.json"
    assert json.loads(stored.read_text(encoding="utf-8"))["reuse"] is None
    said = gate(world, "--source", str(checkout), "--reuse")
    assert said.status == 0, said.err
    # The stand-in runs every cell.
    assert "0 of 2 cells of the source not run" in said.out
    record = json.loads(stored.read_text(encoding="utf-8"))
    assert (record["reuse"]["reused"], record["reuse"]["refuted"]) == (0, [])
    assert [one["reused"] for one in record["pairs"]] == [False, False]


def test_nothing_is_run_again_until_it_passes_and_the_time_limits_are_the_matrixs(world: World) -> None:
    world.write_matrix('"loss_contract"]', '"finetune@train"]\n[limits]\ntimeout_seconds = { finetune = 123 }')
    checkout = write_checkout(world)
    gate(world, "--source", str(checkout), "--no-diagnosis")
    cell = f"{local_label(world.tree)}/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32"
    # Figures alone judged it: no frame of an exception.
    figures = Failure(type="TrainingRule", message="unigram", signature="TrainingRule@unigram")
    failed = {"status": Status.FAILED, "reason": "it did not learn", "failure": figures}
    once: list[str] = []

    def fails_the_first_time(one: Cell) -> None:
        once.extend([one.id] if one.id == cell else [])
        world.tree.failing = {cell: failed} if len(once) <= 1 else {}

    # The stand-in's outcomes have no figures that a rule could judge.
    world.monkeypatch.setattr(common, "apply_rules", lambda outcome: outcome)
    world.tree.asked.clear()
    world.tree.before_each = fails_the_first_time
    said = gate(world, "--source", str(checkout), "--no-diagnosis")
    assert said.status == 1
    assert "1 regressed, 0 fixed, 1 same, 0 spurious" in said.out
    assert len(world.tree.asked) == len(set(world.tree.asked)) == 4
    assert {limits["finetune"] for limits in world.tree.limits} == {123.0}


def test_what_the_source_mends_is_reported_as_fixed(world: World) -> None:
    world.tree.failing[LOSS] = FAILED
    said = gate(world, "--source", str(write_checkout(world)))
    assert said.status == 0
    assert "0 regressed, 1 fixed, 1 same" in said.out


def test_a_fault_of_the_machine_is_no_regression_and_no_pass(world: World) -> None:
    world.tree.failing[LOSS] = {"status": Status.ERRORED, "reason": "the disk is full"}
    said = gate(world, "--source", str(write_checkout(world)))
    assert said.status == 3
    assert "1 spurious" in said.out
    assert "a fault of the harness or the machine in the release: the disk is full" in said.out


def test_a_patch_is_laid_over_the_release(world: World) -> None:
    patch = world.folder / "the.patch"
    patch.write_text(
        '--- a/funasr/__init__.py\n+++ b/funasr/__init__.py\n@@ -1 +1 @@\n-__version__ = "1.4.16"\n+mine = 1\n'
    )
    said = gate(world, "--apply", str(patch))
    assert said.status == 0, said.err
    assert "(1.4.16 with the.patch) against 1.4.16" in said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to try"),
        (["--source", "1.4.16"], "cannot be compared with itself"),
        (["--source", "all"], "all means 2 releases"),
        (["--apply", "none.patch"], "cannot be read"),
    ],
)
def test_what_cannot_be_tried_is_reported(world: World, arguments: list[str], told: str) -> None:
    said = gate(world, *arguments)
    assert said.status == 2
    assert told in said.err
    assert world.tree.asked == []


def test_what_a_release_says_cannot_break_the_comment(world: World) -> None:
    evil = {**FAILED, "reason": "</details> | `code` <script> @everyone"}
    world.tree.failing[LOSS] = FAILED
    checkout = write_checkout(world)
    gate(world, "--source", str(checkout))
    label = local_label(world.tree)
    world.tree.failing = {f"{label}/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32": evil}
    gate(world, "--source", str(checkout))
    text = (world.folder / "runs/gate/gate.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "@everyone" not in text
    assert text.count("</details>") == text.count("<details")
