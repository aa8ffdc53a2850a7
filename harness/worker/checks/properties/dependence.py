"""Properties of dependence: where gradients must and must not arrive, and what a streaming chunk may see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.worker.checks.properties.examples import MOST_FRAMES, Example, ExampleSpec
from harness.worker.checks.properties.forward_pass import (
    build,
    forward,
    gradients,
    in_precision_of,
    make_batch,
    require_same_last_tokens,
)
from harness.worker.checks.properties.property import (
    ModelUnderTest,
    Property,
    Undecided,
    Violation,
    check_equal_gradients,
    only_chunked,
)
from harness.worker.release import model


def _reach(example: Example, tested: ModelUnderTest) -> None:
    network = build(example)
    forward_pass = forward(network, make_batch(example), example.seed)
    _check(gradients(network, forward_pass.loss), tested, frozen=())


def _frozen(example: Example, tested: ModelUnderTest) -> None:
    batch = make_batch(example, double=True)
    unfrozen_network = build(example, double=True)
    before = forward(unfrozen_network, batch, example.seed)
    all_gradients = gradients(unfrozen_network, before.loss)
    frozen = tuple(name for name in example.options["frozen"].split("+") if name in tested.groups)
    network = build(example, double=True)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(model.group_of(name, tested.groups) not in frozen)
    after = forward(network, batch, example.seed)
    remaining_gradients = gradients(network, after.loss)
    _check(remaining_gradients, tested, frozen=frozen)
    # Torch convolves differently without gradients, which can change the last bit.
    require_same_last_tokens(before, after, [(row, row) for row in range(len(example.frames))], example.targets)
    expected_gradients = {
        name: slope for name, slope in all_gradients.items() if model.group_of(name, tested.groups) not in frozen
    }
    check_equal_gradients(f"with {' and '.join(frozen)} frozen", expected_gradients, remaining_gradients)


def _check(slopes: Mapping[str, Any], tested: ModelUnderTest, *, frozen: tuple[str, ...]) -> None:
    largest = dict.fromkeys(tested.groups, 0.0)
    for name, slope in slopes.items():
        if not bool(slope.isfinite().all()):
            raise Violation(f"the gradient of {name} is not finite")
        group = model.group_of(name, tested.groups)
        if group in frozen:
            raise Violation(f"{name} is frozen and has a gradient")
        if group in largest:
            largest[group] = max(largest[group], float(slope.abs().max()))
    for group, size in largest.items():
        if group not in frozen and size == 0.0:
            raise Violation(f"no gradient reaches the {group}")


GRADIENTS_REACH = Property(
    name="gradients_reach_every_part",
    spec=ExampleSpec(sampler=True, look_ahead=True, least_hidden=8),
    holds=_reach,
    at_own_dimensions=True,
    share=3,
)
FROZEN = Property(
    name="frozen_parts_stay_without_gradient",
    spec=ExampleSpec(
        look_ahead=True, least_hidden=8, options={"frozen": ("encoder", "decoder", "predictor", "encoder+predictor")}
    ),
    holds=_frozen,
)


_CLOSE = 1e-9
"""In double precision, for hidden states of about 1."""


def _encoder_sees_no_future(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    network, batch = build(example, double=True), make_batch(example, double=True)
    batch["speech"].requires_grad_()
    observed = forward(network, batch, example.seed).seen
    chunk, width = example.options["chunk"], _width(network)
    first_unseen = _last_seen(network, chunk) + 1
    if first_unseen >= max(example.frames):
        raise Undecided
    end = (chunk + 1) * width
    hidden, weights = observed.encoder[0][:, :end], _unscaled(observed)[:, :end]
    generator = torch.Generator().manual_seed(example.seed)
    mix = torch.randn(hidden.shape, generator=generator).double()
    (slope,) = torch.autograd.grad((hidden * mix).sum(), batch["speech"])
    if bool((slope[:, first_unseen:] != 0).any()):
        frame = int((slope != 0).any(2).any(0).nonzero().max())
        raise Violation(f"chunk {chunk} sees up to frame {first_unseen - 1}, and frame {frame} gets a gradient from it")
    later = batch["speech"].detach().clone()
    later[:, first_unseen:] += 10.0 * torch.randn(later[:, first_unseen:].shape, generator=generator)
    observed_later = forward(network, {**batch, "speech": later}, example.seed).seen
    difference = float((observed_later.encoder[0][:, :end] - hidden).detach().abs().max())
    if difference > _CLOSE:
        raise Violation(f"frames after {first_unseen - 1} move the states of chunk {chunk} by {difference:.3g}")
    difference = float((_unscaled(observed_later)[:, :end] - weights).detach().abs().max())
    if difference > _CLOSE:
        raise Violation(
            f"frames after {first_unseen - 1} move the predictor's weights of chunk {chunk} by {difference:.3g}"
        )


def _unscaled(observed: Any) -> Any:
    """The predictor's weights before they are scaled to the number of tokens, which needs the whole utterance."""
    _, counts, weights, _ = observed.predictor
    return weights * (counts / weights.sum(1))[:, None]


