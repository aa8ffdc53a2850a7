"""Properties of invariance: padding, batch composition, permutations, mode and seed do not change the loss."""

from __future__ import annotations

from typing import Any

from harness.worker.checks.properties.examples import PADDING, SPECIAL, Example, ExampleSpec
from harness.worker.checks.properties.forward_pass import (
    batches,
    build,
    fill_padding,
    forward,
    gradients,
    make_batch,
    require_same_last_tokens,
    select,
)
from harness.worker.checks.properties.loss import label_smoothing_losses, scores_and_targets
from harness.worker.checks.properties.property import (
    ModelUnderTest,
    Property,
    Violation,
    check_equal,
    check_equal_gradients,
    only_paraformer,
    only_with_predictor,
)

LOSS_PARTS = ("loss_att", "loss_pre", "loss_ctc")
"""Names of the statistics that Paraformer reports for the parts of its loss."""


def _padding_invariance(example: Example, _tested: ModelUnderTest) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    with_zeros = forward(network, batch, example.seed)
    slopes = gradients(network, with_zeros.loss)
    value = example.options["garbage"]
    with_garbage = forward(network, fill_padding(batch, value, example.seed), example.seed)
    require_same_last_tokens(
        with_zeros, with_garbage, [(row, row) for row in range(len(example.frames))], example.targets
    )
    check_equal(
        f"the loss with zeros and with about {value} in the padded frames", with_zeros.value, with_garbage.value
    )
    check_equal_gradients("with other values in the padded frames", slopes, gradients(network, with_garbage.loss))


def _batch_invariance(example: Example, _tested: ModelUnderTest) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    rows = range(len(example.frames))
    together = forward(network, batch, example.seed)
    alone = [forward(network, select(batch, [row]), example.seed) for row in rows]
    for row in rows:
        require_same_last_tokens(alone[row], together, [(0, row)], [example.targets[row]])
    by_token = example.conf["length_normalized_loss"]
    sizes = {
        "loss_att": example.targets if by_token else [1] * len(rows),
        "loss_pre": example.targets if by_token else [1] * len(rows),
        "loss_ctc": [1] * len(rows),
    }
    for name, weights in sizes.items():
        parts = [forward_pass.part(name) for forward_pass in alone]
        known = [part * weight for part, weight in zip(parts, weights, strict=True) if part is not None]
        mean = sum(known) / sum(weights) if known else None
        check_equal(f"{name} of a batch and the mean of its utterances' one by one", together.part(name), mean)


def _predictor_batch_invariance(example: Example, _tested: ModelUnderTest) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    together = forward(network, batch, example.seed).seen.predictor[1]
    for row, frames in enumerate(example.frames):
        alone = forward(network, select(batch, [row]), example.seed).seen.predictor[1]
        check_equal(
            f"tokens predicted for an utterance of {frames} frames alone, and batched with {max(example.frames)}",
            float(alone[0].detach()),
            float(together[row].detach()),
        )


PADDING_INVARIANCE = Property(
    name="padded_frames_do_not_matter",
    spec=ExampleSpec(rows=(2, 4), options={"garbage": (1.0, -3.0, 100.0)}),
    holds=_padding_invariance,
    share=2,
)
BATCH_INVARIANCE = Property(
    name="utterances_do_not_touch_each_other",
    spec=ExampleSpec(rows=(2, 3)),
    holds=_batch_invariance,
    applies=only_paraformer,
    share=2,
)
PREDICTOR_BATCH_INVARIANCE = Property(
    name="predictor_ends_where_the_utterance_ends",
    spec=ExampleSpec(rows=(2, 3), look_ahead=True, ctc=0.0),
    holds=_predictor_batch_invariance,
    applies=only_with_predictor,
)


def _batch_permutation(example: Example, _tested: ModelUnderTest) -> None:
    network, batch = build(example, double=True), make_batch(example, double=True)
    rows = list(range(len(example.frames)))
    order = rows[1:] + rows[:1] if example.options["turn"] else rows[::-1]
    original = forward(network, batch, example.seed)
    slopes = gradients(network, original.loss)
    reordered = forward(network, select(batch, order), example.seed)
    require_same_last_tokens(original, reordered, [(row, order.index(row)) for row in rows], example.targets)
    for name in LOSS_PARTS:
        check_equal(
            f"{name} of the batch and of the same batch in the order {order}", original.part(name), reordered.part(name)
        )
    check_equal(f"the loss of the batch and of the same batch in the order {order}", original.value, reordered.value)
    check_equal_gradients("in another order", slopes, gradients(network, reordered.loss))


