"""Every tensor of a step from birth to end, as a GPU would keep it."""

from __future__ import annotations

from typing import Any

import pytest
from forked import Forked

from harness.performance.prediction.account import account
from harness.performance.prediction.batches import BatchPair
from harness.performance.prediction.depth import deepen
from harness.performance.prediction.recording import Birth, StepRecording
from harness.performance.prediction.training_steps import changes, optimizer_of


def entered(what: str) -> list[list[int]]:
    """The events of a few operations, and the peak."""
    import torch

    from harness.worker.record.memory_profile.allocation_log import AllocationLog

    log = AllocationLog()
    kept = torch.ones(100)
    log.exclude([kept])
    log.begin_step()
    log.begin_section("forward")
    with log:
        match what:
            case "views":
                one = torch.zeros(8, 4)
                views = [one[0], one.t(), one.view(-1)]
                del one, views
            case "known":
                kept.add_(1.0)
                kept.view(10, 10)
            case "saved":
                weight = torch.ones(4, requires_grad=True)
                result = (weight * 2).exp()
                total = result.sum()
                del result
                log.begin_section("backward")
                total.backward()
            case "passing":
                one = (torch.zeros(1000) + 1.0) + 2.0
        events = [event for section in log.steps[0] for event in section["events"]]
        return [[log.peak], *(list(event) for event in events)]


def kept_by_dropout(*, as_on_cuda: bool, p: float = 0.1, training: bool = True) -> int:
    """Bytes that live after a dropout of 1000 values, beside the values."""
    import contextlib

    import torch

    from harness.worker.record.memory_profile.allocation_log import AllocationLog
    from harness.worker.record.memory_profile.cuda_equivalence import as_on_cuda as likeness

    log = AllocationLog()
    values = torch.ones(1000, requires_grad=True)
    log.exclude([values])
    log.begin_step()
    log.begin_section("forward")
    with likeness() if as_on_cuda else contextlib.nullcontext(), log:
        result = torch.nn.functional.dropout(values, p, training)
        live = log._live
    assert result.shape == values.shape
    return live


def autocast() -> dict[str, str]:
    """Which precision operations have in a step of half precision."""
    import torch

    from harness.worker.record.memory_profile.allocation_log import AllocationLog
    from harness.worker.record.memory_profile.cuda_equivalence import as_on_cuda

    linear, norm = torch.nn.Linear(8, 8), torch.nn.LayerNorm(8)
    log = AllocationLog()
    log.begin_step()
    log.begin_section("forward")
    found = {}
    with as_on_cuda(), torch.autocast("cuda", dtype=torch.float16), log:
        hidden = linear(torch.randn(2, 8))
        found["linear"] = str(hidden.dtype)
        found["softmax"] = str(torch.softmax(hidden, -1).dtype)
        found["norm"] = str(norm(hidden).dtype)
        found["sum"] = str(hidden.sum().dtype)
        with torch.autocast("cuda", enabled=False):
            found["switched off"] = str(linear(torch.randn(2, 8)).dtype)
    found["after"] = str(linear(torch.randn(2, 8)).dtype)
    found["close"] = str(bool(torch.allclose(hidden.float(), hidden.float().to(torch.bfloat16).float())))
    return found


