"""A stand-alone script for a failed `construct` or `loss_contract`: the model, one batch, forward and backward."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.cells import Depth, Dimensions, Outcome
from harness.report.upstream.scripts import is_dotted, render_script
from harness.variants.architecture import look_up
from harness.variants.variant import Variant, render

_FRAMES = (40, 33, 28, 21)
_TOKENS = (8, 7, 5, 3)
_SMALL_VOCABULARY = 30
_LEFT_OUT = ("dataset", "dataset_conf", "train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf")

_ENDINGS = frozenset(
    {
        *("LossBuiltForOtherVocabulary", "ProjectionOfOtherWidth", "Frozen", "SharedWeights"),
        *("LossNotTheSum", "NoGradient", "LossNotFinite", "LossNotCalled", "ProjectionNotCalled"),
    }
)
"""Kinds of findings that `contract.py.j2` has a function for, besides exceptions."""


def sizes(variant: Variant, of_cell: Dimensions) -> Iterator[Dimensions]:
    """The dimensions to try: tiny ones, which are easier to read, and the cell's own."""
    heads = [int(str(look_up(variant.config, path))) for path in variant.heads] or [1]
    vocabulary = max(_SMALL_VOCABULARY, variant.traits.largest_label(variant.config) + 1)
    tiny = Dimensions(vocab_size=vocabulary, hidden_size=4 * math.lcm(*heads))
    yield tiny
    if of_cell != tiny:
        yield of_cell


def contract_script(outcome: Outcome, variant: Variant, dimensions: Dimensions, *, title: str) -> str | None:
    """The script's text at some dimensions; None when none can be made of this kind of finding."""
    failure = outcome.failure
    if failure is None:
        return None
    kind, _, place = failure.signature.partition("@")
    file, function = "", ""
    if failure.frames:
        ending = "raises"
        file, _, function = place.partition(":")
    elif kind in _ENDINGS and is_dotted(place):
        ending = kind
    else:
        return None
    config = {
        key: value
        for key, value in render(variant, dimensions=dimensions, depth=Depth.REDUCED).items()
        if key not in _LEFT_OUT and value is not None
    }
    return render_script(
        "contract.py.j2",
        title=title,
        release=outcome.cell.release,
        shims=outcome.shims,
        ending=ending,
        type=kind,
        file=file,
        function=function,
        place=place,
        prefixes=tuple(variant.groups.get(place, (place,))),
        weights=_weights(variant, config),
        vocab_size=dimensions.vocab_size,
        width=dimensions.hidden_size,
        input_size=_input_size(variant),
        config=config,
        frames=[frames * round(0.06 / variant.frame_seconds) for frames in _FRAMES],
        inputs=_inputs(variant, dimensions.vocab_size),
    )


def _weights(variant: Variant, config: Mapping[str, Any]) -> dict[str, float]:
    declared: dict[str, float] = variant.traits.to_dict(config).get("loss_is", {})
    if declared:
        return declared
    conf = config["model_conf"]
    ctc = conf.get("ctc_weight", 0.0)
    return {"loss_att": 1 - ctc, "loss_pre": conf.get("predictor_weight", 0.0), "loss_ctc": ctc}


def _input_size(variant: Variant) -> int:
    frontend = variant.config["frontend_conf"]
    return int(frontend.get("n_mels", 80)) * int(frontend.get("lfr_m", 1))


def _inputs(variant: Variant, vocab_size: int) -> dict[str, Any]:
    """The batch's token ids and what comes with them, as `harness.worker.release.batches` makes them."""
    drawn = random.Random(0)  # noqa: S311 - token ids, no secret
    texts = [[drawn.randrange(3, vocab_size) for _ in range(count)] for count in _TOKENS]
    # A text of one token twice in a row wants more frames of CTC than the shortest utterance has.
    for text in texts:
        text[1:] = [token if token != before else 3 for before, token in itertools.pairwise(text)]
    texts[0][0] = vocab_size - 1
    labels = variant.traits.labels_before_text
    before = [[ids[row % len(ids)] for ids in labels] for row in range(len(texts))]
    width = max(_TOKENS)
    inputs: dict[str, Any] = {
        "text": [[*first, *text, *[-1] * (width - len(text))] for first, text in zip(before, texts, strict=True)],
        "text_lengths": [[len(labels) + len(text)] for text in texts],
    }
    if "hotword_pad" in variant.inputs:
        inputs |= _hotwords(variant, texts, width)
    return inputs


def _hotwords(variant: Variant, texts: list[list[int]], width: int) -> dict[str, Any]:
    words = [text[: 2 + row] for row, text in enumerate(texts) if row % 2 == 0] + [[1]]
    longest = max(map(len, words))
    inputs: dict[str, Any] = {
        "hotword_pad": [word + [0] * (longest - len(word)) for word in words],
        "hotword_lengths": [len(word) for word in words],
    }
    if variant.traits.no_hotword:
        none = int(str(look_up(variant.config, variant.traits.no_hotword)))
        cut = [2 + row if row % 2 == 0 else 0 for row in range(len(texts))]
        inputs["seaco_label_pad"] = [
            [*text[:end], *[none] * (len(text) - len(text[:end])), *[-1] * (width - len(text))]
            for text, end in zip(texts, cut, strict=True)
        ]
    return inputs
