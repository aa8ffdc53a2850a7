"""One forward pass of a training step, and all that can be seen of it through hooks."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.worker.release import model


class Violation(AssertionError):
    """A property does not hold for an example; the message has the figures."""


class Undecided(Exception):
    """Rounding alone decides what this example gives, so it says nothing."""


class TooFewEmbeddings(Undecided):
    """The predictor's embeddings were fewer than the tokens, and what came after it could not go on.

    Only for the properties that are about the predictor is that a violation: the others would all tell of it.
    """


@dataclass
class ForwardObservations:
    """What passed through the model's parts in one forward pass."""

    losses: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Classification losses: name, scores `[batch, tokens, classes]`, targets `[batch, tokens]`."""
    scores: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """What each projection to the vocabulary put out."""
    ctc: list[tuple[int, list[int], list[int]]] = field(default_factory=list)
    """CTC: the width of what entered, the lengths of input and target."""
    encoder: Any = None
    """Hidden states and their lengths."""
    predictor: Any = None
    """The predictor's output: embeddings `[batch, tokens, hidden]`, token counts, weights `[batch, frames]`, fires."""
    decoder: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    """The arguments of each call of the decoder: hidden states, lengths, embeddings, lengths, chunk mask."""


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """What one forward pass gave."""

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
        """One of the statistics as a number; None where there is none."""
        value = self.stats.get(name)
        return None if value is None else float(value.detach().sum() if hasattr(value, "detach") else value)


def forward(network: Any, batch: Mapping[str, Any], seed: int) -> ForwardPass:
    """One forward pass under this seed; the batch stays as it is (FunASR's streaming encoder scales it in place)."""
    model.seed_everything(seed)
    with in_precision_of(network), _watching(network) as seen:
        try:
            loss, stats, weight = network(**{name: tensor.clone() for name, tensor in batch.items()})
        except RuntimeError as error:
            if seen.decoder and (short := _too_few(seen.decoder[-1][0])):
                raise TooFewEmbeddings(f"{short}: {' '.join(str(error).split())[:300]}") from error
            raise
    return ForwardPass(loss=loss, stats=stats, weight=float(weight), seen=seen)


@contextlib.contextmanager
def in_precision_of(network: Any) -> Iterator[None]:
    """Have torch make new tensors in the precision of the network's parameters: `cif` asks for zeros of no type."""
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
        Violation: autograd cannot go back over what the release's forward recorded.
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
    """Whether the decoder was given fewer embeddings than tokens, in words."""
    given, told = args[2].shape[1], int(args[3].max())
    return f"the decoder is given {given} embeddings for {told} tokens" if given < told else ""


@contextlib.contextmanager
def _watching(network: Any) -> Iterator[ForwardObservations]:
    import torch

    seen, handles = ForwardObservations(), []

    def into_loss(name: str) -> Any:
        def hook(_module: Any, args: tuple[Any, ...]) -> None:
            seen.losses.append((name, args[0], args[1]))

        return hook

    def out_of(name: str) -> Any:
        return lambda _module, _args, output: seen.scores[name].append(output)

    def into_ctc(_module: Any, args: tuple[Any, ...]) -> None:
        seen.ctc.append((args[0].shape[-1], _numbers(args[2]), _numbers(args[3])))

    def out_of_encoder(_module: Any, _args: Any, output: Any) -> None:
        seen.encoder = output

    def out_of_predictor(_module: Any, _args: Any, output: Any) -> None:
        seen.predictor = output

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
                lambda _module, args, kwargs: seen.decoder.append((args, kwargs)), with_kwargs=True
            )
        )
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _numbers(lengths: Any) -> list[int]:
    return [int(length) for length in lengths]
