"""A stand-alone script for a failed `construct` or `loss_contract`: the model, one batch, forward and backward."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.cells import Depth, Dimensions, Outcome
from harness.report.upstream import parts
from harness.variants.variant import Variant, render

_FRAMES = (40, 33, 28, 21)
_TOKENS = (8, 7, 5, 3)
_SMALL_VOCABULARY = 30
_LEFT_OUT = ("dataset", "dataset_conf", "train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf")

_BODY = '''
import json
import random
import sys
import tempfile
import traceback
from importlib.metadata import version
from pathlib import Path

import numpy
import torch
from funasr import AutoModel
@ADAPTED@
VOCAB_SIZE = @VOCAB_SIZE@
CONFIG = @CONFIG@
FRAMES = @FRAMES@
INPUTS = @INPUTS@
PADDING = -1  # what FunASR's collator pads token ids with


def seed():
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


def build():
    tokens = ["<blank>", "<s>", "</s>", *(chr(0x4E00 + number) for number in range(VOCAB_SIZE - 4)), "<unk>"]
    token_list = Path(tempfile.mkdtemp()) / "tokens.json"
    token_list.write_text(json.dumps(tokens), encoding="utf-8")
    CONFIG["tokenizer_conf"]["token_list"] = str(token_list)
    seed()
    return AutoModel(**CONFIG, device="cpu", disable_update=True).model.train()


def batch(input_size):
    """As FunASR's collator makes it: lengths [batch, 1], token ids padded with -1, features with zeros."""
    speech = torch.randn(len(FRAMES), max(FRAMES), input_size, generator=torch.Generator().manual_seed(0))
    for row, frames in enumerate(FRAMES):
        speech[row, frames:] = 0.0
    made = {"speech": speech, "speech_lengths": torch.tensor(FRAMES, dtype=torch.int32).unsqueeze(1)}
    for name, values in INPUTS.items():
        made[name] = torch.tensor(values, dtype=torch.int32 if name.endswith("lengths") else torch.int64)
    return made


calls = []


def watch(model):
    """Print what enters the losses, and note which losses and projections are called."""

    def into(name):
        def hook(module, args, kwargs):
            calls.append(name)
            scores = args[0] if args else next(iter(kwargs.values()))
            print(f"{name} (built for {getattr(module, 'size', 'any number of')} classes) takes {list(scores.shape)}")

        return hook

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if "Loss" in type(module).__name__ and (hasattr(module, "size") or isinstance(module, torch.nn.CTCLoss)):
            module.register_forward_pre_hook(into(name), with_kwargs=True)
        elif isinstance(module, torch.nn.Linear) and (last.endswith("output_layer") or last == "ctc_lo"):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
