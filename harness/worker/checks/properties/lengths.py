"""Properties of lengths: targets, predictor and masks agree on the numbers of tokens and frames."""

from __future__ import annotations

from typing import Any

from harness.worker.checks.properties.examples import Example, ExampleSpec
from harness.worker.checks.properties.forward_pass import ForwardPass, batches, build, forward, make_batch
from harness.worker.checks.properties.property import (
    ModelUnderTest,
    Property,
    Undecided,
    Violation,
    check_equal,
    only_chunked,
    only_paraformer,
    only_with_predictor,
)
from harness.worker.checks.properties.targets import wanted_targets

_TRIES, _MANY_TRIES = 8, 24
"""Batches per example when rounding decides."""
_MARGIN = 1e-3
"""How far below 1 the weights of frames must stay for the predictor to fire once per token."""


def _lengths_agree(example: Example, tested: ModelUnderTest) -> None:
    network, batch = build(example), make_batch(example)
    forward_pass = forward(network, batch, example.seed)
    observed = forward_pass.seen
    _check_equal("frames of the encoder's output", _frames(network, forward_pass, tested), list(example.frames))
    for name, scores, targets in observed.losses:
        expected = wanted_targets(example, batch["text"])
        if targets.shape != expected.shape or bool((targets != expected).any()):
            raise Violation(f"{name} has the targets {targets.tolist()}, the texts are {expected.tolist()}")
        _check_equal(f"positions of the scores in {name}", list(scores.shape[:2]), list(expected.shape))
    for _, frames, tokens in observed.ctc:
        _check_equal("frame counts passed to CTC", frames, list(example.frames))
        _check_equal("token counts passed to CTC", tokens, list(example.tokens))
    for args, _ in observed.decoder:
        _check_equal("frame counts passed to the decoder", args[1].tolist(), observed.encoder[1].tolist())
        _check_equal("token counts passed to the decoder", args[3].tolist(), list(example.targets))
        _check_equal(
            "embeddings passed to the decoder", list(args[2].shape[:2]), [len(example.frames), max(example.targets)]
        )
    _weights_agree(example, observed)
    per_token = example.conf["length_normalized_loss"]
    _check_equal(
        "the batch's weight", forward_pass.weight, float(sum(example.targets) if per_token else len(example.frames))
    )


def _weights_agree(example: Example, observed: Any) -> None:
    """The predictor's weights sum to the number of tokens, and are zero after the utterance's end."""
    embeddings, counts, weights, _ = observed.predictor
    _check_equal("embeddings of the predictor", list(embeddings.shape[:2]), [len(example.frames), max(example.targets)])
    for row, (count, target_count) in enumerate(zip(counts.tolist(), example.targets, strict=True)):
        if not count > 0:
            raise Violation(f"the predictor counts {count} tokens in utterance {row}")
        check_equal(
            f"the weights of utterance {row} and its tokens", float(weights[row].detach().sum()), float(target_count)
        )
        if bool((weights[row, int(observed.encoder[1][row]) :] != 0).any()):
            raise Violation(f"the predictor gives weight to frames after the end of utterance {row}")


def _frames(network: Any, forward_pass: ForwardPass, tested: ModelUnderTest) -> list[int]:
    """Frames of each utterance in the encoder's output; with chunks those that the predictor counts."""
    hidden, lengths = forward_pass.seen.encoder[0], forward_pass.seen.encoder[1].tolist()
    if hidden.shape[1] != max(lengths):
        raise Violation(
            f"the encoder's output has {hidden.shape[1]} frames, the longest of its lengths is {max(lengths)}"
        )
    if not tested.is_chunked:
        return [int(length) for length in lengths]
    counted = network.encoder.overlap_chunk_cls.get_mask_chunk_predictor(None, batch_size=len(lengths))
    return [int(counted[row, : int(length), 0].sum()) for row, length in enumerate(lengths)]


