"""Decoders that are shown the tokens before each, and one that sees the token itself."""

from __future__ import annotations

import pytest
from forked import Forked

from harness.worker.checks.teacher_forcing import TOLERANCE, difference

VOCABULARY = 12


def moved(*, ahead: int, sampler: bool = False, evaluates: bool = True, decoder: bool = True) -> float | None:
    """Of a decoder whose scores are the embeddings of the tokens up to `ahead` places after those before each."""
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(VOCABULARY, VOCABULARY)
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, shown: torch.Tensor) -> tuple[torch.Tensor, None]:
            past = self.embed(shown).cumsum(1)
            places = (torch.arange(shown.shape[1]) + ahead).clip(max=shown.shape[1] - 1)
            return self.drop(past[:, places]), None

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if decoder:
                self.decoder = Decoder()
            if sampler:
                self.sampler = lambda: None

        def forward(self, text: torch.Tensor, text_lengths: torch.Tensor) -> torch.Tensor:
            begin = torch.ones(len(text), 1, dtype=text.dtype)
            scores = self.decoder(torch.cat((begin, text.clip(min=0)), 1))[0]
            if not self.training and not evaluates:
                raise AttributeError("error_calculator")
            return scores

    torch.manual_seed(0)
    batch = {"text": torch.tensor([[5, 6, 7], [6, 8, -1]]), "text_lengths": torch.tensor([[3], [2]])}
    model = Model().train()
    found = difference(model, batch, VOCABULARY)
    assert model.training
    return found


@pytest.mark.parametrize("evaluates", [True, False])
def test_a_decoder_that_sees_the_tokens_before_each_is_not_accused(forked: Forked, evaluates: bool) -> None:
    assert forked(moved, ahead=0, evaluates=evaluates) == 0.0


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_decoder_that_sees_the_token_itself_is_found(forked: Forked, ahead: int) -> None:
    assert forked(moved, ahead=ahead) > 100 * TOLERANCE


def test_of_other_models_nothing_is_said(forked: Forked) -> None:
    assert forked(moved, ahead=1, sampler=True) is None
    assert forked(moved, ahead=1, decoder=False) is None
