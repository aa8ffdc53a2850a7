"""What a trained model makes of other speech, with models that hear, hear a part, or hear nothing."""

from __future__ import annotations

from typing import Any

import pytest
from forked import Forked
from parsed import judge_hearing

from harness.core.evidence.verdicts import HearingVerdict
from harness.worker.trainer.hearing import OTHERS, HeldOutExample, SpeechInputs, compare

WORDS, FRAMES, TEXTS = 6, 2, 24
"""Each word is `FRAMES` frames long, and its features are 1 at its number."""


def listen(
    kind: str, *, trained_on: str = "held_out", decoder: bool = True, unequal: bool = False, sampler: bool = True
) -> dict[str, Any]:
    """Compare a model that gives each word's token where it hears it, but for what its kind does to the speech."""
    import torch

    class Decoder(torch.nn.Module):
        def forward(self, scores: Any) -> Any:
            return scores, None

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            if decoder:
                self.decoder = Decoder()

        def sampler(self) -> None:
            """As in Paraformers: what the decoder puts out first was shown none of the right tokens."""

        def forward(self, speech: Any, speech_lengths: Any, text: Any, text_lengths: Any) -> Any:
            if kind == "raises when evaluating" and not self.training:
                raise ValueError("no evaluation")
            tokens = text.shape[1]
            heard = speech[:, : tokens * FRAMES].reshape(len(speech), -1, FRAMES, WORDS).mean(2)
            if kind == "deaf" or (kind == "deaf when training" and self.training):
                heard = torch.zeros_like(heard)
            elif kind == "hears the first word":
                heard[:, 1:] = 0.0
            elif kind == "averages over time":
                heard = heard.mean(1, keepdim=True).expand_as(heard)
            elif kind == "is handed another's speech":
                heard = heard.roll(1, 0)
            elif kind == "reads the text":
                heard = torch.nn.functional.one_hot(text.clamp(min=0), WORDS).float()
            if decoder:
                self.decoder(heard)
            chance = torch.log_softmax(9 * heard, -1)
            meant = text[:, : chance.shape[1]].flatten().long()
            loss = torch.nn.functional.nll_loss(chance.flatten(0, 1), meant, ignore_index=-1)
            return loss * self.weight, {}, len(speech)

    random = torch.Generator().manual_seed(0)
    texts = list({tuple(torch.randperm(WORDS, generator=random).tolist()) for _ in range(2 * TEXTS)})[:TEXTS]
    if unequal:
        texts = [text[: 4 + row % 3] for row, text in enumerate(texts)]
    held_out, heard = [], SpeechInputs()
    for text in texts:
        features = torch.nn.functional.one_hot(torch.tensor(text), WORDS).float().repeat_interleave(FRAMES, 0)
        held_out.append(HeldOutExample(features=features, tokens=text))
        batch = {"speech": features[None], "speech_lengths": torch.tensor([[len(features)]])}
        heard.note({**batch, "text": torch.tensor([text]), "text_lengths": torch.tensor([[len(text)]])})
    if not sampler:
        del Model.sampler
    model = Model()
    model.eval()
    used = held_out if trained_on == "held_out" else []
    found = compare(model, Model.forward, used, heard, install_dir="")
    return {"hearing": found, "training_after": model.training}


def verdict(forked: Forked, kind: str, **settings: Any) -> HearingVerdict:
    return judge_hearing(forked(listen, kind=kind, **settings)["hearing"])


@pytest.mark.parametrize("settings", [{}, {"trained_on": "training"}, {"decoder": False}, {"unequal": True}])
def test_a_model_that_hears_is_not_accused(forked: Forked, settings: dict[str, Any]) -> None:
    found = verdict(forked, "sound", **settings)
    assert (found.reasons, found.not_observed) == ((), "")
    assert found.of == settings.get("trained_on", "held_out")
    assert found.texts == (TEXTS if settings.get("decoder", True) else 12)


@pytest.mark.parametrize(
    "kind",
    [
        "deaf",
        "deaf when training",
        "hears the first word",
        "averages over time",
        "is handed another's speech",
        "reads the text",
    ],
)
def test_a_model_that_does_not_hear_where_the_words_are_is_found(forked: Forked, kind: str) -> None:
    assert verdict(forked, kind).reasons


@pytest.mark.parametrize("kind", ["deaf", "reads the text"])
def test_a_deaf_model_is_found_by_its_losses_where_it_has_no_decoder(forked: Forked, kind: str) -> None:
    assert verdict(forked, kind, decoder=False).reasons


def test_a_decoder_without_a_first_pass_is_not_accused_of_deafness(forked: Forked) -> None:
    found = verdict(forked, "deaf", sampler=False)
    assert found.reasons == ()
    assert "the decoder is shown the tokens before each" in found.not_observed
    assert verdict(forked, "reads the text", sampler=False).reasons


def test_a_mode_that_raises_is_named(forked: Forked) -> None:
    found = verdict(forked, "raises when evaluating")
    (reason,) = found.reasons
    assert reason.startswith("In evaluation mode the forward pass ended in ValueError@")
    assert [one.mode for one in found.modes] == ["training"]


def test_the_model_is_left_in_the_mode_in_which_it_was(forked: Forked) -> None:
    assert forked(listen, kind="sound")["training_after"] is False


def unusual() -> Any:
    import torch

    heard = SpeechInputs()
    heard.note({"speech": torch.zeros(1, 2, 3), "hotword_pad": torch.zeros(1)})
    return compare(None, lambda: None, [], heard, install_dir="")


def few() -> Any:
    return compare(None, lambda: None, [], SpeechInputs(), install_dir="")


def test_what_cannot_be_compared_is_said(forked: Forked) -> None:
    assert "hotword_pad" in forked(unusual)["not_observed"]
    assert forked(few) == {"not_observed": f"0 utterances; the comparison needs {OTHERS + 1}"}
