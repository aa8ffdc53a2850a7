"""The dry run on a GPU, with stand-ins for the device: this machine has none, and no figure here is a GPU's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from test_worker_phases import Gpu
from user_folders import NO_ENVIRONMENT, environment, inputs_of, model_folder, speech, write_jsonl

from harness import cli
from harness.commands.preflight import _device
from harness.core.cells import Cell, Device, Outcome, Severity, Status
from harness.core.errors import InputError
from harness.preflight.dry_run import dry_run
from harness.preflight.dry_run.dry_run_request import changes_of
from harness.preflight.findings import PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import _cell, _Requests
from harness.worker.preflight import dry_run as within
from harness.worker.release import shims
from harness.worker.trainer import launch, memory

CARD = "NVIDIA Planted 24GB"
WITH_GPU = replace(NO_ENVIRONMENT, cuda_available=True, gpu_names=(CARD,))
DEEP = "model: Paraformer\nencoder_conf:\n  num_blocks: 50\ntrain_conf:\n  use_bf16: true\n  use_ddp: true\n"


def on(device: Device, folder: Path, **more: Any) -> Inputs:
    """A deep model's, for what needs no release."""
    (folder / "config.yaml").write_text(DEEP, encoding="utf-8")
    (folder / "funasr" / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "funasr" / "bin" / "train_ds.py").write_text("")
    found = inputs_of(folder)
    command = replace(found.command, entry="train_ds")
    train = write_jsonl(folder / "train.jsonl", speech(2))
    given = {"install_dir": folder, "environment": WITH_GPU, "command": command, "train": train, **more}
    return replace(found, device=device, dry_run=True, **given)


def planned(inputs: Inputs) -> dry_run.DryRunPlan:
    made = dry_run.plan(inputs)
    assert isinstance(made, dry_run.DryRunPlan), made
    return made


def test_a_gpu_trains_the_whole_model_in_the_users_precision(tmp_path: Path) -> None:
    gpu, cpu = (planned(on(device, tmp_path)) for device in (Device.CUDA, Device.CPU))
    assert gpu.question.request["forced"]["device"] == "cuda"
    assert cpu.question.request["forced"]["device"] == "cpu"
    assert gpu.question.request["shallow"] == {}
    assert cpu.question.request["shallow"] == {"encoder_conf.num_blocks": 2}
    assert "train_conf.use_bf16" not in gpu.changes.forced
    assert cpu.changes.forced["train_conf.use_bf16"] is False
    # One process trains.
    assert gpu.changes.forced["train_conf.use_ddp"] is False
    assert f"on {CARD}" in changes_of(on(Device.CUDA, tmp_path), 4).said
    assert gpu.question.key != cpu.question.key


def test_its_cell_has_a_gpu_and_its_process_imports_nothing_before_it_forks(tmp_path: Path) -> None:
    inputs = on(Device.CUDA, tmp_path)
    made = planned(inputs).question
    requests, cell = _Requests(questions=[made], inputs=inputs), _cell(inputs, 0, made.device)
    assert (cell.device, requests.gpus_for(cell)) == (Device.CUDA, 1)
    assert requests.request_for(cell)["device"] == "cuda"
    assert requests.release_for(inputs.release.label)["whole"] is False
    usual = replace(made, device=Device.CPU)
    requests, cell = _Requests(questions=[usual], inputs=inputs), _cell(inputs, 0, usual.device)
    assert requests.gpus_for(cell) == 0
    assert requests.release_for(inputs.release.label)["whole"] is True


def test_auto_takes_the_gpu_if_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _device("auto", WITH_GPU) is Device.CUDA
    assert _device("cpu", WITH_GPU) is Device.CPU
    assert _device("auto", NO_ENVIRONMENT) is Device.CPU
    with pytest.raises(InputError, match="finds no GPU"):
        _device("cuda", NO_ENVIRONMENT)


