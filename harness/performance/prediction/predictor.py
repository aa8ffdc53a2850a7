"""From a question to its figures: the peak of a training step, and the batch that fits a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from harness.core.errors import InputError
from harness.performance.prediction.account import Account, account
from harness.performance.prediction.allocator import rounded
from harness.performance.prediction.batches import BatchPair
from harness.performance.prediction.calibration import Calibration
from harness.performance.prediction.cards import GpuCard, largest
from harness.performance.prediction.depth import deepen, uneven_blocks
from harness.performance.prediction.measure import MeasureContext, MeasureRequest, measure
from harness.performance.prediction.recording import Step, StepRecording, StorageUse
from harness.performance.prediction.training_steps import Optimizer, changes, optimizer_of

MEASURED_BATCHES = (2, 3)
"""Utterances; a batch of one takes other code paths of torch, and is measured itself when requested."""
_PROBED = (8, 16)
"""Two batches between which a step's memory grows by its activations alone."""
_GRADIENTS_OFF = 0.01
"""Share by which the gradients of the carried step may differ from what the parameters say."""
NOT_ON_A_GPU = "not measured on a GPU"


@dataclass(kw_only=True)
class Predictor:
    """What was measured, and all that follows from it."""

    question: MeasureRequest
    recording: StepRecording
    optimizer: Optimizer
    _known: dict[int, Account] = field(default_factory=dict)

    @classmethod
    def of(cls, question: MeasureRequest, context: MeasureContext, *, alone: int | None = None) -> Predictor:
        """Have it measured.

        Args:
            alone: A batch from which no other is predicted; None measures what any batch can be predicted from.

        Raises:
            HarnessError: why it cannot be had.
        """
        optimizer = _optimizer(question)
        batches: Sequence[int] = MEASURED_BATCHES
        if alone is not None and alone <= MEASURED_BATCHES[-1]:
            batches = (alone,)
        return cls(question=question, recording=measure(question, batches, context), optimizer=optimizer)

    def at(self, utterances: int) -> Account:
        """The figures of a batch."""
        if utterances not in self._known:
            step = self._deep.get(utterances) or self._pair.at(utterances)
            self._known[utterances] = account(changes(self.recording, step, self.optimizer))
        return self._known[utterances]

    @cached_property
    def _deep(self) -> dict[int, Step]:
        """The measured steps at full depth, by the number of utterances."""
        return {size: deepen(step, self.recording.stacks) for size, step in self.recording.steps.items()}

    @cached_property
    def _pair(self) -> BatchPair:
        """Two of them; to the full depth first, because a sum does not show the blocks any more."""
        small, large = sorted(self._deep)[:2]
        return BatchPair(small=self._deep[small], large=self._deep[large], sizes=(small, large))

    def largest(self, card: GpuCard, calibration: Calibration | None) -> int:
        """The most utterances whose predicted reserved memory fits a card with its margin; 0 when none does."""
        available = card.size - card.margin
        if calibration is not None:
            available -= calibration.context_bytes + calibration.workspace_bytes
        at_first, at_second = (self.at(utterances).reserved for utterances in _PROBED)
        slope = max(1.0, (at_second - at_first) / (_PROBED[1] - _PROBED[0]))
        guess = _PROBED[0] + int((available - at_first) / slope)
        return largest(lambda utterances: self.at(utterances).reserved <= available, guess)

    @property
    def weights_bytes(self) -> int:
        """Of all parameters."""
        return sum(parameter.size for parameter in self.recording.parameters)

    @property
    def gradient_bytes(self) -> int:
        """Of all parameters that the loss reaches."""
        return sum(parameter.size for parameter in self.recording.parameters if parameter.trained)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What makes these figures less than they claim; none when all is as it should be."""
        doubts = []
        for utterances, step in self.recording.steps.items():
            names = ", ".join(uneven_blocks(step, self.recording.stacks))
            if names:
                doubts.append(f"blocks of {names} differ from each other in a batch of {utterances}")
        if any(account.unmatched for account in self._known.values()):
            doubts.append("some tensors grow in number from step to step")
        expected = sum(rounded(parameter.size) for parameter in self.recording.parameters if parameter.trained)
        if any(abs(account.gradients - expected) > _GRADIENTS_OFF * expected for account in self._known.values()):
            doubts.append("the gradients that were carried to the full depth are not as large as its parameters")
        return tuple(doubts)


def figures(predicted: Account, calibration: Calibration | None = None) -> dict[str, int]:
    """What a cell stores besides a GPU's measurements: `predicted_allocated_bytes`, `predicted_reserved_bytes`."""
    workspace = calibration.workspace_bytes if calibration else 0
    return {
        "predicted_allocated_bytes": predicted.allocated + workspace,
        "predicted_reserved_bytes": predicted.reserved + workspace,
    }


def predicted_for(question: MeasureRequest, utterances: int, context: MeasureContext) -> dict[str, int]:
    """The figures of one cell's batch: `utterances` of the length of its longest, as the collator pads them.

    Raises:
        HarnessError: why they cannot be had; nothing is stored then.
    """
    return figures(Predictor.of(question, context, alone=utterances).at(utterances))


def exact(predictor: Predictor) -> dict[StorageUse, int]:
    """The parts that follow from the shapes of the parameters alone, in bytes, whatever the moment."""
    gradients = predictor.gradient_bytes
    return {
        StorageUse.WEIGHT: predictor.weights_bytes,
        StorageUse.GRADIENT: gradients,
        StorageUse.OPTIMIZER: predictor.optimizer.kept * gradients,
    }


def _optimizer(question: MeasureRequest) -> Optimizer:
    config = question.variant.config
    name = str(config.get("optim", "adam"))
    optimizer = optimizer_of(name, float((config.get("optim_conf") or {}).get("weight_decay", 0.0)))
    if optimizer is None:
        raise InputError(
            f'{question.variant.name} is trained with "{name}", of whose memory no rule is known',
            next_step="choose a variant that is trained with adam or adamw",
        )
    return optimizer