def recorded(blocks: int, full: int, batches: list[int], *, halved: bool = False) -> dict[str, Any]:
    """A recording of a small model with equal blocks, as `measure` makes it."""
    import torch

    from harness.worker.record.memory_profile import block_stacks, tensor_sizes
    from harness.worker.record.memory_profile.training_steps import StepProfiler

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.wide, self.narrow = torch.nn.LayerNorm(16), torch.nn.Linear(16, 64), torch.nn.Linear(64, 16)
            self.attention: Any = None

        def forward(self, hidden: Any) -> Any:
            self.attention = torch.softmax(hidden @ hidden.transpose(1, 2), -1)
            hidden = hidden + self.attention @ self.norm(hidden)
            wide = torch.nn.functional.dropout(torch.relu(self.wide(hidden)), 0.1, self.training)
            return hidden + self.narrow(wide)

    class Network(torch.nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.front, self.back = torch.nn.Linear(8, 16), torch.nn.Linear(16, 50)
            self.blocks = torch.nn.Sequential(*(Block() for _ in range(count)))
            self.unused = torch.nn.Linear(3, 3)

        def forward(self, speech: Any) -> Any:
            scores = self.back(self.blocks(self.front(speech)))
            rows = torch.stack([torch.log_softmax(row, -1).mean() for row in scores])
            return rows.mean(), {}, torch.tensor(len(rows))

    torch.manual_seed(0)
    network, larger = Network(blocks), Network(full)
    stepping = StepProfiler(network, ("blocks",), "bf16" if halved else "fp32")
    steps = stepping.steps([{"speech": torch.randn(size, 20, 8)} for size in batches])
    return {
        "schema": 1,
        "parameters": tensor_sizes(larger.named_parameters()),
        "buffers": [],
        "without_gradient": sorted(stepping.without_gradient),
        "stacks": {name: list(found) for name, found in block_stacks(network, larger).items()},
        "batches": batches,
        "before": steps[0],
        "steps": steps[1:],
    }


def without_values() -> dict[str, Any]:
    """What a layer is built with where its values are not wanted, and afterwards."""
    import torch

    from harness.worker.record.memory_profile import without_initial_values

    called = []
    original = torch.Tensor.uniform_
    torch.Tensor.uniform_ = lambda self, *args, **kwargs: called.append(1) or original(self, *args, **kwargs)
    with without_initial_values():
        shape = list(torch.nn.Linear(70, 30).weight.shape)
    within = len(called)
    torch.nn.Linear(7, 3)
    return {"shape": shape, "within": within, "after": len(called)}


def test_views_are_no_tensors_of_their_own(forked: Forked) -> None:
    assert forked(entered, what="views") == [[128], [0, 128], [0]]


def test_the_models_own_tensors_are_not_entered(forked: Forked) -> None:
    assert forked(entered, what="known") == [[0]]


def test_what_autograd_saved_lives_until_its_backward_pass(forked: Forked) -> None:
    """The result of exp is saved by it, though no name holds it any more."""
    peak, *events = forked(entered, what="saved")
    births = [event[0] for event in events if len(event) == 2]
    ends = [event[0] for event in events if len(event) == 1]
    result = births[2]
    assert events.index([result]) > events.index(next(event for event in events if event[0] > births[3]))
    assert result in ends
    assert peak[0] >= 48


def test_what_passes_is_freed_at_once(forked: Forked) -> None:
    assert forked(entered, what="passing") == [[8000], [0, 4000], [1, 4000], [0], [2, 4000], [1]]


def test_dropout_keeps_a_byte_a_value_as_on_a_gpu(forked: Forked) -> None:
    assert forked(kept_by_dropout, as_on_cuda=True) == 5000
    assert forked(kept_by_dropout, as_on_cuda=False) > 5000, "what it is for"


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.1, False)])
def test_dropout_that_drops_nothing_keeps_nothing(forked: Forked, p: float, training: bool) -> None:
    assert forked(kept_by_dropout, as_on_cuda=True, p=p, training=training) == 0


def test_half_precision_is_where_a_gpu_has_it(forked: Forked) -> None:
    assert forked(autocast) == {
        "linear": "torch.bfloat16",
        "softmax": "torch.float32",
        "norm": "torch.float32",
        "sum": "torch.float32",
        "switched off": "torch.float32",
        "after": "torch.float32",
        "close": "True",
    }


def sizes(one: StepRecording, utterances: int, *, deep: bool) -> list[object]:
    step = deepen(one.steps[utterances], one.stacks) if deep else one.steps[utterances]
    return [(section.label, [event.size for event in section.events if isinstance(event, Birth)]) for section in step]


@pytest.mark.parametrize("halved", [False, True])
def test_a_real_model_carried_to_more_blocks_is_the_measured_one(forked: Forked, halved: bool) -> None:
    shallow = StepRecording.from_json(forked(recorded, blocks=5, full=9, batches=[2, 3], halved=halved))
    deep = StepRecording.from_json(forked(recorded, blocks=9, full=9, batches=[2, 3], halved=halved))
    assert sizes(shallow, 2, deep=True) == sizes(deep, 2, deep=False)
    adam = optimizer_of("adam", 0.0)
    assert adam is not None
    carried = account(changes(shallow, deepen(shallow.steps[3], shallow.stacks), adam))
    assert carried == account(changes(deep, deep.steps[3], adam))
    assert carried.unmatched == 0


def test_a_real_model_carried_to_a_larger_batch_is_the_measured_one(forked: Forked) -> None:
    small = StepRecording.from_json(forked(recorded, blocks=5, full=9, batches=[2, 3]))
    large = StepRecording.from_json(forked(recorded, blocks=5, full=9, batches=[24, 25]))
    adam = optimizer_of("adam", 0.0)
    assert adam is not None
    step = BatchPair(small=small.steps[2], large=small.steps[3], sizes=(2, 3)).at(24)
    carried = account(changes(small, deepen(step, small.stacks), adam))
    measured = account(changes(large, deepen(large.steps[24], large.stacks), adam))
    assert carried.requested == pytest.approx(measured.requested, rel=0.01)
    assert carried.allocated == pytest.approx(measured.allocated, rel=0.01)
    assert carried.phase == measured.phase


def test_halves_take_less(forked: Forked) -> None:
    whole = StepRecording.from_json(forked(recorded, blocks=5, full=9, batches=[24, 25]))
    half = StepRecording.from_json(forked(recorded, blocks=5, full=9, batches=[24, 25], halved=True))
    adam = optimizer_of("adam", 0.0)
    assert adam is not None
    found = [account(changes(one, one.steps[24], adam)).requested for one in (whole, half)]
    assert found[1] < found[0]


def test_a_parameter_that_the_loss_does_not_reach_is_reported(forked: Forked) -> None:
    one = StepRecording.from_json(forked(recorded, blocks=5, full=9, batches=[2, 3]))
    assert [each.name for each in one.parameters if not each.trained] == ["unused.weight", "unused.bias"]


def test_a_model_is_built_without_its_values(forked: Forked) -> None:
    found = forked(without_values)
    assert found["shape"] == [30, 70]
    assert found["within"] == 0
    assert found["after"] > 0