def ended(inputs: Inputs, made: dry_run.DryRunPlan, failure: dict[str, Any]) -> PreflightPart:
    training = {"first": None, "failure": failure, "functions": ["train_epoch", "forward"]}
    outcome = Outcome(
        cell=_cell(inputs, 0, made.question.device),
        status=Status.PASSED,
        reason="",
        evidence={"preflight": {"training": training, "whole": True}},
    )
    return dry_run.judged(inputs, made, outcome)


def test_a_card_that_is_too_small_is_named_and_says_nothing_of_another(tmp_path: Path) -> None:
    message = "CUDA out of memory. Tried to allocate 2.00 GiB"
    failure = {"type": "OutOfMemoryError", "message": message, "frames": [], "signature": "OutOfMemoryError@x"}
    failure |= {"status": "out_of_memory"}
    here = on(Device.CUDA, tmp_path)
    part = ended(here, planned(here), failure)
    (finding,) = part.findings
    assert (finding.rule, finding.severity) == ("dry-run-out-of-memory", Severity.BROKEN)
    assert CARD in finding.message
    assert finding.evidence == (message,)
    assert not part.skipped
    for elsewhere in (replace(here, card="80GB"), replace(here, device=Device.CPU)):
        part = ended(elsewhere, planned(elsewhere), failure)
        assert part.findings == ()
        assert "it does not fit the memory here" in part.skipped


def measured_on_a_stand_in(request: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """In a child, with a GPU that computes on the CPU: `cuda` means that, and the allocator is a fake."""
    sys.path[:0] = paths
    gpu = Gpu()

    def meter(device: str) -> memory.Meter:
        assert device == "cuda"
        gpu.hold(3 << 30, 5 << 30)
        return memory.CudaMeter(gpu, None)

    memory.meter = meter
    shims.apply("cpu")
    # The children find the release imported, which saves each of them ten seconds; who asks for it is recorded.
    importing, asked, parent = launch.import_model_class, [], os.getpid()
    importing(request["release"]["install_dir"], request["model_class"])

    def recorded(install_dir: str, name: str) -> Any:
        asked.append(os.getpid())
        return importing(install_dir, name)

    launch.import_model_class = recorded
    answer = within.measure(request)["evidence"]["preflight"]
    return {**answer, "asked_before_the_fork": parent in asked}


@pytest.mark.release
def test_the_trainer_runs_on_the_gpu_at_the_models_own_depth(
    tmp_path: Path, forked: Forked, layout: Callable[[str], Path]
) -> None:
    install_dir = layout("1.4.16")
    model = model_folder(forked, install_dir, tmp_path / "model")
    train = write_jsonl(tmp_path / "train.jsonl", speech(4))
    given = replace(inputs_of(model, install_dir=install_dir), train=train, valid=train, dry_run=True)
    inputs = replace(given, device=Device.CUDA, environment=replace(environment(), gpu_names=(CARD,)))
    made = planned(inputs)
    requests = _Requests(questions=[made.question], inputs=inputs)
    cell: Cell = _cell(inputs, 0, Device.CUDA)
    paths = [str(one) for one in environment().extra_paths]
    asked = json.loads(json.dumps({**requests.request_for(cell), "model_class": "Paraformer"}))
    found = forked(measured_on_a_stand_in, request=asked, paths=paths)
    assert found["whole"] is True
    assert found["asked_before_the_fork"] is False
    outcome = Outcome(cell=cell, status=Status.PASSED, reason="", evidence={"preflight": found})
    part = dry_run.judged(inputs, made, outcome)
    assert [one.rule for one in part.findings if one.severity is not Severity.MINOR] == []
    said = {fact.label: fact.value for fact in part.facts}
    assert said["numbers that begin as in the checkpoint"] == "100.0%"
    assert f"on {CARD}" in said["changed for it"]
    assert said["time of a step here"].endswith(f"s on {CARD}")
    assert said["memory of these steps, measured"].startswith("5,120 MiB reserved by torch")


@pytest.mark.release
def test_without_a_gpu_cuda_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if environment().cuda_available:
        pytest.skip("this machine has a GPU")
    assert cli.main(["preflight", str(tmp_path), "--dry-run", "--device", "cuda"]) == 2
    assert "finds no GPU" in capsys.readouterr().err
