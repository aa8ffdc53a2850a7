"""Recordings in miniature, as the inside tells them: a stack of equal blocks between a front and a back."""

from __future__ import annotations

from typing import Any

ACTIVATION, OUTPUT, WEIGHT, INPUT = 3_000_000, 1_000_000, 2_000_000, 600_000


class Teller:
    """Writes the events of a step with storages numbered as they come."""

    def __init__(self) -> None:
        self.steps: list[list[dict[str, Any]]] = []
        self._count = 0

    def begin(self, kind: str, stack: str | None = None, index: int = 0) -> None:
        """A new segment."""
        self.steps[-1].append({"kind": kind, "stack": stack, "index": index, "turn": 0, "events": []})

    def make(self, size: int) -> int:
        """A storage is born."""
        self._count += 1
        self.steps[-1][-1]["events"].append([self._count, size])
        return self._count

    def free(self, *numbers: int) -> None:
        """Storages end."""
        self.steps[-1][-1]["events"] += [[number] for number in numbers]


def recording(
    blocks: int, full: int, batches: tuple[int, ...] = (2, 3), *, per_utterance: bool = False
) -> dict[str, Any]:
    """What the inside tells of a model with `blocks` blocks that has `full` at full depth.

    Each block keeps an activation and its output, which the next block needs too; the backward pass makes a gradient of
    the weight and hands a gradient on. An attribute of each block outlives its step.

    Args:
        per_utterance: The loss makes tensors for each utterance in a loop.
    """
    teller = Teller()
    kept: list[int] = []
    batch: list[int] = []
    for number, size in enumerate((batches[0], *batches)):
        teller.steps.append([])
        teller.begin("load")
        teller.free(*batch)
        batch = [teller.make(size * INPUT)]
        kept = _step(teller, blocks, size, kept, trained=number > 0, per_utterance=per_utterance)
    names = [f"blocks.{place}.weight" for place in range(full)]
    return {
        "schema": 1,
        "parameters": [["front.weight", WEIGHT, True], *([name, WEIGHT, True] for name in names)],
        "buffers": [["mean", 4096, False]],
        "without_gradient": [],
        "stacks": {"blocks": [blocks, full]},
        "batches": list(batches),
        "before": teller.steps[0],
        "steps": teller.steps[1:],
    }


def _step(teller: Teller, blocks: int, size: int, kept: list[int], *, trained: bool, per_utterance: bool) -> list[int]:
    teller.begin("forward")
    entering = teller.make(size * OUTPUT)
    saved, attributes = [], []
    for place in range(blocks):
        teller.begin("forward", "blocks", place)
        passing = teller.make(size * ACTIVATION)
        activation = teller.make(size * ACTIVATION)
        teller.free(passing)
        attributes.append(teller.make(size * 70_000))
        if kept:
            teller.free(kept[place])
        output = teller.make(size * OUTPUT)
        saved.append((activation, entering))
        entering = output
    teller.begin("forward")
    scores = [teller.make(400_000) for _ in range(size)] if per_utterance else [teller.make(size * 400_000)]
    if not trained:
        teller.free(*scores, entering, *(one for pair in saved for one in pair))
        return attributes
    teller.begin("backward")
    passing = teller.make(size * OUTPUT)
    teller.free(*scores, entering)
    gradients = []
    for place in reversed(range(blocks)):
        teller.begin("backward", "blocks", place)
        gradients.append(teller.make(WEIGHT))
        before, passing = passing, teller.make(size * OUTPUT)
        teller.free(before, *saved[place])
    teller.begin("backward")
    gradients.append(teller.make(WEIGHT))
    teller.free(passing)
    teller.begin("update")
    teller.free(*gradients)
    return attributes