def _width(network: Any) -> int:
    """Frames of a chunk in the encoder's output: its own, and the gap before it that separates the memories."""
    return int(network.encoder.overlap_chunk_cls.chunk_size_pad_shift_cur)


def _last_seen(network: Any, chunk: int) -> int:
    """The last frame of a chunk, its look-ahead included."""
    chunks = network.encoder.overlap_chunk_cls
    return int(chunk * chunks.stride_cur - chunks.pad_left_cur + chunks.chunk_size_cur) - 1


def _decoder_sees_no_future(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    decoder_conf = example.config["decoder_conf"]
    if decoder_conf["sanm_shfit"] < (decoder_conf["kernel_size"] - 1) // 2:
        raise Undecided
    network = build(example, double=True)
    observed = forward(network, make_batch(example, double=True), example.seed).seen
    (states, *between, mask), others = observed.decoder[-1][0], observed.decoder[-1][1]
    lengths, embeddings, counts = between
    end = (example.options["chunk"] + 1) * _width(network)
    generator = torch.Generator().manual_seed(example.seed)
    with torch.no_grad(), in_precision_of(network):
        before = network.decoder(states, lengths, embeddings, counts, mask, **others)[0]
        later = states.clone()
        later[:, end:] += 10.0 * torch.randn(later[:, end:].shape, generator=generator)
        moved = network.decoder(later, lengths, embeddings, counts, mask, **others)[0]
    compared, chunk = 0, example.options["chunk"]
    for row, targets in enumerate(example.targets):
        early = [token for token, place in enumerate(_fires(observed.predictor[2][row], targets)) if place < end]
        compared += len(early)
        _unmoved(before[row, : len(early)], moved[row, : len(early)], f"frames of later chunks than {chunk}")
    if not compared:
        raise Undecided
    with torch.no_grad(), in_precision_of(network):
        embeddings = embeddings.clone()
        embeddings[:, 1:] += 10.0 * torch.randn(embeddings[:, 1:].shape, generator=generator)
        moved = network.decoder(states, lengths, embeddings, counts, mask, **others)[0]
    _unmoved(before[:, :1], moved[:, :1], "later tokens")


def _fires(weights: Any, targets: int) -> list[int]:
    """The frames at which the weights sum to each whole number; for the last number, the last frame with weight."""
    total = weights.detach().double().cumsum(0)
    places = [int((total < token + 1).sum()) for token in range(targets - 1)]
    return [*places, int((weights != 0).nonzero().max())]


def _unmoved(before: Any, after: Any, by: str) -> None:
    if before.numel() and (difference := float((after - before).abs().max())) > _CLOSE:
        raise Violation(f"{by} move the scores of earlier tokens by {difference:.3g}")


def _one_chunk_is_full_context(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    network, batch = build(example, double=True), make_batch(example, double=True)
    encoder, lengths = network.encoder, batch["speech_lengths"][:, 0]
    gap = encoder.overlap_chunk_cls.shfit_fsmn
    longest = max(example.frames)
    mix = torch.randn(len(lengths), longest, encoder.output_size(), generator=torch.Generator().manual_seed(0)).double()
    for row, frames in enumerate(example.frames):
        mix[row, frames:] = 0.0
    states = encoder(batch["speech"].clone(), lengths, ind=0)[0][:, gap : gap + longest]
    slopes = gradients(encoder, (states * mix).sum())
    encoder.overlap_chunk_cls = None
    full_context = encoder(batch["speech"].clone(), lengths, ind=0)[0]
    difference = float(((states - full_context) * mix).detach().abs().max())
    if difference > _CLOSE:
        raise Violation(f"one chunk that holds all {longest} frames is {difference:.3g} away from full context")
    check_equal_gradients("of one chunk and of full context", slopes, gradients(encoder, (full_context * mix).sum()))


ENCODER_CAUSAL = Property(
    name="chunks_see_no_future",
    spec=ExampleSpec(ctc=0.0, look_ahead=True, shortest=6, rows=(1, 2), options={"chunk": (0, 1, 2)}),
    holds=_encoder_sees_no_future,
    applies=only_chunked,
    share=2,
)
DECODER_CAUSAL = Property(
    name="tokens_see_no_future",
    spec=ExampleSpec(ctc=0.0, look_ahead=True, shortest=6, rows=(1, 2), options={"chunk": (0, 1, 2)}),
    holds=_decoder_sees_no_future,
    applies=only_chunked,
    share=2,
)
FULL_CONTEXT = Property(
    name="one_chunk_is_full_context",
    spec=ExampleSpec(ctc=0.0, look_ahead=True, chunk_frames=MOST_FRAMES, one_chunk=True),
    holds=_one_chunk_is_full_context,
    applies=only_chunked,
)
