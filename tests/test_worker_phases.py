"""Time and memory of a step by phase: of small trainings for real, of a GPU from stand-ins for events and allocator."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tiny_release
from forked import Forked
from test_worker_finetune import train as fine_tune
from test_worker_memory import FakeCuda

from harness.worker.process import failures
from harness.worker.trainer import gpu_use, memory, memory_parts, options, phases, recorder
from harness.worker.trainer.memory_parts import MemoryParts
from harness.worker.trainer.phases import (
    BACKWARD,
    DATA,
    FORWARD,
    HARNESS,
    OPTIMIZER,
    OTHER,
    PHASES,
    WARM_UP_STEPS,
    Phases,
)

GROUPS = {"encoder": ["encoder"], "decoder": ["decoder"]}
LONG = 0.06
"""Seconds that pass in one phase, by a clock on which nothing else takes any time."""


class SlowOnly:
    """Stands for the module `time`: only what is planted takes time, so no machine is too busy for a test."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def train(*, observed: bool = True, loader: bool = True, slow: str = "", gpu: bool = False) -> Any:
    """A training by a loop of a few lines, slow in one phase; what was seen, and where the parameters ended."""
    import torch

    pace = SlowOnly()
    if slow:
        # In a child of its own, which ends with the training.
        for module in (phases, recorder):
            mock.patch.object(module, "time", pace).start()

    class Data(torch.utils.data.Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Any:
            pace.sleep(LONG if slow == "data" else 0)
            return torch.full((5,), float(index))

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: Any) -> Any:
            return value.clone()

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            pace.sleep(LONG if slow == "backward" else 0)
            return gradient

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Linear(5, 6)
            self.decoder = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(6, 7))
            self.register_buffer("counted_too", torch.zeros(3))

        def forward(self, speech: Any) -> Any:
            pace.sleep(LONG if slow == "forward" else 0)
            loss = Slow.apply(self.decoder(self.encoder(speech))).square().mean()
            return loss, {"loss": loss.detach()}, len(speech)

    class Optimizer(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            pace.sleep(LONG if slow == "optimizer" else 0)
            return super().step(closure)

    torch.manual_seed(0)
    model = Model()
    # Of a GPU there is only what is asked about it; the tensors are where they always are.
    observer = recorder.TrainingRecorder(meter=memory.CudaMeter(Gpu(), None) if gpu else memory.meter("cpu"))
    if observed:
        observer.attach(Model)
    optimizer = Optimizer(model.parameters(), lr=0.01)
    batches = torch.utils.data.DataLoader(Data(), batch_size=2)
    for _ in range(2):
        model.train()
        for batch in batches if loader else [torch.ones(2, 5)] * 3:
            loss, _, _ = model(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
            pace.sleep(LONG if slow == "other" else 0)
        model.eval()
        with torch.no_grad():
            for batch in batches:
                model(batch)
    final = [value for one in model.parameters() for value in one.flatten().tolist()]
    return {"seen": observer.metrics(GROUPS, 0.06) if observed else {}, "final": final}


def test_the_phases_of_a_step_add_up_to_it(forked: Forked) -> None:
    seen = forked(train)["seen"]
    assert seen["phase_clock"] == "perf_counter"
    assert tuple(seen["phase_seconds"]) == PHASES
    sums = [sum(step) for step in zip(*seen["phase_seconds"].values(), strict=True)]
    assert sums == pytest.approx(seen["step_seconds"], abs=1e-6)


@pytest.mark.parametrize("slow", [DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER])
def test_what_takes_long_is_the_phases_own(forked: Forked, slow: str) -> None:
    seconds = forked(train, slow=slow)["seen"]["phase_seconds"]
    # Without the first step of each epoch: there the end of the last epoch, validation and all, is among the rest.
    # The least of the others, because a busy machine makes any of them long at times, and none of them short.
    least = {name: min(values[step] for step in (1, 2, 4, 5)) for name, values in seconds.items()}
    assert [name for name, one in least.items() if one >= LONG] == [slow]


def test_waiting_for_validation_data_is_no_data_of_a_step(forked: Forked) -> None:
    seconds = forked(train, slow=DATA)["seen"]["phase_seconds"]
    assert seconds[DATA][0] == 0.0
    # The three batches of the validation before it, of two utterances each, are among the rest.
    assert seconds[OTHER][3] >= 6 * LONG


def test_where_no_loader_of_torchs_is_used_its_waiting_is_unknown(forked: Forked) -> None:
    seen = forked(train, loader=False)["seen"]
    assert seen["phase_seconds"][DATA] is None
    known = [values for values in seen["phase_seconds"].values() if values is not None]
    assert [sum(step) for step in zip(*known, strict=True)] == pytest.approx(seen["step_seconds"], abs=1e-6)


def test_watching_phases_changes_no_parameter_by_a_single_bit(forked: Forked) -> None:
    assert forked(train)["final"] == forked(train, observed=False)["final"]


def test_what_is_asked_of_a_gpu_changes_no_parameter_either_and_is_reported(forked: Forked) -> None:
    watched = forked(train, gpu=True)
    seen = watched["seen"]
    assert watched["final"] == forked(train, observed=False)["final"]
    assert seen["phase_clock"] == "CUDA events"
    assert [len(values) for values in seen["phase_seconds"].values()] == [6] * len(PHASES)
    assert len(seen["peak_allocated_by_step"]) == len(seen["held_bytes"]) == 6
    assert seen["memory_peak"]["step"] == 0
    assert seen["peak_used_bytes"] is seen["memory_parts"]["context"] is seen["utilisation"]["mean"] is None
    assert seen["device"]["used_told"] == seen["utilisation"]["told"] == gpu_use.NO_NVML


def test_weights_gradients_and_optimizer_state_are_counted_to_the_byte(forked: Forked) -> None:
    seen = forked(train)["seen"]
    parameters = 4 * (5 * 6 + 6 + 6 * 7 + 7)
    assert seen["memory_parts"] == {
        "weights": parameters + 4 * 3,
        "gradients": parameters,
        # Two moments of each parameter, and a count of its steps.
        "optimizer_state": 2 * parameters + 4 * 4,
        "activations": None,
        "workspace_and_fragmentation": None,
        "context": None,
    }
    assert seen["memory_peak"] is seen["peak_allocated_by_step"] is seen["peak_allocated_by_phase"] is None
    assert seen["utilisation"]["mean"] is None


def shared() -> int:
    """Bytes of a model whose two layers share their weight."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    model[1].weight = torch.nn.Parameter(model[0].weight[:2])
    counted = MemoryParts()
    counted.before_first_forward(model)
    return counted.weights or 0


def test_storage_that_two_tensors_share_is_counted_once(forked: Forked) -> None:
    assert forked(shared) == 4 * 4 * 4


def test_a_training_without_a_step_has_no_figures() -> None:
    seen = recorder.TrainingRecorder(meter=memory.meter("cpu")).metrics(GROUPS, 0.06)
    assert seen["phase_seconds"] is None
    assert set(seen["memory_parts"].values()) == {None}


@dataclass
class Event:
    """An event whose time is when it was recorded."""

    gpu: Gpu
    at: float = -1.0

    def record(self) -> None:
        self.at = self.gpu.now

    def elapsed_time(self, other: Event) -> float:
        assert self.gpu.synchronized, "read before the GPU was done"
        return other.at - self.at


@dataclass
class Gpu(FakeCuda):
    """A GPU with a clock in milliseconds, which a test moves."""

    now: float = 0.0
    synchronized: int = 0
    dead: bool = False

    def Event(self, *, enable_timing: bool) -> Event:
        assert enable_timing
        return Event(self)

    def synchronize(self) -> None:
        if self.dead:
            raise RuntimeError("planted: device-side assert triggered")
        self.synchronized += 1

    def compute(self, milliseconds: float, *, most: int, then: int) -> None:
        """Something runs, needs `most` and leaves `then` allocated."""
        self.now += milliseconds
        self.hold(most, max(self.reserved[0], most))
        self.hold(then, self.reserved[0])


W, S, G, A = 100, 200, 90, 1000
"""Bytes of weights, state, gradients, activations."""


@dataclass
class Network:
    """A model of tensors that only say how large they are."""

    gradients: list[Any] = field(default_factory=list)

    def parameters(self) -> Any:
        for gradient in self.gradients or [None]:
            yield Tensor(size=W, grad=gradient)

    def buffers(self) -> Any:
        return iter(())


@dataclass
class Tensor:
    size: int
    grad: Any = None
    device: str = "cuda:0"

    def untyped_storage(self) -> Any:
        return self

    def data_ptr(self) -> int:
        return id(self)

    def nbytes(self) -> int:
        return self.size


def step(gpu: Gpu, phases: Phases, counted: MemoryParts, network: Network, activations: int = A) -> None:
    """One training step as the observer sees it, with an autograd that says when it begins and ends."""
    number = len(phases.steps)
    state = S if number else 0
    phases.enter(FORWARD)
    gpu.compute(10, most=W + state + activations + 50, then=W + state + activations)
    phases.enter(HARNESS)
    counted.after_forward(number)
    phases.enter(OTHER)
    phases.enter(BACKWARD)
    gpu.compute(20, most=W + state + activations + 70, then=W + state + G)
    phases.enter(OTHER)
    network.gradients = [Tensor(G)]
    counted.before_step(number)
    phases.enter(OPTIMIZER)
    gpu.compute(5, most=W + S + G + 30, then=W + S + G)
    phases.enter(HARNESS)
    counted.after_step(
        number, type("Adam", (), {"state": {0: {"moments": [Tensor(S)], "step": Tensor(8, device="cpu")}}})
    )
    phases.end_step(0.0)
    network.gradients = []
    gpu.compute(1, most=W + S + G, then=W + S)
    phases.enter(OTHER)


def trained(gpu: Gpu, activations: list[int]) -> tuple[memory.CudaMeter, Phases, MemoryParts]:
    """A training on a stand-in for a GPU, with so large activations in each step."""
    meter = memory.CudaMeter(gpu, None)
    gpu.allocated, gpu.reserved = [W, W], [W, W]
    meter.reset()
    phases, counted, network = (
        Phases(clock=meter.clock(), sample_allocator=meter.sample_allocator),
        MemoryParts(),
        Network(),
    )
    counted.before_first_forward(network)
    phases.begin(0.0)
    for size in activations:
        step(gpu, phases, counted, network, size)
    return meter, phases, counted


def test_on_a_gpu_the_phases_are_its_own_time_and_read_when_all_is_done() -> None:
    gpu = Gpu()
    _, phases, _ = trained(gpu, [A, A])
    assert gpu.synchronized == 0, "a border must not wait for the GPU"
    told = phases.metrics()
    assert told["phase_clock"] == "CUDA events"
    assert told["phase_seconds"] == {
        "data": None,
        "forward": [0.01, 0.01],
        "backward": [0.02, 0.02],
        "optimizer": [0.005, 0.005],
        # What follows upon a step is the harness's first.
        "harness": [0.0, 0.001],
        "other": [0.0, 0.0],
    }


def test_a_gpu_that_has_come_to_grief_has_no_times() -> None:
    _, phases, _ = trained(Gpu(dead=True), [A])
    assert phases.metrics()["phase_seconds"] is None


def test_the_peak_is_reported_by_step_and_by_phase_and_its_parts_with_it() -> None:
    meter, phases, counted = trained(Gpu(), [A, A, 3 * A, A])
    told = memory_parts.metrics(counted, phases, context=None)
    most = W + S + 3 * A + 70
    assert told["peak_allocated_by_step"] == [W + A + 70, W + S + A + 70, most, W + S + A + 70]
    assert told["peak_allocated_by_phase"]["forward"] == [W + A + 50, W + S + A + 50, most - 20, W + S + A + 50]
    assert told["peak_allocated_by_phase"]["optimizer"] == [W + S + G + 30] * 4
    assert told["memory_peak"] == {"step": 2, "phase": "backward", "allocated": most}
    assert told["memory_parts"] == {
        "weights": W,
        "gradients": G,
        # The count of the steps is on the host.
        "optimizer_state": S,
        "activations": 3 * A,
        "workspace_and_fragmentation": 0,
        "context": None,
    }
    assert meter.peaks()["peak_allocated_bytes"] == most


def test_growth_from_step_to_step_is_seen() -> None:
    _, phases, counted = trained(Gpu(), [A, A + 1, A + 2, A + 3])
    course = memory_parts.metrics(counted, phases, context=None)["peak_allocated_by_step"]
    assert [later - earlier for earlier, later in pairwise(course[1:])] == [1, 1]


MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.65 GiB of which 512.00 MiB is "
    "free. Process 4711 has 23.14 GiB memory in use."
)


class OutOfMemoryError(RuntimeError):
    """Named like torch's; its module is that of the release here."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError(MESSAGE),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_want_of_gpu_memory_is_a_status_of_its_own(error: Exception) -> None:
    assert failures.status_of(error, "/nowhere") == "out_of_memory"


def test_the_moment_in_which_memory_ran_out_is_reported() -> None:
    gpu = Gpu()
    meter, phases, _ = trained(gpu, [A])
    phases.enter(FORWARD)
    gpu.hold(12_345, 23_456)
    told = memory_parts.out_of_memory_metrics(OutOfMemoryError(MESSAGE), "/nowhere", meter, phases)["out_of_memory"]
    assert told.pop("resident_bytes") > 0
    assert told == {
        "requested_bytes": 5 * 2**29,
        "capacity_bytes": round(23.65 * 2**30),
        "free_bytes": 2**29,
        "allocated_bytes": 12_345,
        "reserved_bytes": 23_456,
        "phase": "forward",
        "step": 1,
        "largest_phase": "backward",
    }


def test_an_error_without_figures_in_its_words_leaves_them_null() -> None:
    meter, phases, _ = trained(Gpu(), [])
    error = RuntimeError("CUDA error: out of memory")
    told = memory_parts.out_of_memory_metrics(error, "/nowhere", meter, phases)["out_of_memory"]
    assert told["requested_bytes"] is told["capacity_bytes"] is told["free_bytes"] is None


def test_another_error_is_no_want_of_memory() -> None:
    meter, phases, _ = trained(Gpu(), [])
    assert memory_parts.out_of_memory_metrics(ValueError("planted"), "/nowhere", meter, phases) == {}


def test_a_training_that_runs_out_of_memory_says_when_and_what_to_do(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    answer = fine_tune(forked, install_dir, tmp_path, "eats_memory")
    assert answer["status"] == "out_of_memory"
    assert answer["reason"].endswith(memory_parts.ADVICE["cpu"])
    told = answer["metrics"]["out_of_memory"]
    assert (told["phase"], told["step"], told["allocated_bytes"]) == ("forward", 0, None)


TRAINER = "class Trainer:\n    def __init__(self, use_fp16: bool = False, **kwargs):\n        pass\n"


@pytest.mark.parametrize(
    ("entry", "asked", "words"),
    [
        ("train", "fp32", {}),
        ("train", "fp16", {"train_conf.use_fp16": True}),
        ("train", "bf16", None),
        ("train_ds", "fp16", None),
    ],
)
def test_mixed_precision_is_asked_for_where_the_trainer_has_a_word_for_it(
    tmp_path: Path, entry: str, asked: str, words: dict[str, bool] | None
) -> None:
    install_dir = tiny_release.write_package(tmp_path, {"train_utils/trainer.py": TRAINER})
    assert options.precision_overrides(str(install_dir), entry, asked) == words


def test_a_precision_that_the_trainer_does_not_have_is_skipped(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    answer = fine_tune(forked, install_dir, tmp_path, precision="bf16")
    assert answer["status"] == "skipped"
    assert "trainer.py has no use_bf16" in answer["reason"]


def test_a_border_costs_one_look_at_the_clock_and_one_at_the_memory() -> None:
    # A step has a dozen of them; what that comes to is measured in tests/bench/test_observation.py.
    clock, look = mock.Mock(wraps=phases.HostClock()), mock.Mock(return_value=None)
    observed = Phases(clock=clock, sample_allocator=look)
    observed.begin(0.0)
    for _ in range(12):
        observed.enter(OTHER)
    assert (clock.mark.call_count, look.call_count) == (13, 13)
    assert len(clock.mock_calls) == 13


def test_the_warm_up_covers_what_the_harness_measures_more_closely() -> None:
    assert WARM_UP_STEPS >= memory_parts.COUNTED_STEPS
