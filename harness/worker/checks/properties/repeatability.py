"""The same seed, the same model; training and evaluation, the same loss once nothing is drawn at random."""

from __future__ import annotations

from harness.worker.checks.properties.building import batches, build, make_batch
from harness.worker.checks.properties.comparing import same, same_gradients
from harness.worker.checks.properties.drawing import Example, Wish
from harness.worker.checks.properties.running import Violation, forward, gradients
from harness.worker.checks.properties.subject import Property, Subject

_PARTS = ("loss_att", "loss_pre", "loss_ctc")


def _same_seed(example: Example, _subject: Subject) -> None:
    one, other = build(example), build(example)
    for (name, here), (again, there) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        if name != again or here.shape != there.shape or not bool((here == there).all()):
            raise Violation(f"{name} has other values in a model that was built from the same seed")
    batch = make_batch(example)
    here, there = forward(one, batch, example.seed), forward(other, batch, example.seed)
    if here.value != there.value:
        raise Violation(f"two models of one seed have the losses {here.value:.9g} and {there.value:.9g}")
    same_gradients("of two models of one seed", gradients(one, here.loss), gradients(other, there.loss))


def _evaluation_as_training(example: Example, _subject: Subject) -> None:
    import torch

    network = build(example, double=True)
    for batch in batches(example, 5, double=True):
        with torch.no_grad():
            training = forward(network.train(), batch, example.seed)
            evaluation = forward(network.eval(), batch, example.seed)
        for name in _PARTS:
            same(f"{name} in training and in evaluation", training.part(name), evaluation.part(name))


def _evaluation_draws_nothing(example: Example, _subject: Subject) -> None:
    import torch

    network, batch = build(example, double=True).eval(), make_batch(example, double=True)
    with torch.no_grad():
        here, there = (forward(network, batch, seed) for seed in (1, 2))
    for name in _PARTS:
        same(f"{name} of one batch in evaluation, twice", here.part(name), there.part(name))


SAME_SEED = Property(
    name="one_seed_gives_one_model",
    wish=Wish(sampler=True, look_ahead=True),
    holds=_same_seed,
)
EVALUATION_AS_TRAINING = Property(
    name="evaluation_gives_the_loss_of_training",
    wish=Wish(look_ahead=True, one_chunk=True, rows=(2, 4)),
    holds=_evaluation_as_training,
    share=2,
)
EVALUATION_DRAWS_NOTHING = Property(
    name="evaluation_draws_nothing",
    wish=Wish(look_ahead=True, dropout=0.3, ctc=0.0),
    holds=_evaluation_draws_nothing,
)
CTC_DRAWS_NOTHING = Property(
    name="ctc_in_evaluation_draws_nothing",
    wish=Wish(look_ahead=True, dropout=0.3, ctc=0.3),
    holds=_evaluation_draws_nothing,
)
