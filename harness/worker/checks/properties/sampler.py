"""What the second pass of the decoder is shown of the targets.

Paraformer's decoder runs twice in training. The first pass tells how many tokens of an utterance it gets wrong; a share
of that number, `sampling_ratio`, is drawn among all its tokens, and at those the second pass is given the target's
embedding in place of what the predictor made of the frames (the sampler of Gao et al. 2022, arXiv:2206.08317;
`Paraformer.sampler`).
"""

from __future__ import annotations

from typing import Any

from harness.worker.checks.properties.building import build, make_batch
from harness.worker.checks.properties.drawing import Example, Wish
from harness.worker.checks.properties.lengths import wanted_targets
from harness.worker.checks.properties.running import TooFewEmbeddings, Violation, forward
from harness.worker.checks.properties.subject import Property, Subject, only_paraformer


def _as_many_as_missed(example: Example, _subject: Subject) -> None:
    network, batch = build(example), make_batch(example)
    seen = forward(network, batch, example.seed).seen
    ratio = example.conf["sampling_ratio"]
    heard = seen.predictor[0].detach()
    if heard.shape[1] < max(example.targets):
        # One embedding is broadcast to two places without a word.
        raise TooFewEmbeddings(f"the predictor gives {heard.shape[1]} embeddings for {max(example.targets)} tokens")
    _hold_equal(seen.decoder[0][0][2], heard, example, "the first pass is not given what the predictor made")
    if not ratio:
        return
    targets = wanted_targets(example, batch["text"])
    guesses = seen.scores["decoder.output_layer"][0].argmax(-1)
    shown, told = seen.decoder[-1][0][2].detach(), network.decoder.embed(targets.clamp(min=0)).detach()
    for row, count in enumerate(example.targets):
        missed = int((guesses[row, :count] != targets[row, :count]).sum())
        places = [int(bool((shown[row, place] != heard[row, place]).any())) for place in range(count)]
        if sum(places) != int(missed * ratio):
            raise Violation(
                f"of {count} tokens the first pass misses {missed}, the second is to be shown"
                f" {int(missed * ratio)} ({ratio:g} of them), and is shown {sum(places)}"
            )
        for place, is_shown in enumerate(places):
            if is_shown and bool((shown[row, place] != told[row, place]).any()):
                raise Violation(
                    f"at token {place} the second pass is given neither the target's embedding nor the frames'"
                )


def _hold_equal(given: Any, wanted: Any, example: Example, message: str) -> None:
    for row, count in enumerate(example.targets):
        if bool((given[row, :count].detach() != wanted[row, :count]).any()):
            raise Violation(message)


SAMPLER = Property(
    name="sampler_shows_a_share_of_what_was_missed",
    wish=Wish(sampler=True, look_ahead=True, ctc=0.0),
    holds=_as_many_as_missed,
    applies=only_paraformer,
    share=2,
)
