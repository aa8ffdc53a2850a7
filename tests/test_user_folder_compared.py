"""A user's model folder in `bisect`, `diagnose`, `gate` and `drift`, through the command line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from drift_scene import tuned_to
from report_factory import run_of

from harness import cli
from harness.commands import bisect, drift, gate
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Depth, Dimensions
from harness.core.errors import InputError
from harness.run.outcome_lines import line_of
from harness.variants.catalogue import load_variant
from harness.variants.variant import render

Layout = Callable[[str], Path]
OLDER, NEWER = "1.4.15", "1.4.16"
SIZE = "v11-h64"
MATRIX = """
schema = 1
name = "mine"
description = "A user's folder."
[axes]
release = ["{release}"]
variant = ["my model"]
check = ["{check}"]
depth = ["reduced"]
device = ["cpu"]
[finetune]
steps = 12
batch_size = 2
utterances = 8
seeds = 1
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small Paraformer of the user's own in `my model`."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my model"
    folder.mkdir()
    configure(folder, "paraformer")
    (folder / "tokens.json").write_text(json.dumps(["<blank>", "<s>", "</s>", *"一二三四五六七", "<unk>"]))
    (folder / "am.mvn").write_text("<Nnet>\n")
    return tmp_path


def configure(folder: Path, variant: str) -> None:
    """Write the folder's config."""
    rendered = render(load_variant(variant), dimensions=Dimensions.parse(SIZE), depth=Depth.REDUCED)
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(rendered))), encoding="utf-8")


def cell(release: str, check: str) -> str:
    return f"{release}/my-model/{SIZE}/reduced/{check}/cpu-fp32"


@pytest.mark.release
def test_diagnose_runs_the_folders_cell(room: Path, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    for release in (OLDER, NEWER):
        layout(release)
    asked = ["diagnose", cell(NEWER, "loss_contract"), "--against", OLDER, "--json"]
    assert cli.main(asked) == 2
    assert 'no variant "my-model"' in capsys.readouterr().err
    assert cli.main([*asked, "--variant", "paraformer"]) == 2
    assert "which is the variant paraformer" in capsys.readouterr().err
    assert cli.main([*asked, "--variant", "my model"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cell"], found["against"]) == (cell(NEWER, "loss_contract"), OLDER)


@pytest.mark.long
@pytest.mark.release
def test_bisect_finds_where_the_folders_model_trains(
    room: Path, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    for release in ("1.0.17", "1.0.18"):
        layout(release)
    configure(room / "my model", "paraformer_streaming")
    asked = ["bisect", "--check", "loss_contract", "--good", "1.0.18", "--bad", "1.0.17", "--variant", "my model"]
    assert cli.main([*asked, "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cell"] == f"my-model/{SIZE}/reduced/loss_contract/cpu-fp32"
    (transition,) = found["transitions"]
    assert "1.0.17" in json.dumps(transition)
    assert "1.0.18" in json.dumps(transition)


@pytest.mark.long
@pytest.mark.release
def test_gate_names_what_a_patch_breaks_of_the_folder(
    room: Path, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    install_dir = layout(NEWER)
    path = "funasr/models/paraformer/model.py"
    before = (install_dir / path).read_text(encoding="utf-8")
    sampling = "self.sampling_ratio = sampling_ratio"
    assert before.count(sampling) == 1
    after = before.replace(sampling, f"{sampling} / len(())")
    patch = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
    (room / "planted.patch").write_text("".join(patch), encoding="utf-8")
    (room / "matrix.toml").write_text(MATRIX.format(release=NEWER, check="construct"), encoding="utf-8")
    asked = ["gate", "--apply", "planted.patch", "--against", NEWER, "--matrix", "matrix.toml"]
    assert cli.main([*asked, "--no-diagnosis", "--json", "-q"]) == 1
    said = capsys.readouterr().out
    assert f"/my-model/{SIZE}/reduced/construct/cpu-fp32" in said
    assert "ZeroDivisionError" in said


class Reached:
    """In the place of what runs cells: the matrix that a command gives it, and the end of the command."""

    def __init__(self) -> None:
        self.matrix: Matrix | None = None

    def __call__(self, *found: object, **named: object) -> NoReturn:
        runners = [getattr(one, "matrix", one) for one in (*found, *named.values())]
        self.matrix = next(one for one in runners if isinstance(one, Matrix))
        raise InputError("nothing is run here")

    @property
    def folder(self) -> Path | None:
        """Of the one variant."""
        assert self.matrix is not None
        (variant,) = self.matrix.variants
        assert variant.name == "my-model"
        return variant.path and variant.path.resolve()


def test_bisect_searches_with_the_folder(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = Reached()
    monkeypatch.setattr(bisect, "cell_runner", lambda _: None)
    monkeypatch.setattr(bisect, "CandidateRunner", reached)
    asked = ["bisect", "--check", "construct", "--good", OLDER, "--bad", NEWER, "--variant", "my model"]
    assert cli.main([*asked, "--dimensions", "v8404-h320"]) == 2
    assert f"the folder my model has {SIZE}" in capsys.readouterr().err
    assert cli.main(asked) == 2
    assert "outcomes of earlier runs are not used" in capsys.readouterr().err
    assert reached.folder == room / "my model"


def test_gate_tries_a_checkout_on_the_folder(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Reached()
    monkeypatch.setattr(gate, "cell_runner", lambda _: None)
    monkeypatch.setattr(gate.TracedRunner, "of", reached)
    (room / "checkout" / "funasr").mkdir(parents=True)
    (room / "checkout" / "funasr" / "__init__.py").write_text("", encoding="utf-8")
    (room / "checkout" / "funasr" / "version.txt").write_text(f"{NEWER}\n", encoding="utf-8")
    (room / "matrix.toml").write_text(MATRIX.format(release=NEWER, check="construct"), encoding="utf-8")
    assert cli.main(["gate", "--source", "checkout", "--against", NEWER, "--matrix", "matrix.toml"]) == 2
    assert reached.folder == room / "my model"


def test_drift_records_the_folders_trainings(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = Reached()
    monkeypatch.setattr(drift, "cell_runner", lambda _: None)
    monkeypatch.setattr(drift, "record", reached)
    (room / "matrix.toml").write_text(MATRIX.format(release=NEWER, check="finetune@train_ds"), encoding="utf-8")
    run = room / "run"
    run.mkdir()
    outcomes = [
        replace(tuned_to(label, losses, entry="train_ds"), cell=Cell.parse(cell(label, "finetune@train_ds")))
        for label, losses in ((OLDER, (3.0, 2.5)), (NEWER, (2.9, 2.5)))
    ]
    (run / "outcomes.jsonl").write_bytes(b"".join(map(line_of, outcomes)))
    provenance = replace(run_of().provenance, matrix="run", arguments=("matrix.toml",))
    (run / "run.json").write_text(json.dumps(provenance.to_json()), encoding="utf-8")
    # Its matrix is called as the run's folder is, and found by its file all the same.
    for own in ([], ["--matrix", "matrix.toml"]):
        reached.matrix = None
        assert cli.main(["drift", "run", *own, "--trace", "1"]) == 2
        assert reached.folder == room / "my model"
    (room / "matrix.toml").rename(room / "another.toml")
    capsys.readouterr()
    assert cli.main(["drift", "run", "--trace", "1"]) == 2
    said = capsys.readouterr().err
    assert "the matrix of this run, matrix.toml, is not here" in said
    assert "--matrix" in said
