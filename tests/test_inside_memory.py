"""Peaks of memory: of the process for real, of a GPU from stand-ins for torch.cuda and NVML."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from harness.inside import memory

ALLOCATED, RESERVED = 10_000, 20_000
UUID = "0b1e8a7c-0000-0000-0000-000000000001"


@dataclass
class FakeCuda:
    """The few functions of `torch.cuda` that are asked."""

    resets: int = 0

    def reset_peak_memory_stats(self) -> None:
        self.resets += 1

    def max_memory_allocated(self) -> int:
        return ALLOCATED

    def max_memory_reserved(self) -> int:
        return RESERVED

    def get_device_properties(self, _index: int) -> Any:
        return types.SimpleNamespace(uuid=UUID)


@dataclass
class FakeNvml:
    """NVML with a list of processes for each time it is asked."""

    answers: list[list[tuple[int, int | None]]]
    asked_for: list[str] = field(default_factory=list)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked_for.append(uuid)
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in answer]


class BrokenNvml(FakeNvml):
    """NVML that has lost its driver."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        raise RuntimeError("planted: NVML Shared Library Not Found")


ME, OTHER = os.getpid(), os.getpid() + 1


def used(nvml: Any, samples: int = 2) -> int | None:
    meter = memory.CudaMeter(FakeCuda(), nvml)
    meter.reset()
    for _ in range(samples):
        meter.sample()
    return meter.peaks()["peak_used_bytes"]


def test_the_peaks_of_torchs_allocator_are_told() -> None:
    cuda = FakeCuda()
    meter = memory.CudaMeter(cuda, None)
    meter.reset()
    peaks = meter.peaks()
    assert cuda.resets == 1
    assert (peaks["peak_allocated_bytes"], peaks["peak_reserved_bytes"]) == (ALLOCATED, RESERVED)
    assert peaks["peak_used_bytes"] is None
    assert peaks["peak_resident_bytes"]


def test_the_most_that_nvml_ever_said_of_this_process_is_the_peak() -> None:
    nvml = FakeNvml([[(OTHER, 99), (ME, 5)], [(ME, 7)], [(OTHER, 99), (ME, 6)]])
    assert used(nvml) == 7
    assert set(nvml.asked_for) == {f"GPU-{UUID}"}


def test_what_is_used_when_the_peaks_are_asked_for_counts_too() -> None:
    assert used(FakeNvml([[(ME, 5)], [(ME, 8)]]), samples=1) == 8


@pytest.mark.parametrize(
    "nvml",
    [None, BrokenNvml([]), FakeNvml([[]]), FakeNvml([[(OTHER, 99)]]), FakeNvml([[(ME, None)]])],
    ids=["no NVML", "NVML raises", "no process", "another process", "no permission"],
)
def test_what_nvml_cannot_say_is_null(nvml: Any) -> None:
    assert used(nvml) is None


def test_a_moment_in_which_nvml_knows_nothing_forgets_nothing() -> None:
    assert used(FakeNvml([[(ME, 5)], [], [(ME, None)]])) == 5


def test_a_reset_forgets_what_was_before() -> None:
    meter = memory.CudaMeter(FakeCuda(), FakeNvml([[(ME, 9)], [(ME, 2)]]))
    meter.sample()
    meter.reset()
    assert meter.peaks()["peak_used_bytes"] == 2


def test_without_a_gpu_its_figures_are_null() -> None:
    meter = memory.meter("cpu")
    meter.reset()
    meter.sample()
    peaks = meter.peaks()
    assert peaks.pop("peak_resident_bytes")
    assert peaks == {"peak_allocated_bytes": None, "peak_reserved_bytes": None, "peak_used_bytes": None}


class _Nvml(types.ModuleType):
    def __init__(self, *, works: bool) -> None:
        super().__init__("pynvml")
        self._works = works

    def nvmlInit(self) -> None:
        if not self._works:
            raise RuntimeError("planted: Driver Not Loaded")


@pytest.mark.parametrize(
    ("library", "has_nvml"), [(_Nvml(works=True), True), (_Nvml(works=False), False), (None, False)]
)
def test_a_meter_for_a_gpu_does_without_nvml(
    monkeypatch: pytest.MonkeyPatch, library: types.ModuleType | None, has_nvml: bool
) -> None:
    torch = types.ModuleType("torch")
    torch.cuda = FakeCuda()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    meter = memory.meter("cuda")
    assert isinstance(meter, memory.CudaMeter)
    assert (meter._nvml is not None) is has_nvml
    assert meter.peaks()["peak_allocated_bytes"] == ALLOCATED


def grow_and_shrink(before: int, between: int) -> list[int | None]:
    """Peaks in MiB of this child: at first, after a reset, and after more was held for a while."""

    def hold(megabytes: int) -> None:
        held = bytearray(megabytes << 20)
        held[::4096] = bytes(len(held[::4096]))

    meter = memory.ProcessMeter()
    peaks = []
    hold(before)
    peaks.append(meter.peaks()["peak_resident_bytes"])
    meter.reset()
    peaks.append(meter.peaks()["peak_resident_bytes"])
    hold(between)
    peaks.append(meter.peaks()["peak_resident_bytes"])
    return [peak and peak >> 20 for peak in peaks]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel keeps no mark to reset")
def test_the_peak_is_of_what_was_held_since_the_reset(forked: Forked) -> None:
    first, after_reset, after_growth = forked(grow_and_shrink, before=256, between=128)
    assert first - after_reset > 200
    assert 100 < after_growth - after_reset < 200


def test_without_proc_the_process_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("planted")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    meter = memory.ProcessMeter()
    meter.reset()
    assert meter.peaks()["peak_resident_bytes"] is None