'''

_RAISES = """

def main():
    try:
        model = build()
        watch(model)
        seed()
        loss, stats, weight = model(**batch(@INPUT_SIZE@))
        loss.backward()
    except Exception as error:
        traceback.print_exc()
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/funasr/" in frame.filename]
        place = (type(error).__name__, own[-1].name, own[-1].filename.endswith("@FILE@")) if own else ()
        return place == ("@TYPE@", "@FUNCTION@", True)
    print(f"no exception; the loss is {float(loss.detach()):.6g}")
    return False
"""

_FINDS = """

def main():
    model = build()
    watch(model)
@BUILT@"""

_FORWARD = """\
    seed()
    loss, stats, weight = model(**batch(@INPUT_SIZE@))
    print(f"the loss is {float(loss.detach()):.6g}")
@FOUND@"""

_BUILT: Mapping[str, str] = {
    "LossBuiltForOtherVocabulary": """\
    size = model.get_submodule("@PLACE@").size
    print(f"@PLACE@ is built for {size} classes, the vocabulary has {VOCAB_SIZE}")
    return size != VOCAB_SIZE
""",
    "ProjectionOfOtherWidth": """\
    layer = model.get_submodule("@PLACE@")
    print(f"@PLACE@: {layer.in_features} -> {layer.out_features}, the vocabulary has {VOCAB_SIZE}")
    return layer.out_features != VOCAB_SIZE or layer.in_features != @WIDTH@
""",
    "Frozen": """\
    frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
    print(f"no gradient is asked for {frozen}; the config freezes nothing")
    return bool(frozen)
""",
    "SharedWeights": """\
    names = {}
    for name, one in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(one), []).append(name)
    shared = [group for group in names.values() if len(group) > 1]
    print(f"one tensor under several names: {shared}; the config shares nothing")
    return bool(shared)
""",
}
"""Findings that the built model shows, by their kind."""

_FOUND: Mapping[str, str] = {
    "LossNotTheSum": """\
    weights = @WEIGHTS@
    for name, part in stats.items():
        print(f"  {name} = {float(part):.6g}" if part is not None else f"  {name} is not told")
    total = sum(share * float(stats[name]) for name, share in weights.items() if share)
    print(f"the config makes it {' + '.join(f'{share:g} * {name}' for name, share in weights.items())} = {total:.6g}")
    return abs(float(loss.detach()) - total) > 1e-4 * max(1.0, abs(total))
""",
    "NoGradient": """\
    loss.backward()
    prefixes = @PREFIXES@
    below = [
        (name, one)
        for name, one in model.named_parameters()
        if one.requires_grad and any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
    ]
    for name, one in below:
        print(f"  {name}: gradient {'None' if one.grad is None else format(float(one.grad.norm()), '.3g')}")
    return not any(one.grad is not None and float(one.grad.norm()) > 0 for _, one in below)
""",
    "LossNotFinite": """\
    return not torch.isfinite(loss.detach()).all()
""",
    "LossNotCalled": """\
    print(f"called: {sorted(set(calls))}")
    return "@PLACE@" not in calls
""",
    "ProjectionNotCalled": """\
    print(f"called: {sorted(set(calls))}")
    return "@PLACE@" not in calls
""",
}
"""Findings that a forward pass shows."""


def shapes(variant: Variant, cell_shape: Dimensions) -> Iterator[Dimensions]:
    """The shapes to try: a tiny one, which is easier to read, and the cell's own."""
    heads = [int(str(_at(variant.config, path))) for path in variant.heads] or [1]
    vocabulary = max(_SMALL_VOCABULARY, variant.anatomy.largest_label(variant.config) + 1)
    tiny = Dimensions(vocab_size=vocabulary, hidden_size=4 * math.lcm(*heads))
    yield tiny
    if cell_shape != tiny:
        yield cell_shape


def script(outcome: Outcome, variant: Variant, dimensions: Dimensions, *, title: str) -> str | None:
    """The script's text at a shape; None when none can be made of this kind of finding."""
    failure = outcome.failure
    if failure is None:
        return None
    config = {
        key: value
        for key, value in render(variant, dimensions=dimensions, depth=Depth.REDUCED).items()
        if key not in _LEFT_OUT and value is not None
    }
    values = {
        "TITLE": parts.docstring(title),
        "RELEASE": outcome.cell.release,
        "ADAPTED": parts.adapted(outcome.shims),
        "VOCAB_SIZE": str(dimensions.vocab_size),
        "CONFIG": parts.literal(config),
        "FRAMES": str([frames * round(0.06 / variant.frame_seconds) for frames in _FRAMES]),
        "INPUTS": parts.literal(_inputs(variant, dimensions.vocab_size)),
        "INPUT_SIZE": str(_input_size(variant)),
        "WIDTH": str(dimensions.hidden_size),
    }
    ending = _ending(failure.signature, bool(failure.frames), variant, config)
    return parts.fill(parts.HEAD + _BODY + ending + parts.FOOT, values) if ending else None


def _ending(signature: str, raised: bool, variant: Variant, config: Mapping[str, Any]) -> str | None:
    kind, _, place = signature.partition("@")
    if raised:
        file, _, function = place.partition(":")
        return parts.fill(_RAISES, {"TYPE": kind, "FILE": file, "FUNCTION": function})
    values = {
        "PLACE": place,
        "PREFIXES": parts.literal(tuple(variant.groups.get(place, (place,)))),
        "WEIGHTS": parts.literal(_weights(variant, config)),
    }
    if kind in _BUILT:
        return parts.fill(_FINDS, {"BUILT": parts.fill(_BUILT[kind], values)})
    if kind in _FOUND:
        return parts.fill(_FINDS, {"BUILT": parts.fill(_FORWARD, {"FOUND": parts.fill(_FOUND[kind], values)})})
    return None


def _weights(variant: Variant, config: Mapping[str, Any]) -> dict[str, float]:
    told: dict[str, float] = variant.anatomy.told(config).get("loss_is", {})
    if told:
        return told
    conf = config["model_conf"]
    ctc = conf.get("ctc_weight", 0.0)
    return {"loss_att": 1 - ctc, "loss_pre": conf.get("predictor_weight", 0.0), "loss_ctc": ctc}


def _input_size(variant: Variant) -> int:
    frontend = variant.config["frontend_conf"]
    return int(frontend.get("n_mels", 80)) * int(frontend.get("lfr_m", 1))


def _at(config: Mapping[str, Any], path: str) -> object:
    from harness.variants.config_paths import look_up

    return look_up(config, path)


def _inputs(variant: Variant, vocab_size: int) -> dict[str, Any]:
    """The batch's token ids and what comes with them, as `harness.worker.release.batch_making` makes them."""
    drawn = random.Random(0)  # noqa: S311 - token ids, no secret
    texts = [[drawn.randrange(3, vocab_size) for _ in range(count)] for count in _TOKENS]
    # A text of one token twice in a row wants more frames of CTC than the shortest utterance has.
    for text in texts:
        text[1:] = [token if token != before else 3 for before, token in itertools.pairwise(text)]
    texts[0][0] = vocab_size - 1
    labels = variant.anatomy.labels_before_text
    before = [[ids[row % len(ids)] for ids in labels] for row in range(len(texts))]
    width = max(_TOKENS)
    made: dict[str, Any] = {
        "text": [[*first, *text, *[-1] * (width - len(text))] for first, text in zip(before, texts, strict=True)],
        "text_lengths": [[len(labels) + len(text)] for text in texts],
    }
    if "hotword_pad" in variant.inputs:
        made |= _hotwords(variant, texts, width)
    return made


def _hotwords(variant: Variant, texts: list[list[int]], width: int) -> dict[str, Any]:
    words = [text[: 2 + row] for row, text in enumerate(texts) if row % 2 == 0] + [[1]]
    longest = max(map(len, words))
    made: dict[str, Any] = {
        "hotword_pad": [word + [0] * (longest - len(word)) for word in words],
        "hotword_lengths": [len(word) for word in words],
    }
    if variant.anatomy.no_hotword:
        none = int(str(_at(variant.config, variant.anatomy.no_hotword)))
        cut = [2 + row if row % 2 == 0 else 0 for row in range(len(texts))]
        made["seaco_label_pad"] = [
            [*text[:end], *[none] * (len(text) - len(text[:end])), *[-1] * (width - len(text))]
            for text, end in zip(texts, cut, strict=True)
        ]
    return made
