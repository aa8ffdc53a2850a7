"""What was to be said in each forward pass, seen through hooks of a model that decodes twice."""

from __future__ import annotations

from typing import Any

import pytest
from forked import Forked

from harness.worker.trainer.targets import TargetRecorder

ROWS = [[3, 4, 5, 2], [6, 2], [7, 2]]


def watch(
    *, twice: bool = True, criterion: str = "criterion_att", other_length: bool = False, frames: Any = None
) -> dict[str, Any]:
    """Two passes in training mode, one in evaluation; the first decoding says 3 everywhere, the second the targets."""
    import torch

    class LabelSmoothingLoss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size, self.padding_idx, self.smoothing, self.normalize_length = 9, -1, 0.1, True

        def forward(self, scores: Any, target: Any) -> Any:
            return scores.mean()

    class Decoder(torch.nn.Module):
        def forward(self, said: Any) -> Any:
            return torch.nn.functional.one_hot(said.clamp(min=0), 9).float() * weight, None

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = Decoder()
            setattr(self, criterion, LabelSmoothingLoss())
            self.another = LabelSmoothingLoss() if criterion == "criterion_att" else None

        def forward(self, target: Any) -> Any:
            if twice:
                with torch.no_grad():
                    self.decoder(torch.full_like(target, 3)[:, : None if not other_length else 2])
            return getattr(self, criterion)(self.decoder(target)[0], target)

    weight = torch.ones((), requires_grad=True)
    target = torch.tensor([[3, 4, 5, 2], [6, 2, -1, -1], [7, 2, -1, -1]])
    model, seen = Model(), TargetRecorder()
    seen.attach(model)
    seen.frames = None if frames is None else torch.tensor(frames)
    model.train()(target).backward()
    seen.frames = None if frames is None else torch.tensor(frames[:2])
    model(target[1:])
    first = seen.take()
    model.eval()(target)
    assert seen.take() == []
    return seen.metrics([first[:1], first[1:], []])


def test_the_tokens_are_reported_without_padding_each_utterance_once(forked: Forked) -> None:
    figures = forked(watch)
    assert {name: figures["targets"][name] for name in ("rows", "steps")} == {
        "rows": ROWS,
        "steps": [[[0, 1, 2]], [[1, 2]], []],
    }
    assert figures["criterion"] == {"classes": 9, "smoothing": 0.1, "normalize_length": True}


def test_the_accuracy_is_that_of_the_first_pass(forked: Forked) -> None:
    assert forked(watch)["accuracy_recomputed"] == [1 / 8, 0.0, None]


def test_what_was_right_is_reported_token_by_token(forked: Forked) -> None:
    """The first pass says 3 everywhere; padding is left out."""
    targets = forked(watch)["targets"]
    assert targets["right"] == [[["1000", "00", "00"]], [["00", "00"]], []]
    assert targets["frames"] == [None] * 3
    assert forked(watch, other_length=True)["targets"]["right"] == [[None], [None], []]


def test_rows_are_reported_apart_by_the_length_of_their_speech(forked: Forked) -> None:
    targets = forked(watch, frames=[[7], [5], [5]])["targets"]
    assert (targets["rows"], targets["frames"]) == ([*ROWS, ROWS[1]], [7, 5, 5, 7])
    assert targets["steps"] == [[[0, 1, 2]], [[3, 2]], []]


def test_a_model_that_decodes_once_has_the_accuracy_of_that(forked: Forked) -> None:
    assert forked(watch, twice=False)["accuracy_recomputed"] == [1.0, 1.0, None]


def test_scores_that_do_not_fit_the_targets_give_no_accuracy(forked: Forked) -> None:
    assert forked(watch, other_length=True)["accuracy_recomputed"] == [None, None, None]


def test_the_loss_may_have_another_name(forked: Forked) -> None:
    assert forked(watch, criterion="loss_of_labels")["targets"]["rows"] == ROWS


def without() -> dict[str, Any]:
    import torch

    seen = TargetRecorder()
    seen.attach(torch.nn.Linear(2, 2))
    return seen.metrics([[], []])


@pytest.mark.parametrize("name", ["criterion", "targets", "accuracy_recomputed"])
def test_a_model_without_such_a_loss_gives_nothing(forked: Forked, name: str) -> None:
    nothing = {
        "criterion": None,
        "targets": {"rows": [], "frames": [], "steps": [[], []], "right": [[], []]},
        "accuracy_recomputed": [None, None],
    }
    assert forked(without)[name] == nothing[name]
