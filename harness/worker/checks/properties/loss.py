"""Properties of the losses: their classes, their definition, and the weighted sum of the parts."""

from __future__ import annotations

import math
from typing import Any

from harness.worker.checks.properties.examples import PADDING, Example, ExampleSpec
from harness.worker.checks.properties.forward_pass import build, forward, make_batch
from harness.worker.checks.properties.property import (
    ModelUnderTest,
    Property,
    Violation,
    check_equal,
    every_variant,
    only_paraformer,
)
from harness.worker.release import model

ROUNDING = 64 * 2.0**-23
"""Single precision keeps 2**-23; a term of the loss results from about a dozen operations (exponentials, a sum over the
classes, a logarithm, a product). The bound is relative to the sum of the terms' magnitudes."""


def definition(scores: Any, targets: Any, *, smoothing: float, by_token: bool) -> tuple[Any, float]:
    """The label-smoothing loss by its definition, in double precision.

    The target distribution q gives 1 - ε to the target and ε / (K - 1) to each other class (FunASR's, after ESPnet's
    `LabelSmoothingLoss`). The loss is the Kullback-Leibler divergence Σ q (log q - log p), 0 log 0 = 0, summed over the
    positions without padding, divided by their number or by the batch size.

    Args:
        scores: `[batch, tokens, classes]`.
        targets: `[batch, tokens]`, padded with -1.

    Returns:
        The loss, differentiable with respect to `scores`; and the magnitude of its terms, which rounding is relative
            to.
    """
    import torch

    classes = scores.shape[-1]
    is_token = targets != PADDING
    distribution = torch.full(scores.shape, smoothing / (classes - 1), dtype=torch.float64)
    distribution.scatter_(2, targets.masked_fill(~is_token, 0).unsqueeze(2), 1.0 - smoothing)
    log_p = torch.log_softmax(scores.double(), dim=2)
    terms = torch.xlogy(distribution, distribution) - distribution * log_p
    denominator = int(is_token.sum()) if by_token else scores.shape[0]
    loss = (terms.sum(2) * is_token).sum() / denominator
    largest = scores.detach().abs().max().double()
    sizes = (distribution * (log_p.detach().abs() + largest)).sum(2) + torch.xlogy(
        distribution, distribution
    ).abs().sum(2)
    return loss, float((sizes * is_token).sum() / denominator)


def by_cross_entropy(scores: Any, targets: Any, *, smoothing: float, by_token: bool) -> Any:
    """The same loss from torch's `cross_entropy`, whose smoothing includes the target among all classes.

    Torch's ε' gives the target 1 - ε' + ε'/K and each other class ε'/K; with ε' = ε K / (K - 1) that is the same
    distribution. Torch's cross-entropy is the divergence plus the distribution's entropy; the entropy does not depend
    on the scores.
    """
    import torch

    classes = scores.shape[-1]
    summed = torch.nn.functional.cross_entropy(
        scores.double().transpose(1, 2),
        targets,
        ignore_index=PADDING,
        label_smoothing=smoothing * classes / (classes - 1),
        reduction="sum",
    )
    count = int((targets != PADDING).sum())
    entropy = 0.0
    for share, times in ((1.0 - smoothing, 1), (smoothing / (classes - 1), classes - 1)):
        entropy -= times * share * math.log(share) if share > 0 else 0.0
    return (summed - count * entropy) / (count if by_token else scores.shape[0])


def scores_and_targets(example: Example) -> tuple[Any, Any]:
    """Scores `[batch, tokens, classes]` that require a gradient, and targets `[batch, tokens]`."""
    import torch

    generator = torch.Generator().manual_seed(example.seed)
    shape = (len(example.targets), max(example.targets))
    scores = torch.randn(*shape, example.vocab_size, generator=generator) * example.options.get("spread", 1)
    targets = torch.randint(0, example.vocab_size, shape, generator=generator)
    for row, count in enumerate(example.targets):
        targets[row, count:] = PADDING
    targets[0, 0] = example.vocab_size - 1
    return scores.requires_grad_(), targets


