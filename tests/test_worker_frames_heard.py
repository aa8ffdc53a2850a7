"""Which frames of speech the loss depends on: counted by gradients, along the whole model and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from harness.worker.checks import frames_heard
from harness.worker.release import importer

LENGTHS = (9, 7)
GROUPS = {"encoder": ["encoder"], "predictor": ["predictor"], "decoder": ["decoder"]}


def listened(kind: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is counted of one of the networks below, and whether frames changed its loss."""
    import torch

    torch.manual_seed(0)
    network = NETWORKS[kind](torch)
    speech = torch.randn(len(LENGTHS), max(LENGTHS), 4)
    batch = {"speech": speech, "speech_lengths": torch.tensor(LENGTHS).unsqueeze(1), "text": torch.ones(2, 3).long()}
    with torch.no_grad():
        torch.manual_seed(1)
        alone = float(network(**{**batch, "speech": speech.clone()}))
    frames = frames_heard.FramesHeard(network, GROUPS, config or {})
    torch.manual_seed(1)
    loss = network(**frames.begin_pass(batch))
    loss.backward(retain_graph=True)
    frames.gather()
    return {"counts": frames.counts(), "same": float(loss.detach()) == alone}


def a_network(torch: Any, forward: Callable[..., Any], **parts: Any) -> Any:
    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, speech: Any, speech_lengths: Any, text: Any) -> Any:
            return forward(self, speech, speech_lengths, text)

    return Network()


