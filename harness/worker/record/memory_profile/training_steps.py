"""Training steps under an allocation log: single steps of a model, and steps of the release's own trainer.

A single step is a batch, a forward pass, a backward pass, and dropping the gradients. The optimizer's own step is not
run: what it holds follows from the parameters by a rule, see `harness.performance.prediction.training_steps`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.worker.record.memory_profile.allocation_log import AllocationLog
from harness.worker.record.memory_profile.cuda_equivalence import as_on_cuda
from harness.worker.trainer import launch, options


class StepProfiler:
    """Training steps of one model."""

    def __init__(self, network: Any, stacks: Sequence[str], precision: str) -> None:
        self._network = network
        self._stacks = stacks
        self._halved = precision != "fp32"
        self._log = AllocationLog()
        self._turns: Counter[tuple[str, int]] = Counter()
        self.without_gradient: set[str] = set()
        """Parameters without gradient in the last step."""

    def steps(self, batches: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Run a step with a copy of each batch; the sections of each step with their events.

        A forward pass with the first batch comes first, so that tensors that the model keeps between steps exist.

        Raises:
            whatever the release raises.
        """
        import torch

        network, log = self._network, self._log
        log.exclude([*network.parameters(), *network.buffers()])
        device_batch: dict[str, Any] = {}
        outcome: Any = None
        with self._marked(), longest_chunks(network), log:
            for number, batch in enumerate([batches[0], *batches]):
                self._turns.clear()
                log.begin_step()
                log.begin_section("load")
                # The loader's loop drops the previous batch, then the next one is copied to the device.
                device_batch.clear()
                device_batch.update({name: tensor.clone() for name, tensor in batch.items()})
                log.begin_section("forward")
                if number == 0:
                    with torch.no_grad():
                        outcome = self._forward(device_batch)
                    continue
                outcome = self._forward(device_batch)
                log.begin_section("backward")
                outcome[0].sum().backward()
                log.begin_section("update")
                self._drop_gradients()
            # Tensors that are still alive must not count as freed in the last step.
            return [[{**section, "events": list(section["events"])} for section in step] for step in log.steps]

    def _forward(self, batch: Mapping[str, Any]) -> Any:
        import torch

        with as_on_cuda(), torch.autocast("cuda", enabled=self._halved):
            return self._network(**batch)

    def _drop_gradients(self) -> None:
        """As `optimizer.zero_grad(set_to_none=True)`."""
        named = dict(self._network.named_parameters())
        self.without_gradient = {name for name, parameter in named.items() if parameter.grad is None}
        for parameter in named.values():
            parameter.grad = None

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        """Make each block of the stacks begin its own section, in the forward and in the backward pass."""
        handles = []
        for name in self._stacks:
            blocks = list(self._network.get_submodule(name))
            for index, block in enumerate(blocks):
                last = index == len(blocks) - 1
                handles.append(block.register_forward_pre_hook(partial(self._before, name, index)))
                handles.append(block.register_forward_hook(partial(self._after, name, index, last)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, stack: str, index: int, _block: Any, args: Any) -> None:
        entering = _differentiable(args)
        if index == 0 and entering is not None:
            # Its gradient arrives when the backward pass leaves the stack.
            entering.register_hook(self._backward())
        self._log.begin_section("forward", stack, index, self._turns[stack, index])

    def _after(self, stack: str, index: int, last: bool, _block: Any, _args: Any, output: Any) -> None:
        turn = self._turns[stack, index]
        self._turns[stack, index] += 1
        leaving = _differentiable(output)
        if leaving is not None:
            leaving.register_hook(self._backward(stack, index, turn))
        if last:
            self._log.begin_section("forward")

    def _backward(self, stack: str | None = None, index: int = 0, turn: int = 0) -> Any:
        def begin(_gradient: Any) -> None:
            self._log.begin_section("backward", stack, index, turn)

        return begin


def _differentiable(values: Any) -> Any:
    """The first tensor among a block's arguments or results, if it requires a gradient.

    Tensors that are passed along unchanged, such as the encoder's output, get their gradient elsewhere.
    """
    while isinstance(values, list | tuple) and values:
        values = values[0]
    return values if getattr(values, "requires_grad", False) else None


@contextlib.contextmanager
def longest_chunks(network: Any) -> Iterator[None]:
    """Make a streaming encoder use the chunk configuration that lengthens its input most."""
    chunks = getattr(getattr(network, "encoder", None), "overlap_chunk_cls", None)
    sizes, strides = getattr(chunks, "chunk_size", None), getattr(chunks, "stride", None)
    if chunks is None or not sizes or not strides:
        yield
        return
    longest = max(range(len(sizes)), key=lambda place: (sizes[place] / strides[place], sizes[place]))
    chunks.random_choice = lambda *_args, **_kwargs: longest
    try:
        yield
    finally:
        del chunks.random_choice


STEPS = 3
"""The first step is not counted: the optimizer's state exists from the second on."""


class _StepsDone(BaseException):
    """Ends the training; no trainer catches it."""


class _StepCounter:
    """Counts the trainer's steps and reads the log between them."""

    def __init__(self, log: AllocationLog) -> None:
        self._log = log
        self.steps = 0
        self.found: dict[str, Any] = {}

    def attach(self, model_class: Any) -> None:
        """Observe the forward passes and the optimizer's steps."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        forward, watch = model_class.forward, self

        def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
            watch.found |= {"frames": int(kwargs["speech"].shape[1]), "tokens": int(kwargs["text"].shape[1])}
            watch.found["utterances"] = len(kwargs["speech"])
            with longest_chunks(network):
                return forward(network, *args, **kwargs)

        model_class.forward = watched
        register_optimizer_step_post_hook(self._stepped)

    def _stepped(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == STEPS:
            self.found["peak_bytes"] = self._log.peak
            raise _StepsDone
        self._log.forget_peak()


def trained_peak(request: Mapping[str, Any]) -> dict[str, Any]:
    """Peak bytes (`peak_bytes` in the evidence) of the release's own trainer, with the dimensions of the batch.

    The optimizer runs in its `foreach` form, which is its default on a GPU.
    """
    release = request["release"]
    model_class = launch.import_model_class(release["install_dir"], request["model_class"])
    trainer_options = options.trainer_options(release["install_dir"], release["version"], request["entry"])
    training = launch.prepare_training(request, Path.cwd(), request["seed"])
    log = AllocationLog()
    log.begin_step()
    log.begin_section("load")
    watch = _StepCounter(log)
    watch.attach(model_class)
    overrides = {**trainer_options.overrides(training), "optim_conf.foreach": True}
    try:
        with as_on_cuda(), log:
            launch.run_trainer(request["entry"], overrides)
    except _StepsDone:
        return {"status": "passed", "reason": "", "evidence": watch.found}
    return {"status": "errored", "reason": f"the training ended after {watch.steps} steps", "evidence": watch.found}
