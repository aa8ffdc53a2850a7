"""The model and batch of an example, and one observed forward pass of a training step."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.worker.checks.properties.examples import PADDING, Example
from harness.worker.checks.properties.property import TooFewEmbeddings, Undecided, Violation
from harness.worker.release import model

INPUTS = ("speech", "speech_lengths", "text", "text_lengths")


def build(example: Example, *, double: bool = False) -> Any:
    """The model in training mode, from the class and arguments that `AutoModel` would use.

    In double precision, two computations that are equal on paper differ by less than any fault changes.
    """
    from funasr.register import tables

    config = copy.deepcopy(dict(example.config))
    conf = config.pop("model_conf")
    model.seed_everything(example.seed)
    network = tables.model_classes[config.pop("model")](**config, **conf)
    return network.double().train() if double else network.train()


def make_batch(example: Example, *, double: bool = False) -> dict[str, Any]:
    """A batch in the form of FunASR's collator: zeros after the features, -1 after token ids, lengths `[batch, 1]`.

    No text contains blank; the other special ids, start and end of sentence, may occur.
    """
    import torch

    generator = torch.Generator().manual_seed(example.seed)
    rows, longest = len(example.frames), max(example.frames)
    speech = torch.randn(rows, longest, example.config["input_size"], generator=generator)
    text = torch.randint(1, example.vocab_size, (rows, max(example.tokens)), generator=generator)
    for row, (frames, tokens) in enumerate(zip(example.frames, example.tokens, strict=True)):
        speech[row, frames:] = 0.0
        text[row, tokens:] = PADDING
    # A loss with one class too few fails on the last id of the vocabulary.
    text[0, 0] = example.vocab_size - 1
    return {
        "speech": speech.double() if double else speech,
        "speech_lengths": torch.tensor(example.frames, dtype=torch.int32).unsqueeze(1),
        "text": text,
        "text_lengths": torch.tensor(example.tokens, dtype=torch.int32).unsqueeze(1),
    }


def batches(example: Example, count: int, *, double: bool = False) -> Iterator[dict[str, Any]]:
    """Several batches of the example's lengths, for properties that depend on the rounding of feature sums."""
    for number in range(count):
        yield make_batch(replace(example, seed=example.seed + number), double=double)