def a_module(torch: Any, forward: Callable[..., Any], **attributes: Any) -> Any:
    class Module(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            vars(self).update(attributes)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return forward(self, *args, **kwargs)

    return Module()


def changes_its_input(torch: Any) -> Any:
    def encode(self: Any, speech: Any, lengths: Any) -> Any:
        speech *= 2.0
        return self.linear(speech), lengths.reshape(-1), None

    encoder = a_module(torch, encode)
    return a_network(torch, lambda net, speech, lengths, _: net.encoder(speech, lengths)[0].sum(), encoder=encoder)


def a_strided(torch: Any, *, window: int = 2, deaf_to: int | None = None) -> Any:
    """Every other frame begins a window: of nine frames, windows of two leave the last one over."""

    def forward(self: Any, speech: Any, lengths: Any, _: Any) -> Any:
        if deaf_to is not None:
            speech = speech * (torch.arange(max(LENGTHS)) != deaf_to)[None, :, None]
        return self.encoder(speech, lengths)[0].square().sum()

    encoder = a_module(
        torch, lambda self, speech, lengths: (self.windows(speech.transpose(1, 2)).transpose(1, 2), lengths // 2)
    )
    encoder.windows = torch.nn.Conv1d(4, 4, window, 2)
    return a_network(torch, forward, encoder=encoder)


def a_speller(torch: Any, *, embeds: bool) -> Any:
    """A decoder that is handed token ids, or the predictor's embeddings; a loss of the predictor's own either way."""

    def forward(self: Any, speech: Any, lengths: Any, text: Any) -> Any:
        hidden, frames = self.encoder(speech, lengths)
        given, count = self.predictor(hidden)
        return self.decoder(hidden, frames, text if embeds is False else 0.0 * given).sum() + count.sum()

    return a_network(
        torch,
        forward,
        encoder=a_module(torch, lambda self, speech, lengths: (self.linear(speech), lengths.reshape(-1))),
        predictor=a_module(torch, lambda self, hidden: (hidden.mean(1, keepdim=True), self.linear(hidden))),
        decoder=a_module(torch, lambda self, memory, frames, target: self.linear(memory).mean() + target.sum()),
    )


def a_masked(torch: Any) -> Any:
    """A mask that hides all of the shortest utterance's frames in every draw."""

    def mask(_self: Any, speech: Any, lengths: Any) -> Any:
        hidden = torch.zeros(speech.shape[:2], dtype=torch.bool)
        hidden[1] = True
        return speech.masked_fill(hidden.unsqueeze(-1), 0.0), lengths

    def forward(self: Any, speech: Any, lengths: Any, _: Any) -> Any:
        return self.encoder(self.specaug(speech, lengths)[0], lengths)[0].sum()

    encoder = a_module(torch, lambda self, speech, lengths: (self.linear(speech), lengths.reshape(-1)))
    return a_network(torch, forward, specaug=a_module(torch, mask), encoder=encoder)


NETWORKS: Mapping[str, Callable[[Any], Any]] = {
    "changes_its_input": changes_its_input,
    "strided": a_strided,
    "strided_and_deaf": lambda torch: a_strided(torch, deaf_to=4),
    "deaf_at_the_end": lambda torch: a_strided(torch, deaf_to=7),
    "spells": lambda torch: a_speller(torch, embeds=False),
    "takes_no_embeddings": lambda torch: a_speller(torch, embeds=True),
    "masked": a_masked,
}


def test_an_encoder_may_change_its_input_in_place(forked: Forked) -> None:
    told = forked(listened, kind="changes_its_input")
    assert told == {"counts": {"features": [[9, 9], [7, 7]]}, "same": True}


def test_what_a_stride_leaves_over_at_the_end_is_no_frame_to_be_heard(forked: Forked) -> None:
    assert forked(listened, kind="strided")["counts"]["features"] == [[8, 8], [7, 7]]


def test_a_frame_in_the_middle_is_not_left_over(forked: Forked) -> None:
    assert forked(listened, kind="strided_and_deaf")["counts"]["features"] == [[7, 8], [6, 7]]


def test_as_many_frames_as_a_stride_are_not_left_over(forked: Forked) -> None:
    assert forked(listened, kind="deaf_at_the_end")["counts"]["features"] == [[7, 9], [7, 7]]


def test_to_a_decoder_of_token_ids_a_predictor_need_give_no_embeddings(forked: Forked) -> None:
    counts = forked(listened, kind="spells")["counts"]
    assert counts == {path: [[9, 9], [7, 7]] for path in ("features", "predictor", "decoder")}


def test_a_decoder_that_does_not_use_the_embeddings_hears_nothing_of_the_predictor(forked: Forked) -> None:
    counts = forked(listened, kind="takes_no_embeddings")["counts"]
    assert counts["predictor"] == [[0, 9], [0, 7]]
    assert counts["features"] == counts["decoder"] == [[9, 9], [7, 7]]


def test_embeddings_that_the_config_has_replaced_need_not_reach_the_loss(forked: Forked) -> None:
    config = {"model_conf": {"sampling_ratio": 1.0}}
    counts = forked(listened, kind="takes_no_embeddings", config=config)["counts"]
    assert counts["predictor"] == [[9, 9], [7, 7]]


def test_masks_that_may_hide_an_utterance_whole_are_not_held_against_it(forked: Forked) -> None:
    wide = {"specaug_conf": {"time_mask_width_range": [0, 8], "num_time_mask": 1}}
    narrow = {"specaug_conf": {"time_mask_width_range": [0, 3], "num_time_mask": 1}}
    assert forked(listened, kind="masked", config=wide)["counts"]["features"] == [[9, 9], [7, 7]]
    assert forked(listened, kind="masked", config=narrow)["counts"]["features"] == [[9, 9], [0, 7]]


def by_turns(passes: int) -> list[dict[str, Any]]:
    """What is counted after each of some passes, of which each hears every other frame."""
    import torch

    def forward(self: Any, speech: Any, lengths: Any, _: Any) -> Any:
        self.passes += 1
        turn = (torch.arange(speech.shape[1]) + self.passes) % 2
        return self.encoder(speech, lengths)[0].square().mul(turn[None, :, None]).sum()

    encoder = a_module(torch, lambda self, speech, lengths: (self.linear(speech), lengths.reshape(-1)))
    network = a_network(torch, forward, encoder=encoder)
    network.passes = 0
    frames = frames_heard.FramesHeard(network, GROUPS, {})
    told = []
    for _ in range(passes):
        batch = {"speech": torch.randn(2, 9, 4), "speech_lengths": torch.tensor(LENGTHS), "text": torch.ones(2, 3)}
        network(**frames.begin_pass(batch)).backward(retain_graph=True)
        told.append({"complete": frames.gather(), **frames.counts()})
    return told


def test_frames_are_gathered_over_passes(forked: Forked) -> None:
    assert forked(by_turns, passes=2) == [
        {"complete": False, "features": [[5, 9], [4, 7]]},
        {"complete": True, "features": [[9, 9], [7, 7]]},
    ]


@pytest.mark.parametrize(
    ("masks", "covers"),
    [
        ({"time_mask_width_range": [0, 12], "num_time_mask": 1}, False),
        ({"time_mask_width_range": [0, 12], "num_time_mask": 2}, True),
        ({"time_mask_width_range": 21, "num_time_mask": 1}, True),
        ({"time_mask_width_ratio_range": [0.0, 0.05], "num_time_mask": 10}, False),
        ({"time_mask_width_ratio_range": 0.5}, True),
        ({"time_mask_width_range": [0, 40], "apply_time_mask": False}, False),
        ({}, False),
    ],
)
def test_how_wide_masks_may_be_is_read_from_the_config(masks: dict[str, Any], covers: bool) -> None:
    assert frames_heard.may_hide_all(masks, 21) is covers


def test_the_first_path_with_missing_frames_is_named() -> None:
    counts = {"features": [[9, 9], [7, 7]], "decoder2": [[9, 9], [6, 7]], "predictor": [[0, 9], [0, 7]]}
    assert frames_heard.misfit(counts) == (
        "decoder2",
        "the loss does not depend along the decoder2 on 1 of 16 frames of speech: 1 of the 7 of utterance 1",
    )
    assert frames_heard.misfit({"features": [[9, 9]]}) is None


def laid_out(install_dir: str, size: int, stride: int, before: int, lengths: list[int]) -> list[bool]:
    """Of each utterance, whether its frames lie where the release's chunking puts them."""
    import torch

    importer.import_components_only(install_dir, "1.4.16")
    from funasr.models.scama.chunk_utilis import overlap_chunk

    chunks = overlap_chunk(chunk_size=(size,), stride=(stride,), pad_left=(before,), shfit_fsmn=5)
    added, chunked, *_ = chunks.gen_chunk_mask(torch.tensor(lengths))
    output = torch.zeros(len(lengths), int(chunked.max()), 4)
    same = []
    for length, places in zip(lengths, chunked, strict=True):
        expected = torch.tensor(added[: int(places), before : before + length].T != 0)
        found = frames_heard.frame_positions(length, output, chunks)[:, : int(places)]
        same.append(bool((found == expected).all()) and bool(found.any(dim=-1).all()))
    return same


@pytest.mark.release
@pytest.mark.parametrize(("size", "stride", "before"), [(12, 8, 0), (15, 10, 0), (16, 10, 0), (20, 10, 5)])
def test_frames_lie_where_a_chunked_encoder_puts_them(
    forked: Forked, layout: Callable[[str], Path], size: int, stride: int, before: int
) -> None:
    where = {"install_dir": str(layout("1.4.16")), "size": size, "stride": stride, "before": before}
    assert all(forked(laid_out, **where, lengths=[40, 33, 28, 21, 8, 3]))
