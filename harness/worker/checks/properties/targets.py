"""Properties of targets: labels outside the vocabulary, and the sampler's share of target embeddings.

Paraformer's decoder runs twice in training. Of the tokens that the first pass gets wrong, a share (`sampling_ratio`)
is drawn among all tokens of the utterance. At those the second pass gets the target's embedding instead of the
predictor's (the sampler of Gao et al. 2022, arXiv:2206.08317; `Paraformer.sampler`).
"""

from __future__ import annotations

from typing import Any

from harness.worker.checks.properties.examples import PADDING, Example, ExampleSpec
from harness.worker.checks.properties.forward_pass import build, forward, make_batch
from harness.worker.checks.properties.property import (
    ModelUnderTest,
    Property,
    TooFewEmbeddings,
    Violation,
    only_paraformer,
)

_NEGATIVE = (-2, -100)
"""Not -1, which is padding. -100 is the default `ignore_index` of torch's losses."""


class LabelsAccepted(Violation):
    """Labels outside the vocabulary passed a training step silently."""

    def __init__(self, message: str, labels: list[int]) -> None:
        super().__init__(message)
        self.labels = labels


def _outside(example: Example, _tested: ModelUnderTest) -> None:
    accepted: list[tuple[int, float]] = []
    for label in (example.vocab_size, example.vocab_size + 7, *_NEGATIVE):
        network, batch = build(example), make_batch(example)
        batch["text"][0, example.tokens[0] - 1] = label
        try:
            forward_pass = forward(network, batch, example.seed)
        except (IndexError, RuntimeError, ValueError, AssertionError):
            continue
        accepted.append((label, forward_pass.value))
    if accepted:
        described = ", ".join(f"{label} (loss {loss:.4g})" for label, loss in accepted)
        raise LabelsAccepted(
            f"of a vocabulary of {example.vocab_size}, labels are accepted: {described}", [a for a, _ in accepted]
        )


# Without CTC: torch's CTC on the CPU reads the score of an unchecked label.
LABELS_OUTSIDE = Property(
    name="labels_outside_the_vocabulary_are_refused",
    spec=ExampleSpec(sampler=True, look_ahead=True, ctc=0.0, rows=(1, 2)),
    holds=_outside,
)


def _sampler_share(example: Example, _tested: ModelUnderTest) -> None:
    network, batch = build(example), make_batch(example)
    observed = forward(network, batch, example.seed).seen
    ratio = example.conf["sampling_ratio"]
    predicted = observed.predictor[0].detach()
    if predicted.shape[1] < max(example.targets):
        # One embedding would silently be broadcast to two positions.
        raise TooFewEmbeddings(f"the predictor gives {predicted.shape[1]} embeddings for {max(example.targets)} tokens")
    _check_same_embeddings(
        observed.decoder[0][0][2], predicted, example, "the first pass does not receive the predictor's embeddings"
    )
    if not ratio:
        return
    targets = wanted_targets(example, batch["text"])
    guesses = observed.scores["decoder.output_layer"][0].argmax(-1)
    shown, embedded = observed.decoder[-1][0][2].detach(), network.decoder.embed(targets.clamp(min=0)).detach()
    for row, count in enumerate(example.targets):
        missed = int((guesses[row, :count] != targets[row, :count]).sum())
        places = [int(bool((shown[row, place] != predicted[row, place]).any())) for place in range(count)]
        if sum(places) != int(missed * ratio):
            raise Violation(
                f"of {count} tokens the first pass misses {missed}, the second should receive the embeddings of"
                f" {int(missed * ratio)} ({ratio:g} of them), and receives {sum(places)}"
            )
        for place, is_shown in enumerate(places):
            if is_shown and bool((shown[row, place] != embedded[row, place]).any()):
                raise Violation(
                    f"at token {place} the second pass receives neither the target's embedding nor the predictor's"
                )


def _check_same_embeddings(received: Any, expected: Any, example: Example, message: str) -> None:
    for row, count in enumerate(example.targets):
        if bool((received[row, :count].detach() != expected[row, :count]).any()):
            raise Violation(message)


SAMPLER = Property(
    name="sampler_shows_a_share_of_what_was_missed",
    spec=ExampleSpec(sampler=True, look_ahead=True, ctc=0.0),
    holds=_sampler_share,
    applies=only_paraformer,
    share=2,
)


_EOS = 2
"""`eos` of `Paraformer.__init__`, unless the config sets another."""


def wanted_targets(example: Example, text: Any) -> Any:
    """Token ids `[batch, tokens]` of the attention loss: the text, and with a predictor bias the end of sentence."""
    import torch

    targets_by_row = torch.full((len(example.targets), max(example.targets)), PADDING)
    for row, (tokens, targets) in enumerate(zip(example.tokens, example.targets, strict=True)):
        targets_by_row[row, :tokens] = text[row, :tokens]
        if targets > tokens:
            targets_by_row[row, tokens] = example.conf.get("eos", _EOS)
    return targets_by_row
