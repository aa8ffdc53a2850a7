"""Token ids that the vocabulary does not have."""

from __future__ import annotations

from harness.worker.checks.properties.building import build, make_batch
from harness.worker.checks.properties.drawing import Example, Wish
from harness.worker.checks.properties.running import Violation, forward
from harness.worker.checks.properties.subject import Property, Subject

_NEGATIVE = (-2, -100)
"""Not -1: that is padding. -100 is what torch's losses leave out unless told otherwise."""


class Accepted(Violation):
    """Labels outside the vocabulary went through a training step without a word."""

    def __init__(self, message: str, labels: list[int]) -> None:
        super().__init__(message)
        self.labels = labels


def _outside(example: Example, _subject: Subject) -> None:
    accepted: list[tuple[int, float]] = []
    for label in (example.vocab_size, example.vocab_size + 7, *_NEGATIVE):
        network, batch = build(example), make_batch(example)
        batch["text"][0, example.tokens[0] - 1] = label
        try:
            done = forward(network, batch, example.seed)
        except (IndexError, RuntimeError, ValueError, AssertionError):
            continue
        accepted.append((label, done.value))
    if accepted:
        told = ", ".join(f"{label} (loss {loss:.4g})" for label, loss in accepted)
        raise Accepted(
            f"of a vocabulary of {example.vocab_size}, labels are accepted: {told}", [a for a, _ in accepted]
        )


# Without CTC: torch's on the CPU looks up the score of a label that it has not checked.
LABELS_OUTSIDE = Property(
    name="labels_outside_the_vocabulary_are_refused",
    wish=Wish(sampler=True, look_ahead=True, ctc=0.0, rows=(1, 2)),
    holds=_outside,
)
