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

from harness.worker.trainer import gpu_use, memory

ALLOCATED, RESERVED = 10_000, 20_000
UUID = "0b1e8a7c-0000-0000-0000-000000000001"


@dataclass
class FakeCuda:
    """The few functions of `torch.cuda` that are asked."""

    allocated: list[int] = field(default_factory=lambda: [ALLOCATED // 2, ALLOCATED])
    """Now, and the peak."""
    reserved: list[int] = field(default_factory=lambda: [RESERVED // 2, RESERVED])
    resets: int = 0

    def reset_peak_memory_stats(self) -> None:
        self.resets += 1
        self.allocated[1], self.reserved[1] = self.allocated[0], self.reserved[0]

    def hold(self, allocated: int, reserved: int) -> None:
        """Something is computed that needs so much at its most."""
        self.allocated = [allocated, max(allocated, self.allocated[1])]
        self.reserved = [reserved, max(reserved, self.reserved[1])]

    def current_device(self) -> int:
        return 1

    def get_device_properties(self, index: int) -> Any:
        assert index == 1, "of several GPUs the one that torch uses"
        return types.SimpleNamespace(uuid=UUID)

    def memory_stats_as_nested_dict(self) -> dict[str, Any]:
        pools = {
            f"{name}_bytes": {"all": {"current": current, "peak": peak}}
            for name, (current, peak) in (("allocated", self.allocated), ("reserved", self.reserved))
        }
        return {**pools, "num_ooms": 1, "num_alloc_retries": 3}


@dataclass
class FakeNvml:
    """NVML with a list of processes for each time it is asked."""

    answers: list[list[tuple[int, int | None]]]
    asked_for: list[str] = field(default_factory=list)
    listed: int = 0
    busy: list[int] = field(default_factory=lambda: [50])
    """In percent, for each time it is asked."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked_for.append(uuid)
        return uuid

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> Any:
        return types.SimpleNamespace(used=12_345)

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        return types.SimpleNamespace(gpu=self.busy.pop(0) if len(self.busy) > 1 else self.busy[0], memory=3)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        self.listed += 1
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


def test_the_peaks_of_torchs_allocator_are_reported() -> None:
    cuda = FakeCuda()
    meter = memory.CudaMeter(cuda, None)
    meter.reset()
    cuda.hold(ALLOCATED, RESERVED)
    cuda.hold(0, RESERVED)
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


def test_a_look_begins_a_new_peak_and_the_runs_own_is_kept() -> None:
    cuda = FakeCuda()
    meter = memory.CudaMeter(cuda, None)
    meter.reset()
    cuda.hold(7_000, 12_000)
    cuda.hold(6_000, 12_000)
    assert meter.sample_allocator() == memory.AllocatorSample(allocated=6_000, peak=7_000, reserved=12_000)
    cuda.hold(6_500, 12_000)
    assert meter.sample_allocator() == memory.AllocatorSample(allocated=6_500, peak=6_500, reserved=12_000)
    peaks = meter.peaks()
    assert (peaks["peak_allocated_bytes"], peaks["peak_reserved_bytes"]) == (7_000, 12_000)


def test_what_the_process_holds_besides_the_allocators_share_is_its_context() -> None:
    cuda = FakeCuda()
    meter = memory.CudaMeter(cuda, FakeNvml([[(ME, 500)], [(ME, 30_500)], [(ME, 30_400)]]))
    meter.reset()
    cuda.hold(1, 30_000)
    meter.sample()
    cuda.hold(1, 10_000)
    meter.sample()
    assert meter.context() == 500


@pytest.mark.parametrize("nvml", [None, FakeNvml([[]])])
def test_a_context_that_nobody_can_tell_is_null(nvml: Any) -> None:
    meter = memory.CudaMeter(FakeCuda(), nvml)
    meter.sample()
    assert meter.context() is None


def test_nvml_is_not_asked_for_processes_at_every_step() -> None:
    cuda, nvml = FakeCuda(), FakeNvml([[(ME, 5)]])
    meter = memory.CudaMeter(cuda, nvml)
    for step in range(64):
        if step == 40:
            cuda.hold(1, RESERVED)
        meter.sample()
    # At the construction, at steps 0 to 3, 16, 32 and 48, and where the allocator asked for more.
    assert nvml.listed == 1 + 4 + 3 + 1


@pytest.mark.parametrize(
    "nvml",
    [None, BrokenNvml([]), FakeNvml([[]]), FakeNvml([[(OTHER, 99)]]), FakeNvml([[(ME, None)]])],
    ids=["no NVML", "NVML raises", "no process", "another process", "no permission"],
)
def test_what_nvml_cannot_say_is_null(nvml: Any) -> None:
    assert used(nvml) is None


def test_a_moment_in_which_nvml_knows_nothing_forgets_nothing() -> None:
    assert used(FakeNvml([[], [(ME, 5)], [], [(ME, None)]])) == 5


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


class Partitioned(FakeNvml):
    """NVML of a GPU in parts: it knows the part, and keeps its use to itself."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if not uuid.startswith("MIG-"):
            raise RuntimeError("planted: Not Found")
        return super().nvmlDeviceGetHandleByUUID(uuid)

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> Any:
        raise RuntimeError("planted: Not Supported")

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        raise RuntimeError("planted: Not Supported")


class Closed(FakeNvml):
    """NVML that lists no processes for this user."""

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        raise RuntimeError("planted: Insufficient Permissions")


@pytest.mark.parametrize(
    ("nvml", "told", "others", "device_bytes"),
    [
        (None, gpu_use.NO_NVML, None, None),
        (BrokenNvml([]), gpu_use.NO_DEVICE, None, None),
        (Closed([]), gpu_use.REFUSED, None, 12_345),
        (FakeNvml([[(ME, None)]]), gpu_use.MEMORY_WITHHELD, 0, 12_345),
        (FakeNvml([[]]), gpu_use.NOT_LISTED, 0, 12_345),
        (FakeNvml([[(OTHER, 5)]]), gpu_use.NOT_LISTED, 1, 12_345),
        (FakeNvml([[(ME, 5)]]), gpu_use.MEASURED, 0, 12_345),
        (FakeNvml([[(OTHER, 9), (ME, 5)]]), gpu_use.MEASURED, 1, 12_345),
        (Partitioned([[(ME, 5)]]), gpu_use.MEASURED, 0, None),
    ],
)
def test_a_look_says_what_was_seen_or_why_not(
    nvml: Any, told: str, others: int | None, device_bytes: int | None
) -> None:
    use = gpu_use.read_gpu_use(FakeCuda(), nvml)
    assert (use.status, use.others, use.device_bytes) == (told, others, device_bytes)
    assert use.process_bytes == (5 if told == gpu_use.MEASURED else None)


def test_a_part_of_a_gpu_is_called_one() -> None:
    assert gpu_use.read_gpu_use(FakeCuda(), Partitioned([[(ME, 5)]])).kind == "MIG"
    assert gpu_use.read_gpu_use(FakeCuda(), FakeNvml([[(ME, 5)]])).kind == "GPU"


def test_a_torch_without_uuids_is_a_device_that_nvml_does_not_know() -> None:
    old = types.SimpleNamespace(current_device=lambda: 0, get_device_properties=lambda _: types.SimpleNamespace())
    assert gpu_use.read_gpu_use(old, FakeNvml([[(ME, 5)]])).status == gpu_use.NO_DEVICE


@pytest.mark.parametrize(
    ("first", "clean"), [([(ME, 1)], True), ([], True), ([(OTHER, 5), (ME, 1)], False), ([(OTHER, 5)], False)]
)
def test_a_device_that_others_use_at_the_start_is_not_clean(first: list[tuple[int, int]], clean: bool) -> None:
    meter = memory.CudaMeter(FakeCuda(), FakeNvml([first, [(ME, 7)]]))
    meter.sample()
    told = meter.device()
    assert told["clean_at_start"] is clean
    assert told["at_start"]["used_bytes"] == 12_345
    assert told["used_told"] == gpu_use.MEASURED


def test_whether_a_device_is_clean_is_unknown_where_this_process_is_never_listed() -> None:
    meter = memory.CudaMeter(FakeCuda(), FakeNvml([[(OTHER, 5)]]))
    assert meter.device()["clean_at_start"] is None


def busy(nvml: Any, steps: int, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 1.0) -> dict[str, Any]:
    """What is told after so many steps of so many seconds."""
    ticks = iter(seconds * step for step in range(1000))
    monkeypatch.setattr(gpu_use, "time", types.SimpleNamespace(perf_counter=ticks.__next__))
    meter = memory.CudaMeter(FakeCuda(), nvml)
    for _ in range(steps):
        meter.sample()
    return meter.utilisation()


def test_the_gpu_was_as_busy_as_the_mean_of_the_looks_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml([[(ME, 5)]], busy=[90, 70, 80])
    told = busy(nvml, gpu_use.WARM_UP_SAMPLES + 3, monkeypatch)
    assert told == {"mean": pytest.approx(0.8), "samples": 3, "told": gpu_use.MEASURED}


def test_short_steps_share_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    told = busy(FakeNvml([[(ME, 5)]]), gpu_use.WARM_UP_SAMPLES + 10, monkeypatch, seconds=0.1)
    assert told["samples"] == 2


@pytest.mark.parametrize(
    ("nvml", "steps", "told"),
    [
        (None, 9, gpu_use.NO_NVML),
        (BrokenNvml([]), 9, gpu_use.NO_DEVICE),
        (Partitioned([[(ME, 5)]]), 9, gpu_use.UTILISATION_WITHHELD),
        (FakeNvml([[(ME, 5)]]), 2, gpu_use.TOO_SHORT),
    ],
)
def test_how_busy_a_gpu_was_is_null_with_a_reason(
    nvml: Any, steps: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert busy(nvml, steps, monkeypatch) == {"mean": None, "samples": 0, "told": told}


def test_without_a_gpu_its_clock_parts_and_utilisation_are_not_pretended() -> None:
    meter = memory.meter("cpu")
    assert (meter.sample_allocator(), meter.context()) == (None, None)
    assert meter.utilisation() == {"mean": None, "samples": 0, "told": "not measured on a GPU"}
    assert meter.clock().name == "perf_counter"


def test_the_allocators_figures_of_the_moment_are_reported() -> None:
    told = memory.CudaMeter(FakeCuda(), None).device()
    assert told["allocator"] == {
        "allocated_bytes": ALLOCATED // 2,
        "reserved_bytes": RESERVED // 2,
        "out_of_memory": 1,
        "retries": 3,
    }


def test_without_a_gpu_there_is_no_device_to_tell_of() -> None:
    assert memory.ProcessMeter().device() == {}


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
