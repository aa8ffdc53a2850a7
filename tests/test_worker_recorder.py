"""Watching a training: everything is seen, nothing is changed. The loop is the test's own, of a few lines."""

from __future__ import annotations

import math
from typing import Any

import pytest
from forked import Forked

from harness.worker.trainer import memory, recorder

GROUPS = {"encoder": ["encoder"], "decoder": ["decoder"]}
BATCH, FRAMES, STEPS = 3, 4, 3


def train(
    *,
    observed: bool = True,
    epochs: int = 2,
    forwards: int = 1,
    validations: int = 1,
    clip: float = 0.0,
    frozen: str = "",
    nan_at: int = -1,
    rate: float = 0.01,
    by_position: bool = False,
) -> dict[str, Any]:
    """Train a model of two layers for `STEPS` steps an epoch; give what the loop and what the observer saw."""
    import torch

    class Model(torch.nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Linear(5, 6)
            self.decoder = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(6, 7))

        def forward(self, speech: Any, text: Any, **kwargs: Any) -> Any:
            if self.training:
                Model.calls += 1
            loss = torch.nn.functional.cross_entropy(self.decoder(self.encoder(speech)), text)
            if Model.calls == nan_at:
                loss = loss * float("nan")
            return loss, {"acc": loss.detach() / 2, "fixed": 0.25, "nothing": None}, len(speech)

    torch.manual_seed(0)
    model = Model()
    if frozen:
        getattr(model, frozen).requires_grad_(False)
    model.eval()
    observer = recorder.TrainingRecorder(meter=memory.meter("cpu"))
    if observed:
        observer.attach(Model)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    losses, norms = [], []

    def batch() -> dict[str, Any]:
        lengths = torch.full((BATCH, 1), FRAMES, dtype=torch.int32)
        return {"speech": torch.randn(BATCH, 5), "text": torch.randint(7, (BATCH,)), "speech_lengths": lengths}

    for _ in range(epochs):
        model.train()
        for _ in range(STEPS):
            for _ in range(forwards):
                given = batch()
                loss, _, _ = model(given.pop("speech"), **given) if by_position else model(**given)
                losses.append(float(loss))
                (loss / forwards).backward()
            if clip:
                norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), clip)))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for _ in range(validations):
                model(**batch())
    seen = observer.metrics(GROUPS, 0.06) if observed else {}
    final = [value for parameter in model.parameters() for value in parameter.flatten().tolist()]
    return {"losses": losses, "norms": norms, "seen": seen, "final": final, "validations": observer.validations}


def test_observing_changes_no_loss_and_no_parameter_by_a_single_bit(forked: Forked) -> None:
    plain = forked(train, observed=False, clip=0.1, forwards=2)
    watched = forked(train, observed=True, clip=0.1, forwards=2)
    assert watched["losses"] == plain["losses"]
    assert watched["final"] == plain["final"]
    assert watched["norms"] == plain["norms"]


def test_every_step_gives_its_loss_and_statistics_in_full_precision(forked: Forked) -> None:
    done = forked(train)
    seen = done["seen"]
    assert seen["steps"] == 2 * STEPS
    assert seen["losses"] == done["losses"]
    assert seen["stats"] == {
        "acc": [loss / 2 for loss in done["losses"]],
        "fixed": [0.25] * 6,
        "nothing": [None] * 6,
    }
    assert any(loss != round(loss, 6) for loss in seen["losses"])


def test_the_learning_rate_is_the_one_that_the_step_was_taken_with(forked: Forked) -> None:
    assert forked(train)["seen"]["learning_rates"] == [0.01 * 0.5**step for step in range(6)]


def test_a_step_that_gathers_two_forwards_has_the_mean_of_their_losses(forked: Forked) -> None:
    done = forked(train, forwards=2)
    pairs = zip(done["losses"][::2], done["losses"][1::2], strict=True)
    assert done["seen"]["steps"] == 2 * STEPS
    assert done["seen"]["losses"] == [(first + second) / 2 for first, second in pairs]