def _predictor_fires(example: Example, _tested: ModelUnderTest) -> None:
    network, decided = build(example), False
    for batch in batches(example, _TRIES):
        decided |= _fires(example, forward(network, batch, example.seed).seen.predictor)
    if not decided:
        raise Undecided


def _fires(example: Example, output: Any) -> bool:
    """Whether no frame's weight exceeds one token, and if so whether the predictor fires for each token."""
    embeddings, _, weights, _ = output
    decided = False
    for row, target_count in enumerate(example.targets):
        # A frame fires once, so a frame of more weight than one token has no embedding for the second.
        if float(weights[row].detach().max()) > 1.0 - _MARGIN:
            continue
        decided = True
        has_embedding = (embeddings[row] != 0).any(1).tolist()
        has_embedding += [False] * (target_count - len(has_embedding))
        if has_embedding != [place < target_count for place in range(len(has_embedding))]:
            empty = [place for place in range(target_count) if not has_embedding[place]]
            total = float(weights[row].detach().double().sum())
            raise Violation(
                f"utterance {row} has {target_count} targets, its weights add up to {total:.9f},"
                f" and the embeddings at {empty or 'places after its end'} are {'empty' if empty else 'not'}"
            )
    return decided


def _every_token_sees_frames(example: Example, _tested: ModelUnderTest) -> None:
    network = build(example)
    for batch in batches(example, _TRIES):
        _sees_frames(example, forward(network, batch, example.seed))


def _sees_frames(example: Example, forward_pass: ForwardPass) -> None:
    weights = forward_pass.seen.predictor[2]
    for args, kwargs in forward_pass.seen.decoder:
        mask = args[4] if len(args) > 4 else kwargs.get("chunk_mask")
        if mask is None:
            raise Violation("the decoder receives no chunk mask")
        for row, target_count in enumerate(example.targets):
            if float(weights[row].detach().max()) > 1.0 - _MARGIN:
                raise Undecided
            blind = [token for token in range(target_count) if not bool((mask[row, token] != 0).any())]
            if blind:
                raise Violation(
                    f"tokens {blind} of the {target_count} of utterance {row} see no frame;"
                    f" it is {example.frames[row]} frames long, the longest {max(example.frames)}, and its weights add"
                    f" up to {float(weights[row].detach().double().sum()):.9f}"
                )


def _one_target(example: Example, _tested: ModelUnderTest) -> None:
    network = build(example)
    for batch in batches(example, _MANY_TRIES):
        forward_pass = forward(network, batch, example.seed)
        if not bool(forward_pass.loss.isfinite().all()):
            raise Violation(f"the loss is {forward_pass.value}")


def _check_equal(subject: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise Violation(f"{subject}: {actual}, expected {expected}")


LENGTHS_AGREE = Property(
    name="lengths_agree",
    spec=ExampleSpec(sampler=True, look_ahead=True),
    holds=_lengths_agree,
    about_the_predictor=True,
    applies=only_paraformer,
    at_own_dimensions=True,
    share=3,
)
PREDICTOR_FIRES = Property(
    name="predictor_fires_for_every_token",
    spec=ExampleSpec(look_ahead=True, ctc=0.0, shortest=6),
    holds=_predictor_fires,
    about_the_predictor=True,
    applies=only_with_predictor,
    share=2,
)
ONE_TARGET = Property(
    name="one_target_is_enough",
    spec=ExampleSpec(look_ahead=True, ctc=0.0, fewest_targets=1, rows=(2, 3), most_frames=4),
    holds=_one_target,
    about_the_predictor=True,
    applies=only_with_predictor,
)
EVERY_TOKEN_SEES = Property(
    name="every_token_sees_frames",
    spec=ExampleSpec(look_ahead=True, ctc=0.0, rows=(2, 3), shortest=6, one_long=True, decoder_looks_back=1),
    holds=_every_token_sees_frames,
    applies=only_chunked,
    share=2,
)
