"""Faults and repairs of a release's model, planted in memory; called in children that have torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

from harness.worker.checks import properties
from harness.worker.checks.properties.property import ModelUnderTest
from harness.worker.checks.properties.searching import search
from harness.worker.release import importer, shims

Plant = Callable[[], AbstractContextManager[Any]]
EXAMPLES, EXAMPLES_TO_HOLD = 12, 6
"""Of one property: about what it gets of the default number, and fewer where all of them have to be gone through."""


@dataclass(frozen=True)
class Fault:
    """What is planted, which property must see it in which variant, and what it must say."""

    variant: str
    asked: str
    says: str
    plant: Plant


def ask(subjects: dict[str, dict[str, Any]], components: list[list[str]], paths: list[str]) -> dict[str, Any]:
    """What each fault and each repair makes of the property that it is about."""
    sys.path[:0] = paths
    shims.apply("cpu")
    install_dir = next(iter(subjects.values()))["install_dir"]
    importer.import_components_only(install_dir, "1.4.16")
    importer.import_components(install_dir, [(table, name) for table, name in components])
    known = {variant: ModelUnderTest(**fields) for variant, fields in subjects.items()}
    return {
        "faults": {name: _ask(fault.asked, known[fault.variant], fault.plant) for name, fault in FAULTS.items()},
        "repairs": {
            f"{variant}/{name}": _ask(name, subject, REPAIRS[name], examples=EXAMPLES_TO_HOLD)
            for variant, subject in known.items()
            for name in REPAIRS
            if not _named(name).applies(subject)
        },
    }


def check(request: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """The whole check on the release as it is."""
    sys.path[:0] = paths
    shims.apply("cpu")
    importer.import_components_only(request["release"]["install_dir"], request["release"]["version"])
    importer.import_components(request["release"]["install_dir"], [tuple(pair) for pair in request["components"]])
    return properties.check(request)


def _ask(name: str, subject: ModelUnderTest, plant: Plant, *, examples: int = EXAMPLES) -> dict[str, Any]:
    with plant():
        found = search(_named(name), subject, examples=examples, seed=0)
    return asdict(found)


def _named(name: str) -> Any:
    return next(each for each in properties.PROPERTIES if each.name == name)


def _class(table: str, name: str) -> Any:
    from funasr.register import tables

    return getattr(tables, f"{table}_classes")[name]


def _losses() -> Any:
    from funasr.losses import label_smoothing_loss

    return label_smoothing_loss.LabelSmoothingLoss


def _after(owner: Callable[[], Any], method: str, change: Callable[..., Any]) -> Plant:
    """Have `change(self, result, *args)` stand for what a method gives; for None, what it did to `self` remains."""

    def plant() -> AbstractContextManager[Any]:
        original = getattr(owner(), method)

        def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
            return change(self, original(self, *args, **kwargs), *args)

        return mock.patch.object(owner(), method, changed)

    return plant


def _before(owner: Callable[[], Any], method: str, change: Callable[..., tuple[Any, ...]]) -> Plant:
    """Have a method called with `change(self, *args)` in place of its arguments."""

    def plant() -> AbstractContextManager[Any]:
        original = getattr(owner(), method)

        def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, *change(self, *args), **kwargs)

        return mock.patch.object(owner(), method, changed)

    return plant


def _offline() -> Any:
    return _class("model", "Paraformer")


def _encoder() -> Any:
    return _class("encoder", "SANMEncoder")


def _decoder() -> Any:
    return _class("decoder", "ParaformerSANMDecoder")


def _predictor() -> Any:
    return _class("predictor", "CifPredictorV2")


def _chunks() -> Any:
    from funasr.models.scama import chunk_utilis

    return chunk_utilis.overlap_chunk


def _attention() -> Any:
    from funasr.models.sanm import attention

    return attention.MultiHeadedAttentionSANM


def _set(name: str, value: Callable[[Any], Any]) -> Callable[..., None]:
    def change(self: Any, _result: Any, *_args: Any) -> None:
        setattr(self, name, value(self))

    return change


def _hidden_states(self: Any, scores: tuple[Any, ...], states: Any, lengths: Any, embeddings: Any, *_: Any) -> Any:
    return (embeddings, *scores[1:])


def _biased(self: Any, scores: tuple[Any, ...], *_: Any) -> Any:
    import torch

    return (scores[0] + 0.1 * torch.arange(scores[0].shape[-1]), *scores[1:])


def _encoded(change: Callable[[Any, Any], tuple[Any, Any]]) -> Plant:
    return _after(_offline, "encode", lambda self, result, *_: change(*result))


def _first_token_forgotten(self: Any, *args: Any) -> tuple[Any, ...]:
    hidden, targets, *others = args
    targets = targets.clone()
    targets[:, 0] = -1
    return (hidden, targets, *others)


def _nan_in_backward(self: Any, result: tuple[Any, ...], *_: Any) -> Any:
    # The square root of 0 is 0 and its slope infinite.
    return (result[0] + (result[0] * 0).sqrt(), *result[1:])


def _thawed(self: Any, _result: Any, *_: Any) -> Any:
    for parameter in self.parameters():
        parameter.requires_grad_()
    return _result


def _dropped_out(states: Any) -> Any:
    import torch

    return torch.nn.functional.dropout(states, 0.1)


def _shows_everything() -> AbstractContextManager[Any]:
    streaming = _class("model", "ParaformerStreaming")
    original = streaming.sampler

    def sampler(self: Any, states: Any, lengths: Any, targets: Any, *others: Any) -> Any:
        _, scores = original(self, states, lengths, targets, *others)
        return self.decoder.embed(targets.clamp(min=0)), scores

    return mock.patch.object(streaming, "sampler", sampler)


def _all_ones(_self: Any, mask: Any, *_: Any) -> Any:
    return mask * 0 + 1


def _only_back(_self: Any, mask: Any, *_: Any) -> Any:
    return mask.tril()


def _more_in_evaluation(self: Any, result: tuple[Any, ...], *_: Any) -> Any:
    return result if self.training else (result[0] * 1.1, *result[1:])


def _unseeded(self: Any, *args: Any) -> tuple[Any, ...]:
    import torch

    torch.seed()
    return args


@contextlib.contextmanager
def _labels_clamped() -> Iterator[None]:
    original = _offline().forward

    def forward(self: Any, speech: Any, speech_lengths: Any, text: Any, text_lengths: Any, **others: Any) -> Any:
        return original(self, speech, speech_lengths, text.clamp(-1, self.vocab_size - 1), text_lengths, **others)

    with mock.patch.object(_offline(), "forward", forward):
        yield


@contextlib.contextmanager
def _decoder_mask_open() -> Iterator[None]:
    from funasr.models.scama import chunk_utilis

    original = chunk_utilis.build_scama_mask_for_cross_attention_decoder
    name = "build_scama_mask_for_cross_attention_decoder"
    with mock.patch.object(chunk_utilis, name, lambda **asked: original(**asked) * 0 + 1):
        yield


@contextlib.contextmanager
def _sums_a_little_higher() -> Iterator[None]:
    """What rounding takes from the weights, given back before they are counted."""
    module = sys.modules[_predictor().__module__]
    original, aligned = module.cif_v1, _predictor().gen_frame_alignments

    def fire(hidden: Any, alphas: Any, threshold: float) -> Any:
        return original(hidden, alphas * (1 + 1e-6), threshold)

    def align(self: Any, alphas: Any = None, lengths: Any = None) -> Any:
        return aligned(self, alphas * (1 + 1e-6), lengths)

    with (
        mock.patch.object(module, "cif_v1", fire),
        mock.patch.object(_predictor(), "gen_frame_alignments", align),
    ):
        yield


def _padding_cleared(self: Any, hidden: Any, targets: Any = None, mask: Any = None, *others: Any) -> tuple[Any, ...]:
    return (hidden * mask.transpose(1, 2), targets, mask, *others)


def _ctc() -> Any:
    from funasr.models.ctc.ctc import CTC

    return CTC


def _padding_counted(_self: Any, scores: Any, targets: Any) -> tuple[Any, ...]:
    return (scores, targets.clamp(min=0))


def _others_mixed_in(states: Any, lengths: Any) -> tuple[Any, Any]:
    return (states + 0.1 * states.mean((0, 1)), lengths)


def _neighbour_mixed_in(states: Any, lengths: Any) -> tuple[Any, Any]:
    return (states + 0.1 * states.roll(1, 0).mean(1, keepdim=True) * (lengths[:, None, None] > 0).cumsum(0), lengths)


OFFLINE, STREAMING = "paraformer", "paraformer_streaming"
FAULTS: Mapping[str, Fault] = {
    "loss of one class more": Fault(
        OFFLINE, "classes_fit", "criterion_att is built for",
        _after(_losses, "__init__", _set("size", lambda its: its.size + 1)),
    ),
    "hidden states into the loss": Fault(
        STREAMING, "classes_fit", "label_smoothing_loss.py:forward", _after(_decoder, "forward", _hidden_states)
    ),
    "wrong smoothing mass": Fault(
        OFFLINE, "loss_is_its_definition", "its definition gives",
        _after(_losses, "__init__", _set("confidence", lambda its: 1 - its.smoothing * (its.size - 1) / its.size)),
    ),
    "wrong normaliser": Fault(
        OFFLINE, "loss_is_its_definition", "its definition gives",
        _after(_losses, "__init__", _set("normalize_length", lambda its: not its.normalize_length)),
    ),
    "wrong padding index": Fault(
        OFFLINE, "loss_is_its_definition", "its definition gives",
        _after(_losses, "__init__", _set("padding_idx", lambda _its: 0)),
    ),
    "padding counted": Fault(
        OFFLINE, "padding_is_left_out_of_the_loss", "padding",
        _before(_losses, "forward", _padding_counted),
    ),
    "predictor loss dropped": Fault(
        OFFLINE, "parts_add_up", "the loss and the weighted sum of its parts",
        _after(_offline, "__init__", _set("predictor_weight", lambda _its: 0.0)),
    ),
    "order of the batch counts": Fault(
        OFFLINE, "order_of_the_batch_does_not_matter", "in the order", _encoded(_neighbour_mixed_in)
    ),
    "scores biased by number": Fault(
        OFFLINE, "order_of_the_vocabulary_does_not_matter", "permuted throughout", _after(_decoder, "forward", _biased)
    ),
    "padded frames attended to": Fault(
        OFFLINE, "padded_frames_do_not_matter", "in the padded frames",
        _before(_attention, "forward", lambda _self, x, mask, *others: (x, mask * 0 + 1, *others)),
    ),
    "utterances mixed": Fault(
        OFFLINE, "utterances_do_not_touch_each_other", "one by one", _encoded(_others_mixed_in)
    ),
    "labels brought into range": Fault(
        OFFLINE, "labels_outside_the_vocabulary_are_refused", "labels are accepted", _labels_clamped
    ),
    "one frame less told": Fault(
        OFFLINE, "lengths_agree", "frame counts passed to the decoder",
        _encoded(lambda states, lengths: (states, lengths - (lengths < lengths.max()).int())),
    ),
    "one token less counted": Fault(
        OFFLINE, "lengths_agree", "embeddings", _before(_predictor, "forward", _first_token_forgotten)
    ),
    "not a number in the gradient": Fault(
        OFFLINE, "gradients_reach_every_part", "is not finite", _after(_offline, "forward", _nan_in_backward)
    ),
    "encoder detached": Fault(
        OFFLINE, "gradients_reach_every_part", "no gradient reaches the encoder",
        _encoded(lambda states, lengths: (states.detach(), lengths)),
    ),
    "frozen parts thawed": Fault(
        OFFLINE, "frozen_parts_stay_without_gradient", "is frozen and has a gradient",
        _before(_offline, "forward", lambda self, *args: _thawed(self, args)),
    ),
    "chunk mask shows the future": Fault(
        STREAMING, "chunks_see_no_future", "gets a gradient", _after(_chunks, "get_mask_att_chunk_encoder", _all_ones)
    ),
    "decoder's mask shows the future": Fault(
        STREAMING, "tokens_see_no_future", "frames of later chunks", _decoder_mask_open
    ),
    "chunk mask hides the look-ahead": Fault(
        STREAMING, "one_chunk_is_full_context", "away from full context",
        _after(_chunks, "get_mask_att_chunk_encoder", _only_back),
    ),
    "weights not from the seed": Fault(
        OFFLINE, "one_seed_gives_one_model", "built from the same seed", _before(_offline, "__init__", _unseeded)
    ),
    "evaluation counts otherwise": Fault(
        OFFLINE, "evaluation_gives_the_loss_of_training", "in training and in evaluation",
        _after(_encoder, "forward", _more_in_evaluation),
    ),
    "dropout in evaluation": Fault(
        OFFLINE, "evaluation_draws_nothing", "in evaluation, twice",
        _after(_encoder, "forward", lambda _self, result, *_: (_dropped_out(result[0]), *result[1:])),
    ),
    "sampler shows everything": Fault(
        STREAMING, "sampler_shows_a_share_of_what_was_missed", "and receives", _shows_everything
    ),
}  # fmt: skip
"""Each in 1.4.16, where the property holds without it."""
REPAIRS: Mapping[str, Plant] = {
    "predictor_ends_where_the_utterance_ends": _before(_predictor, "forward", _padding_cleared),
    "one_target_is_enough": _sums_a_little_higher,
    "predictor_fires_for_every_token": _sums_a_little_higher,
    "every_token_sees_frames": _sums_a_little_higher,
    "evaluation_gives_the_loss_of_training": _sums_a_little_higher,
    "ctc_in_evaluation_draws_nothing": _after(_ctc, "__init__", _set("dropout_rate", lambda _its: 0.0)),
}
"""Of properties that fail in 1.4.16: what makes them hold, and so shows what they fail of."""
