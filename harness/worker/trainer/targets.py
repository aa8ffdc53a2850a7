"""The targets of each forward pass, and the tokens that the decoder predicts before it receives any of them.

Paraformer's training forward runs the decoder twice: first on the acoustic embeddings alone, without gradients, then
with the embeddings of some target tokens among them (the sampler). The loss is that of the second pass, the accuracy
that of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.worker.release import model

Rows = list[list[int]]
"""The token ids of each utterance of a batch, padding left out."""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One forward pass; tensors, which are not read before the training is over."""

    target: Any
    """Token ids `[batch, length]` as they entered the loss, padded."""
    correct: Any
    """Whether the first pass scored the target highest: bool `[batch, length]`; None if scores and targets have
    different shapes."""
    frames: Any
    """Stacked frames of each utterance, `[batch]` or `[batch, 1]`; None if the model received none."""


@dataclass
class TargetRecorder:
    """Observes the label-smoothing loss of one network, and its decoder's first pass."""

    forwards: list[Forward] = field(default_factory=list)
    """Since the last call of `take`."""
    frames: Any = None
    """Utterance lengths of the current forward pass."""
    _criterion: Any = None
    _first: Any = None

    def attach(self, network: Any) -> None:
        """Observe the training forward passes of `network`; without such a loss nothing is recorded."""
        import torch

        self._criterion = _criterion(network)
        if self._criterion is None:
            return

        def training() -> bool:
            return bool(network.training)

        def decoded(_module: Any, _args: Any, output: Any) -> None:
            if training() and not torch.is_grad_enabled():
                self._first = output[0] if isinstance(output, tuple) else output

        def judged(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if training() and torch.is_grad_enabled():
                scores, target = (*args, *kwargs.values())[:2]
                self._note(scores.detach() if self._first is None else self._first, target)

        decoder = getattr(network, "decoder", None)
        if isinstance(decoder, torch.nn.Module):
            decoder.register_forward_hook(decoded)
        self._criterion.register_forward_pre_hook(judged, with_kwargs=True)

    def _note(self, scores: Any, target: Any) -> None:
        target, self._first = target.detach(), None
        correct = None
        if tuple(scores.shape[:-1]) == tuple(target.shape):
            correct = (scores.argmax(-1) == target) & (target != self._criterion.padding_idx)
        self.forwards.append(Forward(target=target, correct=correct, frames=self.frames))

    def take(self) -> list[Forward]:
        """The forward passes since the last call."""
        forwards, self.forwards = self.forwards, []
        return forwards

    def criterion(self) -> dict[str, Any] | None:
        """The arguments of the loss: `classes`, `smoothing`, `normalize_length`."""
        if self._criterion is None:
            return None
        return {
            "classes": int(self._criterion.size),
            "smoothing": float(self._criterion.smoothing),
            "normalize_length": bool(self._criterion.normalize_length),
        }

    def metrics(self, steps: Sequence[Sequence[Forward]]) -> dict[str, Any]:
        """The targets of each step's forward passes, and the recomputed accuracy of the first pass.

        `rows` has every utterance's tokens once for each length of its speech, `frames` that length, `steps` the row
        numbers of each forward pass, and `right` for each of those which of its tokens the first pass got right, as in
        `"0110"`.
        """
        index: dict[tuple[tuple[int, ...], int | None], int] = {}
        numbered = [
            [[index.setdefault(row, len(index)) for row in self._rows_and_frames(forward)] for forward in step]
            for step in steps
        ]
        return {
            "criterion": self.criterion(),
            "targets": {
                "rows": [list(row) for row, _ in index],
                "frames": [frames for _, frames in index],
                "steps": numbered,
                "right": [[self._right(forward) for forward in step] for step in steps],
            },
            "accuracy_recomputed": [
                _mean([_share(forward, self._rows(forward)) for forward in step]) for step in steps
            ],
        }

    def _rows(self, forward: Forward) -> list[tuple[int, ...]]:
        padding = self._criterion.padding_idx
        return [tuple(token for token in row if token != padding) for row in forward.target.tolist()]

    def _rows_and_frames(self, forward: Forward) -> list[tuple[tuple[int, ...], int | None]]:
        rows = self._rows(forward)
        frames = [] if forward.frames is None else [int(count) for count in forward.frames.reshape(-1).tolist()]
        return list(zip(rows, frames if len(frames) == len(rows) else [None] * len(rows), strict=True))

    def _right(self, forward: Forward) -> list[str] | None:
        if forward.correct is None:
            return None
        spoken = (forward.target != self._criterion.padding_idx).tolist()
        return [
            "".join(str(int(right)) for right, real in zip(row, mask, strict=True) if real)
            for row, mask in zip(forward.correct.tolist(), spoken, strict=True)
        ]


def _criterion(network: Any) -> Any:
    """The attention decoder's label-smoothing loss; of several the one with that name."""
    losses = {
        name: module
        for name, module in model.losses(network)
        if all(hasattr(module, name) for name in ("smoothing", "padding_idx", "normalize_length"))
    }
    return losses.get("criterion_att", next(iter(losses.values()), None))


def _share(forward: Forward, rows: Sequence[tuple[int, ...]]) -> float | None:
    total = sum(map(len, rows))
    return int(forward.correct.sum()) / total if forward.correct is not None and total else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