def label_smoothing_losses(example: Example) -> list[Any]:
    """The label-smoothing losses of the example's model, built as the model builds them."""
    losses = [module for _, module in model.losses(build(example)) if type(module).__name__ == "LabelSmoothingLoss"]
    if not losses:
        raise Violation("the model has no label-smoothing loss")
    return losses


def _loss_is_its_definition(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    conf = example.conf
    settings = {"smoothing": conf["lsm_weight"], "by_token": conf["length_normalized_loss"]}
    for criterion in label_smoothing_losses(example):
        scores, targets = scores_and_targets(example)
        loss_tensor = criterion(scores, targets)
        (slope,) = torch.autograd.grad(loss_tensor, scores)
        expected_loss, size = definition(scores, targets, **settings)
        (wanted_slope,) = torch.autograd.grad(expected_loss, scores)
        loss, torchs = float(loss_tensor.detach()), float(by_cross_entropy(scores.detach(), targets, **settings))
        for name, value in (("its definition", float(expected_loss.detach())), ("torch's cross_entropy", torchs)):
            if not abs(loss - value) <= ROUNDING * size:
                raise Violation(f"the label-smoothing loss is {loss:.9g}, {name} gives {value:.9g}")
        # Each entry of the gradient is a difference of two probabilities, divided as the loss is.
        denominator = sum(example.targets) if settings["by_token"] else len(example.targets)
        difference = float((slope.double() - wanted_slope).abs().max())
        if not difference <= ROUNDING * (1.0 + float(scores.detach().abs().max())) / denominator:
            raise Violation(f"the label-smoothing loss's gradient is {difference:.3g} away from its definition's")


def _padding_is_left_out_of_the_loss(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    for criterion in label_smoothing_losses(example):
        scores, targets = scores_and_targets(example)
        loss = criterion(scores, targets)
        (slope,) = torch.autograd.grad(loss, scores)
        padding = targets == PADDING
        if bool((slope[padding] != 0).any()):
            raise Violation(f"padding has a gradient of up to {float(slope[padding].abs().max()):.3g}")
        other = scores.detach().clone()
        other[padding] = example.options["garbage"]
        more = torch.nn.functional.pad(other, (0, 0, 0, 2), value=example.options["garbage"]).requires_grad_()
        longer = criterion(more, torch.nn.functional.pad(targets, (0, 2), value=PADDING))
        check_equal("the loss with other scores and more padding", float(loss.detach()), float(longer.detach()))
        (longer_slope,) = torch.autograd.grad(longer, more)
        length = targets.shape[1]
        difference = float((longer_slope[:, :length] - slope).abs().max())
        if difference > ROUNDING * (1.0 + float(scores.detach().abs().max())):
            raise Violation(f"other scores in the padding move the gradient of the rest by {difference:.3g}")


def _classes_fit(example: Example, _tested: ModelUnderTest) -> None:
    network, classes = build(example), example.vocab_size
    for name, module in model.losses(network):
        _expect(f"{name} is built for", module.size, classes, "classes")
    for name, layer in model.projections(network):
        _expect(f"{name} outputs", layer.out_features, classes, "scores")
    observed = forward(network, make_batch(example), example.seed).seen
    if not observed.losses:
        raise Violation("the forward pass called no classification loss")
    for name, scores, targets in observed.losses:
        _expect(f"{name} received", scores.shape[-1], classes, "scores a position")
        _expect(f"{name} received scores of", scores.shape[1], targets.shape[1], "positions")
    for width, *_ in observed.ctc:
        _expect("the CTC loss received", width, classes, "scores a frame")
    for name, _ in model.projections(network):
        outputs = observed.scores[name]
        if not outputs:
            raise Violation(f"the forward pass never called {name}")
        for output in outputs:
            _expect(f"{name} gave", output.shape[-1], classes, "scores")
    # If hidden size and vocabulary are equal, hidden states are as wide as scores.
    entered = [scores for name, scores, _ in observed.losses if name == "criterion_att"]
    outputs_of_layer = observed.scores.get("decoder.output_layer", [])
    for scores in entered:
        if outputs_of_layer and not any(
            scores.shape == output.shape and bool((scores == output).all()) for output in outputs_of_layer
        ):
            raise Violation("the input of criterion_att is not the output of decoder.output_layer")
    passes = 1 + (example.conf.get("sampling_ratio", 0.0) > 0.0)
    _expect("decoder.output_layer was called", len(outputs_of_layer), passes, "times")


def _expect(subject: str, actual: int, expected: int, unit: str) -> None:
    if actual != expected:
        raise Violation(f"{subject} {actual} {unit}, expected {expected}")


def _parts_add_up(example: Example, _tested: ModelUnderTest) -> None:
    import torch

    network, conf = build(example), example.conf
    forward_pass = forward(network, make_batch(example), example.seed)
    ((_, scores, targets),) = [entry for entry in forward_pass.seen.losses if entry[0] == "criterion_att"]
    by_token = conf["length_normalized_loss"]
    attention = float(definition(scores.detach(), targets, smoothing=conf["lsm_weight"], by_token=by_token)[0])
    check_equal("the attention loss and its definition", forward_pass.part("loss_att"), attention, tolerance=1e-4)
    counts = forward_pass.seen.predictor[1].detach().double()
    token_counts = torch.tensor(example.targets, dtype=torch.float64)
    length = float((counts - token_counts).abs().sum()) / (sum(example.targets) if by_token else len(example.targets))
    check_equal(
        "the predictor's loss and the mean of |tokens - predicted|",
        forward_pass.part("loss_pre"),
        length,
        tolerance=1e-4,
    )
    share = conf.get("ctc_weight", 0.0)
    total = (1 - share) * attention + conf["predictor_weight"] * length
    if share:
        ctc = _ctc(example, forward_pass.seen.scores["ctc.ctc_lo"][0].detach())
        check_equal("the CTC loss and torch's of the same scores", forward_pass.part("loss_ctc"), ctc, tolerance=1e-4)
        total += share * ctc
    check_equal("the loss and the weighted sum of its parts", forward_pass.value, total, tolerance=1e-4)


def _ctc(example: Example, scores: Any) -> float:
    import torch

    text = make_batch(example)["text"]
    total = torch.nn.functional.ctc_loss(
        scores.double().log_softmax(2).transpose(0, 1),
        text.clamp(min=0),
        torch.tensor(example.frames),
        torch.tensor(example.tokens),
        reduction="sum",
    )
    return float(total) / len(example.frames)


_SPREADS = (1, 0.01, 30)
CLASSES_FIT = Property(
    name="classes_fit",
    spec=ExampleSpec(sampler=True, look_ahead=True),
    holds=_classes_fit,
    applies=every_variant,
    at_own_dimensions=True,
    share=3,
)
LOSS_IS_ITS_DEFINITION = Property(
    name="loss_is_its_definition",
    spec=ExampleSpec(ctc=0.0, options={"spread": _SPREADS}),
    holds=_loss_is_its_definition,
    applies=only_paraformer,
    at_own_dimensions=True,
    share=3,
)
PADDING_IS_LEFT_OUT = Property(
    name="padding_is_left_out_of_the_loss",
    spec=ExampleSpec(ctc=0.0, options={"garbage": (0.0, 1.0, 1000.0), "spread": _SPREADS}),
    holds=_padding_is_left_out_of_the_loss,
    applies=only_paraformer,
    share=2,
)
PARTS_ADD_UP = Property(
    name="parts_add_up",
    spec=ExampleSpec(sampler=True, look_ahead=True, shortest=2),
    holds=_parts_add_up,
    applies=only_paraformer,
    at_own_dimensions=True,
    share=2,
)