def select(batch: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """These utterances alone, in this order, padded as the collator would pad them."""
    chosen = {name: tensor[list(rows)] for name, tensor in batch.items()}
    chosen["speech"] = chosen["speech"][:, : int(chosen["speech_lengths"].max())]
    chosen["text"] = chosen["text"][:, : int(chosen["text_lengths"].max())]
    return chosen


def fill_padding(batch: Mapping[str, Any], value: float, seed: int) -> dict[str, Any]:
    """The same batch with other values than zeros in the frames after each utterance's end."""
    import torch

    filled = dict(batch)
    speech = batch["speech"].clone()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(speech.shape, generator=generator).to(speech.dtype)
    for row, frames in enumerate(batch["speech_lengths"][:, 0].tolist()):
        speech[row, frames:] = value * (1.0 + noise[row, frames:])
    filled["speech"] = speech
    return filled


@dataclass
class ForwardObservations:
    """The inputs and outputs of the model's parts in one forward pass."""

    losses: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Classification losses: name, scores `[batch, tokens, classes]`, targets `[batch, tokens]`."""
    scores: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """The outputs of each projection to the vocabulary."""
    ctc: list[tuple[int, list[int], list[int]]] = field(default_factory=list)
    """CTC losses: width of the input, lengths of input and target."""
    encoder: Any = None
    """Hidden states and their lengths."""
    predictor: Any = None
    """The predictor's output: embeddings `[batch, tokens, hidden]`, token counts, weights `[batch, frames]`, fires."""
    decoder: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    """The arguments of each call of the decoder: hidden states, lengths, embeddings, lengths, chunk mask."""


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """The result of one forward pass."""

    loss: Any
    """A tensor of one element."""
    stats: Mapping[str, Any]
    weight: float
    seen: ForwardObservations

    @property
    def value(self) -> float:
        """The loss as a number."""
        return float(self.loss.detach().sum())

    def part(self, name: str) -> float | None:
        """One of the statistics as a number; None if it is missing."""
        value = self.stats.get(name)
        return None if value is None else float(value.detach().sum() if hasattr(value, "detach") else value)


def forward(network: Any, batch: Mapping[str, Any], seed: int) -> ForwardPass:
    """One forward pass with this seed, on a copy of the batch: FunASR's streaming encoder scales it in place."""
    model.seed_everything(seed)
    with in_precision_of(network), _observed(network) as observations:
        try:
            loss, stats, weight = network(**{name: tensor.clone() for name, tensor in batch.items()})
        except RuntimeError as error:
            if observations.decoder and (short := _too_few(observations.decoder[-1][0])):
                raise TooFewEmbeddings(f"{short}: {' '.join(str(error).split())[:300]}") from error
            raise
    return ForwardPass(loss=loss, stats=stats, weight=float(weight), seen=observations)


@contextlib.contextmanager
def in_precision_of(network: Any) -> Iterator[None]:
    """Make torch create new tensors in the precision of the network: `cif` creates zeros without a dtype."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(next(network.parameters()).dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def gradients(network: Any, loss: Any) -> dict[str, Any]:
    """The gradient of each parameter that has one.

    Raises:
        Violation: the backward pass raises.
    """
    network.zero_grad(set_to_none=True)
    try:
        loss.sum().backward()
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise
        raise Violation(f"the backward pass raises: {' '.join(str(error).split())[:300]}") from None
    return {
        name: parameter.grad.detach().clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def _too_few(args: tuple[Any, ...]) -> str:
    """A message if the decoder received fewer embeddings than tokens; else empty."""
    embeddings, tokens = args[2].shape[1], int(args[3].max())
    return f"the decoder receives {embeddings} embeddings for {tokens} tokens" if embeddings < tokens else ""


@contextlib.contextmanager
def _observed(network: Any) -> Iterator[ForwardObservations]:
    import torch

    observations, handles = ForwardObservations(), []

    def into_loss(name: str) -> Any:
        def hook(_module: Any, args: tuple[Any, ...]) -> None:
            observations.losses.append((name, args[0], args[1]))

        return hook

    def out_of(name: str) -> Any:
        return lambda _module, _args, output: observations.scores[name].append(output)

    def into_ctc(_module: Any, args: tuple[Any, ...]) -> None:
        observations.ctc.append((args[0].shape[-1], _numbers(args[2]), _numbers(args[3])))

    def out_of_encoder(_module: Any, _args: Any, output: Any) -> None:
        observations.encoder = output

    def out_of_predictor(_module: Any, _args: Any, output: Any) -> None:
        # CifPredictorV3 adds the token counts of its time stamps.
        observations.predictor = output[:4]

    for name, module in model.losses(network):
        handles.append(module.register_forward_pre_hook(into_loss(name)))
    for name, layer in model.projections(network):
        handles.append(layer.register_forward_hook(out_of(name)))
    ctc = [module for module in network.modules() if isinstance(module, torch.nn.CTCLoss)]
    handles.extend(module.register_forward_pre_hook(into_ctc) for module in ctc)
    for name, hook in (("encoder", out_of_encoder), ("predictor", out_of_predictor)):
        if isinstance(getattr(network, name, None), torch.nn.Module):
            handles.append(getattr(network, name).register_forward_hook(hook))
    if isinstance(getattr(network, "decoder", None), torch.nn.Module):
        handles.append(
            network.decoder.register_forward_pre_hook(
                lambda _module, args, kwargs: observations.decoder.append((args, kwargs)), with_kwargs=True
            )
        )
    try:
        yield observations
    finally:
        for handle in handles:
            handle.remove()


def _numbers(lengths: Any) -> list[int]:
    return [int(length) for length in lengths]


def require_same_last_tokens(
    first: ForwardPass, second: ForwardPass, pairs: Sequence[tuple[int, int]], targets: Sequence[int]
) -> None:
    """Discard an example in which rounding decides about an utterance's last token differently in two passes.

    The weights of an utterance sum to the number of its tokens, and the last token exists if the sum reaches that
    number. That depends on the last bit. `predictor_fires` and `every_token_sees_frames` cover it; elsewhere it would
    look like another fault.

    Args:
        pairs: The index of each utterance in both passes.
        targets: Tokens of each utterance of the first pass.

    Raises:
        Undecided: the last token of an utterance exists, or sees frames, in only one of the passes.
    """
    for row_in_first, row_in_second in pairs:
        last = targets[row_in_first] - 1
        if _last_token_state(first, row_in_first, last) != _last_token_state(second, row_in_second, last):
            raise Undecided


def _last_token_state(forward_pass: ForwardPass, row: int, last: int) -> tuple[bool, ...]:
    state: list[bool] = []
    if forward_pass.seen.predictor is not None:
        embeddings = forward_pass.seen.predictor[0]
        if last >= embeddings.shape[1]:
            raise Undecided
        state.append(bool((embeddings[row, last] != 0).any()))
    for args, kwargs in forward_pass.seen.decoder:
        mask = args[4] if len(args) > 4 else kwargs.get("chunk_mask")
        if mask is not None:
            state.extend((mask[row, last] != 0).tolist() if last < mask.shape[1] else [False])
    # Masks of batches with other lengths end in zeros.
    while state and not state[-1]:
        state.pop()
    return tuple(state)
