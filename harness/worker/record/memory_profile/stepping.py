"""A training step as FunASR's trainers make it, with a ledger beside it: batch, forward, backward, gradients dropped.

The optimizer's own step is not run: what it holds follows from the parameters by a rule, see
`harness.performance.prediction.training_steps`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from harness.worker.record.memory_profile.ledger import AllocationLog
from harness.worker.record.memory_profile.likeness import as_on_cuda


class Stepping:
    """Steps of one model with batches of one size."""

    def __init__(self, network: Any, stacks: Sequence[str], precision: str) -> None:
        self._network = network
        self._stacks = stacks
        self._halved = precision != "fp32"
        self._ledger = AllocationLog()
        self._turns: Counter[tuple[str, int]] = Counter()
        self.without_gradient: set[str] = set()
        """Parameters that the last step's loss does not reach."""

    def steps(self, batches: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Run a step with a copy of each batch; the stretches of each with their events.

        A forward pass with the first batch goes before: what the model keeps from one step to the next is there then.

        Raises:
            whatever the release raises.
        """
        import torch

        network, ledger = self._network, self._ledger
        ledger.know([*network.parameters(), *network.buffers()])
        given: dict[str, Any] = {}
        outcome: Any = None
        with self._marked(), longest_chunks(network), ledger:
            for number, batch in enumerate([batches[0], *batches]):
                self._turns.clear()
                ledger.begin_step()
                ledger.begin("load")
                # The loop of the loader forgets the batch before, then the next one is put on the device.
                given.clear()
                given.update({name: tensor.clone() for name, tensor in batch.items()})
                ledger.begin("forward")
                if number == 0:
                    with torch.no_grad():
                        outcome = self._forward(given)
                    continue
                outcome = self._forward(given)
                ledger.begin("backward")
                outcome[0].sum().backward()
                ledger.begin("update")
                self._drop_gradients()
            # What is still held is not to be entered as freed in the last step.
            return [[{**stretch, "events": list(stretch["events"])} for stretch in step] for step in ledger.steps]

    def _forward(self, batch: Mapping[str, Any]) -> Any:
        import torch

        with as_on_cuda(), torch.autocast("cuda", enabled=self._halved):
            return self._network(**batch)

    def _drop_gradients(self) -> None:
        """As `optimizer.zero_grad(set_to_none=True)`."""
        named = dict(self._network.named_parameters())
        self.without_gradient = {name for name, one in named.items() if one.grad is None}
        for one in named.values():
            one.grad = None

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        """Have each block of the stacks begin a stretch of its own, in the forward and in the backward pass."""
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
            # Its gradient is there when the backward pass leaves the stack.
            entering.register_hook(self._backward())
        self._ledger.begin("forward", stack, index, self._turns[stack, index])

    def _after(self, stack: str, index: int, last: bool, _block: Any, _args: Any, output: Any) -> None:
        turn = self._turns[stack, index]
        self._turns[stack, index] += 1
        leaving = _differentiable(output)
        if leaving is not None:
            leaving.register_hook(self._backward(stack, index, turn))
        if last:
            self._ledger.begin("forward")

    def _backward(self, stack: str | None = None, index: int = 0, turn: int = 0) -> Any:
        def begin(_gradient: Any) -> None:
            self._ledger.begin("backward", stack, index, turn)

        return begin


def _differentiable(values: Any) -> Any:
    """The first tensor among a block's arguments or results, if a gradient goes through it.

    What is handed from block to block beside it, such as the encoder's output, has its gradient elsewhere.
    """
    while isinstance(values, list | tuple) and values:
        values = values[0]
    return values if getattr(values, "requires_grad", False) else None


@contextlib.contextmanager
def longest_chunks(network: Any) -> Iterator[None]:
    """Of the sizes of chunks of which a streaming encoder draws one a batch, take that which stretches the most."""
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
