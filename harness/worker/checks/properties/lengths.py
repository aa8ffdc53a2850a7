"""Targets, predictor and masks agree on how many tokens and frames there are."""

from __future__ import annotations

from typing import Any

from harness.worker.checks.properties.building import batches, build, make_batch
from harness.worker.checks.properties.comparing import same
from harness.worker.checks.properties.drawing import PADDING, Example, Wish
from harness.worker.checks.properties.running import ForwardPass, Undecided, Violation, forward
from harness.worker.checks.properties.subject import (
    Property,
    Subject,
    only_chunked,
    only_paraformer,
    only_with_predictor,
)

_EOS = 2
"""`eos` of `Paraformer.__init__`, unless the config says otherwise."""
_TRIES, _MANY_TRIES = 8, 24
"""Batches of an example where rounding decides."""
_ROOM = 1e-3
"""How far below 1 the weights of the frames must stay for the predictor to fire once for each token."""


def wanted_targets(example: Example, text: Any) -> Any:
    """Token ids `[batch, tokens]` that the attention loss is about: the text, and the end of sentence with a bias."""
    import torch

    wanted = torch.full((len(example.targets), max(example.targets)), PADDING)
    for row, (tokens, targets) in enumerate(zip(example.tokens, example.targets, strict=True)):
        wanted[row, :tokens] = text[row, :tokens]
        if targets > tokens:
            wanted[row, tokens] = example.conf.get("eos", _EOS)
    return wanted


def _lengths_agree(example: Example, subject: Subject) -> None:
    network, batch = build(example), make_batch(example)
    done = forward(network, batch, example.seed)
    seen = done.seen
    _hold("frames of the encoder's output", _frames(network, done, subject), list(example.frames))
    for name, scores, targets in seen.losses:
        wanted = wanted_targets(example, batch["text"])
        if targets.shape != wanted.shape or bool((targets != wanted).any()):
            raise Violation(f"{name} is asked for {targets.tolist()}, the texts are {wanted.tolist()}")
        _hold(f"positions of the scores in {name}", list(scores.shape[:2]), list(wanted.shape))
    for _, frames, tokens in seen.ctc:
        _hold("frames that CTC is told of", frames, list(example.frames))
        _hold("tokens that CTC is told of", tokens, list(example.tokens))
    for args, _ in seen.decoder:
        _hold("frames that the decoder is told of", args[1].tolist(), seen.encoder[1].tolist())
        _hold("tokens that the decoder is told of", args[3].tolist(), list(example.targets))
        _hold(
            "embeddings that the decoder is given", list(args[2].shape[:2]), [len(example.frames), max(example.targets)]
        )
    _weights_agree(example, seen)
    per_token = example.conf["length_normalized_loss"]
    _hold("the batch's weight", done.weight, float(sum(example.targets) if per_token else len(example.frames)))


def _weights_agree(example: Example, seen: Any) -> None:
    """The predictor's weights: as much as there are tokens, over the utterance's frames and nothing after them."""
    embeddings, counts, weights, _ = seen.predictor
    _hold("embeddings of the predictor", list(embeddings.shape[:2]), [len(example.frames), max(example.targets)])
    for row, (count, wanted) in enumerate(zip(counts.tolist(), example.targets, strict=True)):
        if not count > 0:
            raise Violation(f"the predictor counts {count} tokens in utterance {row}")
        same(f"the weights of utterance {row} and its tokens", float(weights[row].detach().sum()), float(wanted))
        if bool((weights[row, int(seen.encoder[1][row]) :] != 0).any()):
            raise Violation(f"the predictor gives weight to frames after the end of utterance {row}")


def _frames(network: Any, done: ForwardPass, subject: Subject) -> list[int]:
    """Frames of each utterance in the encoder's output; in chunks those that the predictor counts, overlaps apart."""
    hidden, lengths = done.seen.encoder[0], done.seen.encoder[1].tolist()
    if hidden.shape[1] != max(lengths):
        raise Violation(
            f"the encoder's output has {hidden.shape[1]} frames, the longest of its lengths is {max(lengths)}"
        )
    if not subject.is_chunked:
        return [int(length) for length in lengths]
    counted = network.encoder.overlap_chunk_cls.get_mask_chunk_predictor(None, batch_size=len(lengths))
    return [int(counted[row, : int(length), 0].sum()) for row, length in enumerate(lengths)]