@pytest.mark.parametrize("validations", [0, 1, 2])
def test_epochs_are_reported_apart_by_the_switch_to_evaluation(forked: Forked, validations: int) -> None:
    done = forked(train, epochs=3, validations=validations)
    seen, losses = done["seen"], done["losses"]
    assert seen["epochs"] == 3
    assert seen["epoch_losses"] == [sum(losses[start : start + 3]) / 3 for start in (0, 3, 6)]
    assert done["validations"] == 3 * validations


def test_norms_are_those_that_clipping_found_before_it_clipped(forked: Forked) -> None:
    done = forked(train, clip=0.1)
    assert done["seen"]["gradient_norms"] == done["norms"]
    assert max(done["norms"]) > 0.1


def test_where_nothing_is_clipped_the_norms_are_null(forked: Forked) -> None:
    assert forked(train)["seen"]["gradient_norms"] == [None] * 6


def test_a_frozen_group_has_not_moved(forked: Forked) -> None:
    seen = forked(train, frozen="encoder")["seen"]
    assert seen["relative_change_by_group"]["encoder"] == 0.0
    assert seen["relative_change_by_group"]["decoder"] > 0
    assert seen["parameters_unchanged"] == ["encoder.weight", "encoder.bias"]


def test_every_group_that_is_trained_has_moved(forked: Forked) -> None:
    seen = forked(train)["seen"]
    assert set(seen["relative_change_by_group"]) == {"encoder", "decoder"}
    assert all(0.001 < change < 1 for change in seen["relative_change_by_group"].values())
    assert seen["parameters_unchanged"] == []


def test_a_rate_of_zero_moves_nothing(forked: Forked) -> None:
    seen = forked(train, rate=0.0)["seen"]
    assert seen["relative_change_by_group"] == {"encoder": 0.0, "decoder": 0.0}
    assert len(seen["parameters_unchanged"]) == 4


def test_a_loss_that_is_no_number_is_not_smoothed_over(forked: Forked) -> None:
    seen = forked(train, nan_at=2)["seen"]
    assert [math.isnan(loss) for loss in seen["losses"][:2]] == [False, True]
    assert math.isnan(seen["epoch_losses"][0])


@pytest.mark.parametrize("by_position", [False, True])
def test_throughput_counts_what_was_trained_on_and_nothing_else(forked: Forked, by_position: bool) -> None:
    seen = forked(train, by_position=by_position)["seen"]
    total = sum(seen["step_seconds"])
    assert len(seen["step_seconds"]) == 6
    assert all(seconds > 0 for seconds in seen["step_seconds"])
    assert seen["samples_per_second"] * total == pytest.approx(6 * BATCH)
    assert seen["audio_seconds_per_second"] * total == pytest.approx(6 * BATCH * FRAMES * 0.06)


def test_a_training_that_never_began_has_no_figures() -> None:
    seen = recorder.TrainingRecorder(meter=memory.meter("cpu")).metrics(GROUPS, 0.06)
    assert (seen["steps"], seen["losses"], seen["epoch_losses"], seen["stats"]) == (0, [], [], {})
    assert seen["samples_per_second"] is seen["audio_seconds_per_second"] is None
    assert seen["relative_change_by_group"] == {}


def starved() -> dict[str, Any]:
    """Train with an observer that starts only after the forward pass that fails, and steps that are never taken."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Linear(2, 2)

        def forward(self, speech: Any) -> Any:
            return self.encoder(speech).sum(), {}, 1

    observer = recorder.TrainingRecorder(meter=memory.meter("cpu"))
    observer.attach(Model)
    Model().train()(torch.ones(1, 2))
    return observer.metrics(GROUPS, 0.06)


def test_forwards_without_a_step_are_no_steps(forked: Forked) -> None:
    seen = forked(starved)
    assert (seen["steps"], seen["losses"], seen["step_seconds"]) == (0, [], [])
    assert seen["samples_per_second"] is None
    assert seen["relative_change_by_group"] == {"encoder": 0.0}
