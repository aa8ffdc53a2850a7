"""What may be reordered without changing anything: the batch, and the ids of the vocabulary."""

from __future__ import annotations

from typing import Any

from harness.worker.checks.properties.building import build, make_batch, select
from harness.worker.checks.properties.comparing import same, same_edges, same_gradients
from harness.worker.checks.properties.drawing import PADDING, SPECIAL, Example, Wish
from harness.worker.checks.properties.loss import criteria, scores_and_targets
from harness.worker.checks.properties.running import forward, gradients
from harness.worker.checks.properties.subject import Property, Subject, only_paraformer

_PARTS = ("loss_att", "loss_pre", "loss_ctc")


def _order_of_the_batch(example: Example, _subject: Subject) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    rows = list(range(len(example.frames)))
    order = rows[1:] + rows[:1] if example.options["turn"] else rows[::-1]
    here = forward(network, batch, example.seed)
    slopes = gradients(network, here.loss)
    there = forward(network, select(batch, order), example.seed)
    same_edges(here, there, [(row, order.index(row)) for row in rows], example.targets)
    for name in _PARTS:
        same(f"{name} of the batch and of the same batch in the order {order}", here.part(name), there.part(name))
    same(f"the loss of the batch and of the same batch in the order {order}", here.value, there.value)
    same_gradients("in another order", slopes, gradients(network, there.loss))


def _order_of_the_vocabulary(example: Example, _subject: Subject) -> None:
    import torch

    order = _permutation(example)
    place = torch.argsort(order)
    for criterion in criteria(example):
        scores, targets = scores_and_targets(example)
        scores = scores.detach()
        moved = torch.where(targets == PADDING, targets, place[targets.clamp(min=0)])
        one, other = float(criterion(scores, targets)), float(criterion(scores[:, :, order], moved))
        same("the loss with scores and targets permuted alike", one, other)
    network, batch = build(example, double=True), make_batch(example, double=True)
    here = forward(network, batch, example.seed)
    _permute(network, order)
    text = batch["text"]
    batch["text"] = torch.where(text == PADDING, text, place[text.clamp(min=0)])
    there = forward(network, batch, example.seed)
    same_edges(here, there, [(row, row) for row in range(len(example.frames))], example.targets)
    for name in _PARTS:
        same(f"{name} with the vocabulary permuted throughout", here.part(name), there.part(name))


def _permutation(example: Example) -> Any:
    """Another order of the ids, blank and the ends of a sentence apart: those the model knows by number."""
    import torch

    generator = torch.Generator().manual_seed(example.seed + 1)
    others = torch.randperm(example.vocab_size - SPECIAL, generator=generator) + SPECIAL
    return torch.cat([torch.arange(SPECIAL), others])


def _permute(network: Any, order: Any) -> None:
    """Put the rows of everything that is indexed by tokens in this order."""
    import torch

    from harness.worker.release import model

    with torch.no_grad():
        for _, layer in model.projections(network):
            layer.weight.copy_(layer.weight[order].clone())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[order].clone())
        for module in network.decoder.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.copy_(module.weight[order].clone())


BATCH_ORDER = Property(
    name="order_of_the_batch_does_not_matter",
    wish=Wish(look_ahead=True, rows=(2, 4), options={"turn": (False, True)}),
    holds=_order_of_the_batch,
    share=2,
)
VOCABULARY_ORDER = Property(
    name="order_of_the_vocabulary_does_not_matter",
    wish=Wish(sampler=True, look_ahead=True),
    holds=_order_of_the_vocabulary,
    applies=only_paraformer,
    share=2,
)