def _predictor_fires(example: Example, _subject: Subject) -> None:
    network, decided = build(example), False
    for batch in batches(example, _TRIES):
        decided |= _fires(example, forward(network, batch, example.seed).seen.predictor)
    if not decided:
        raise Undecided


def _fires(example: Example, output: Any) -> bool:
    """Whether an utterance has frames enough that each may fire once, and then does for each token."""
    embeddings, _, weights, _ = output
    decided = False
    for row, wanted in enumerate(example.targets):
        # A frame fires once, so a frame that is worth more than a token has no embedding to give for the second.
        if float(weights[row].detach().max()) > 1.0 - _ROOM:
            continue
        decided = True
        found = (embeddings[row] != 0).any(1).tolist()
        found += [False] * (wanted - len(found))
        if found != [place < wanted for place in range(len(found))]:
            empty = [place for place in range(wanted) if not found[place]]
            total = float(weights[row].detach().double().sum())
            raise Violation(
                f"utterance {row} has {wanted} targets, its weights add up to {total:.9f},"
                f" and the embeddings at {empty or 'places after its end'} are {'empty' if empty else 'not'}"
            )
    return decided


def _every_token_sees_frames(example: Example, _subject: Subject) -> None:
    network = build(example)
    for batch in batches(example, _TRIES):
        _sees_frames(example, forward(network, batch, example.seed))


def _sees_frames(example: Example, done: ForwardPass) -> None:
    weights = done.seen.predictor[2]
    for args, kwargs in done.seen.decoder:
        mask = args[4] if len(args) > 4 else kwargs.get("chunk_mask")
        if mask is None:
            raise Violation("the decoder is given no chunk mask")
        for row, wanted in enumerate(example.targets):
            if float(weights[row].detach().max()) > 1.0 - _ROOM:
                raise Undecided
            blind = [token for token in range(wanted) if not bool((mask[row, token] != 0).any())]
            if blind:
                raise Violation(
                    f"tokens {blind} of the {wanted} of utterance {row} see no frame;"
                    f" it is {example.frames[row]} frames long, the longest {max(example.frames)}, and its weights add"
                    f" up to {float(weights[row].detach().double().sum()):.9f}"
                )


def _one_target(example: Example, _subject: Subject) -> None:
    network = build(example)
    for batch in batches(example, _MANY_TRIES):
        done = forward(network, batch, example.seed)
        if not bool(done.loss.isfinite().all()):
            raise Violation(f"the loss is {done.value}")


def _hold(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Violation(f"{what}: {found}, expected {wanted}")


LENGTHS_AGREE = Property(
    name="lengths_agree",
    wish=Wish(sampler=True, look_ahead=True),
    holds=_lengths_agree,
    about_the_predictor=True,
    applies=only_paraformer,
    at_own_shape=True,
    share=3,
)
PREDICTOR_FIRES = Property(
    name="predictor_fires_for_every_token",
    wish=Wish(look_ahead=True, ctc=0.0, shortest=6),
    holds=_predictor_fires,
    about_the_predictor=True,
    applies=only_with_predictor,
    share=2,
)
ONE_TARGET = Property(
    name="one_target_is_enough",
    wish=Wish(look_ahead=True, ctc=0.0, fewest_targets=1, rows=(2, 3), most_frames=4),
    holds=_one_target,
    about_the_predictor=True,
    applies=only_with_predictor,
)
EVERY_TOKEN_SEES = Property(
    name="every_token_sees_frames",
    wish=Wish(look_ahead=True, ctc=0.0, rows=(2, 3), shortest=6, one_long=True, decoder_looks_back=1),
    holds=_every_token_sees_frames,
    applies=only_chunked,
    share=2,
)
