"""The named changes that let a release run on a CPU: what they do, and that only their use is reported."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked

from harness.worker.release import findings, importer, shims


def after_applying(device: str, calls: list[str]) -> dict[str, Any]:
    """What the calls give once the compatibility shims for `device` are in place."""
    import torch

    shims.apply(device)
    scope: dict[str, Any] = {"torch": torch, "x": torch.ones(2), "layer": torch.nn.Linear(2, 2)}
    results = []
    for call in calls:
        try:
            results.append(str(eval(call, scope)))
        except Exception as error:
            results.append(type(error).__name__)
    return {"results": results, "used": shims.used()}


@pytest.mark.parametrize(
    ("call", "result", "used"),
    [
        ("x.cuda().device", "cpu", [shims.CUDA_CALLS]),
        ("x.cuda(0) is x", "True", [shims.CUDA_CALLS]),
        ("x.cuda(non_blocking=True) is x", "True", [shims.CUDA_CALLS]),
        ("layer.cuda() is layer", "True", [shims.CUDA_CALLS]),
        ("x.to(0).device", "cpu", [shims.CUDA_DEVICES]),
        ("x.to(device=0).device", "cpu", [shims.CUDA_DEVICES]),
        ("x.to(0, torch.float64).dtype", "torch.float64", [shims.CUDA_DEVICES]),
        ("x.to('cuda').device", "cpu", [shims.CUDA_DEVICES]),
        ("x.to('cuda:1', non_blocking=True).device", "cpu", [shims.CUDA_DEVICES]),
        ("x.to(torch.device('cuda', 0)).device", "cpu", [shims.CUDA_DEVICES]),
        ("x.to(device=torch.device('cuda')).device", "cpu", [shims.CUDA_DEVICES]),
        ("layer.to(0).weight.device", "cpu", [shims.CUDA_DEVICES]),
        ("layer.to('cuda').weight.device", "cpu", [shims.CUDA_DEVICES]),
        ("layer.to(device='cuda', dtype=torch.float64).weight.dtype", "torch.float64", [shims.CUDA_DEVICES]),
        ("x.to(layer.weight).device", "cpu", []),
        ("layer.to(torch.float64).weight.dtype", "torch.float64", []),
        ("x.to('cpu') is x", "True", []),
        ("x.to(torch.float64).dtype", "torch.float64", []),
        ("x.to(device='cpu').device", "cpu", []),
        ("abs(layer(x).sum().item() * 0)", "0.0", []),
    ],
)
def test_on_a_cpu_calls_for_a_gpu_stay_there_and_are_reported(
    forked: Forked, call: str, result: str, used: list[str]
) -> None:
    assert forked(after_applying, device="cpu", calls=[call]) == {"results": [result], "used": used}


def test_a_boolean_is_no_device(forked: Forked) -> None:
    assert forked(after_applying, device="cpu", calls=["x.to(True)"])["used"] == []


def test_on_a_gpu_nothing_of_it_is_changed(forked: Forked) -> None:
    calls = ["torch.Tensor.cuda.__objclass__.__name__", "torch.Tensor.to.__objclass__.__name__"]
    answer = forked(after_applying, device="cuda", calls=calls)
    assert answer == {"results": ["TensorBase", "TensorBase"], "used": []}


def loaded(folder: str, *, torchcodec: bool) -> dict[str, Any]:
    """What `torchaudio.load` gives, with a stand-in for torchaudio and perhaps one for torchcodec."""
    import sys

    import numpy
    import soundfile

    package = Path(folder)
    (package / "torchaudio.py").write_text("def load(uri):\n    raise ImportError('TorchCodec is required')\n")
    if torchcodec:
        (package / "torchcodec.py").touch()
    sys.path.insert(0, folder)
    samples = numpy.array([[0.5, -0.25], [0.0, 0.125]], dtype="float32")
    soundfile.write(package / "speech.wav", samples, 16000, subtype="FLOAT")
    shims.apply("cuda")
    import torchaudio

    before = shims.used()
    try:
        wave, rate = torchaudio.load(str(package / "speech.wav"), normalize=True)
    except Exception as error:
        return {"error": str(error), "used": shims.used()}
    return {"wave": wave.tolist(), "rate": rate, "before": before, "used": shims.used()}


def test_audio_is_read_by_soundfile_channels_first_and_that_is_reported(forked: Forked, tmp_path: Path) -> None:
    answer = forked(loaded, folder=str(tmp_path), torchcodec=False)
    assert answer == {
        "wave": [[0.5, 0.0], [-0.25, 0.125]],
        "rate": 16000,
        "before": [],
        "used": [shims.SOUNDFILE],
    }


def test_where_torchcodec_is_there_torchaudio_reads_for_itself(forked: Forked, tmp_path: Path) -> None:
    answer = forked(loaded, folder=str(tmp_path), torchcodec=True)
    assert "unexpected keyword" in answer["error"]
    assert answer["used"] == []


def used_after_noting(names: list[str]) -> list[str]:
    for name in names:
        shims.note(name)
    return shims.used()


def test_what_the_stack_did_can_be_noted(forked: Forked) -> None:
    assert forked(used_after_noting, names=["b", "a", "b"]) == ["a", "b"]
    assert forked(used_after_noting, names=[]) == []


CALLING = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return self.sampler(x)

    def sampler(self, x):
        return MOVED

def collect(x):
    return MOVED
"""


def found(install_dir: str, in_forward: bool) -> list[dict[str, Any]]:
    """The findings after the release's code was called, on the way through its forward pass or past it."""
    import torch

    importer.import_components_only(install_dir, "1.0.0")
    model = importlib.import_module("funasr.model")
    shims.apply("cpu")
    model.Model()(torch.ones(2)) if in_forward else model.collect(torch.ones(2))
    return findings.noted()


@pytest.mark.parametrize("call", ["x.cuda()", "x.to(0)", "x.to(device='cuda')"])
@pytest.mark.parametrize("in_forward", [True, False])
def test_what_a_shim_excuses_is_a_finding_in_its_place(
    forked: Forked, tmp_path: Path, call: str, in_forward: bool
) -> None:
    install_dir = tiny_release.write_package(tmp_path, {"model.py": CALLING.replace("MOVED", call)})
    (finding,) = forked(found, install_dir=str(install_dir), in_forward=in_forward)
    code, function = ("cuda-call-in-forward", "sampler") if in_forward else ("device-ignored", "collect")
    assert (finding["code"], finding["place"]) == (code, f"funasr/model.py:{function}")
    assert f"calls .{call.partition('.')[2]}" in finding["message"]


@pytest.mark.parametrize("call", ["x.to('cpu')", "x.to(torch.float64)", "x * 1"])
def test_what_keeps_to_its_device_is_none(forked: Forked, tmp_path: Path, call: str) -> None:
    install_dir = tiny_release.write_package(tmp_path, {"model.py": CALLING.replace("MOVED", call)})
    assert forked(found, install_dir=str(install_dir), in_forward=True) == []


def called_by_the_harness() -> list[dict[str, Any]]:
    import torch

    shims.apply("cpu")
    torch.ones(2).cuda()
    return findings.noted()


def test_what_the_harness_itself_moves_is_none_of_the_releases(forked: Forked) -> None:
    assert forked(called_by_the_harness) == []