def _vocabulary_permutation(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    order = _permutation(example)
    place = torch.argsort(order)
    for criterion in label_smoothing_losses(example):
        scores, targets = scores_and_targets(example)
        scores = scores.detach()
        moved = torch.where(targets == PADDING, targets, place[targets.clamp(min=0)])
        original_loss, permuted_loss = float(criterion(scores, targets)), float(criterion(scores[:, :, order], moved))
        check_equal("the loss with scores and targets permuted alike", original_loss, permuted_loss)
    network, batch = build(example, double=True), make_batch(example, double=True)
    original = forward(network, batch, example.seed)
    _permute(network, order)
    text = batch["text"]
    batch["text"] = torch.where(text == PADDING, text, place[text.clamp(min=0)])
    permuted = forward(network, batch, example.seed)
    require_same_last_tokens(original, permuted, [(row, row) for row in range(len(example.frames))], example.targets)
    for name in LOSS_PARTS:
        check_equal(f"{name} with the vocabulary permuted throughout", original.part(name), permuted.part(name))


def _permutation(example: Example) -> Any:
    """A permutation of the ids without blank, start and end of sentence: the model knows those by number."""
    import torch

    generator = torch.Generator().manual_seed(example.seed + 1)
    others = torch.randperm(example.vocab_size - SPECIAL, generator=generator) + SPECIAL
    return torch.cat([torch.arange(SPECIAL), others])


def _permute(network: Any, order: Any) -> None:
    """Permute the rows of all weights that are indexed by tokens."""
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


BATCH_PERMUTATION = Property(
    name="order_of_the_batch_does_not_matter",
    spec=ExampleSpec(look_ahead=True, rows=(2, 4), options={"turn": (False, True)}),
    holds=_batch_permutation,
    share=2,
)
VOCABULARY_PERMUTATION = Property(
    name="order_of_the_vocabulary_does_not_matter",
    spec=ExampleSpec(sampler=True, look_ahead=True),
    holds=_vocabulary_permutation,
    applies=only_paraformer,
    share=2,
)


def _same_seed(example: Example, _tested: ModelUnderTest) -> None:
    first, second = build(example), build(example)
    for (name, first_tensor), (second_name, second_tensor) in zip(
        first.state_dict().items(), second.state_dict().items(), strict=True
    ):
        if (
            name != second_name
            or first_tensor.shape != second_tensor.shape
            or not bool((first_tensor == second_tensor).all())
        ):
            raise Violation(f"{name} differs in a model that was built from the same seed")
    batch = make_batch(example)
    first_pass, second_pass = forward(first, batch, example.seed), forward(second, batch, example.seed)
    if first_pass.value != second_pass.value:
        raise Violation(f"two models of one seed have the losses {first_pass.value:.9g} and {second_pass.value:.9g}")
    check_equal_gradients(
        "of two models of one seed", gradients(first, first_pass.loss), gradients(second, second_pass.loss)
    )


def _evaluation_as_training(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    network = build(example, double=True)
    for batch in batches(example, 5, double=True):
        with torch.no_grad():
            training = forward(network.train(), batch, example.seed)
            evaluation = forward(network.eval(), batch, example.seed)
        for name in LOSS_PARTS:
            check_equal(f"{name} in training and in evaluation", training.part(name), evaluation.part(name))


def _evaluation_draws_nothing(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    network, batch = build(example, double=True).eval(), make_batch(example, double=True)
    with torch.no_grad():
        first, second = (forward(network, batch, seed) for seed in (1, 2))
    for name in LOSS_PARTS:
        check_equal(f"{name} of one batch in evaluation, twice", first.part(name), second.part(name))


SAME_SEED = Property(
    name="one_seed_gives_one_model",
    spec=ExampleSpec(sampler=True, look_ahead=True),
    holds=_same_seed,
)
EVALUATION_AS_TRAINING = Property(
    name="evaluation_gives_the_loss_of_training",
    spec=ExampleSpec(look_ahead=True, one_chunk=True, rows=(2, 4)),
    holds=_evaluation_as_training,
    share=2,
)
EVALUATION_DRAWS_NOTHING = Property(
    name="evaluation_draws_nothing",
    spec=ExampleSpec(look_ahead=True, dropout=0.3, ctc=0.0),
    holds=_evaluation_draws_nothing,
)
CTC_DRAWS_NOTHING = Property(
    name="ctc_in_evaluation_draws_nothing",
    spec=ExampleSpec(look_ahead=True, dropout=0.3, ctc=0.3),
    holds=_evaluation_draws_nothing,
)
