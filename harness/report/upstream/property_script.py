"""Stand-alone scripts for properties that do not hold: the stored counter-example, and what it should have given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.upstream import parts

_BODY = '''
import copy
import random
import sys
import traceback
from importlib.metadata import version

import funasr
import numpy
import torch
from funasr.register import tables
@ADAPTED@
CONFIG = @CONFIG@
FRAMES = @FRAMES@
TOKENS = @TOKENS@
SEED = @SEED@
PADDING = -1  # what FunASR's collator pads token ids with


def seed(number):
    random.seed(number)
    numpy.random.seed(number)
    torch.manual_seed(number)


def build(double=False):
    """The class that AutoModel takes, with what AutoModel hands over; in double precision rounding decides less."""
    config = copy.deepcopy(CONFIG)
    conf = config.pop("model_conf")
    torch.set_default_dtype(torch.float32)
    seed(SEED)
    model = tables.model_classes[config.pop("model")](**config, **conf).train()
    if double:
        # The predictor makes new tensors of no stated type.
        torch.set_default_dtype(torch.float64)
    return model.double() if double else model


def batch(number=SEED, rows=None):
    """As FunASR's collator makes it; with `rows`, of these utterances alone."""
    generator = torch.Generator().manual_seed(number)
    speech = torch.randn(len(FRAMES), max(FRAMES), CONFIG["input_size"], generator=generator, dtype=torch.float32)
    text = torch.randint(1, CONFIG["vocab_size"], (len(FRAMES), max(TOKENS)), generator=generator)
    for row, (frames, tokens) in enumerate(zip(FRAMES, TOKENS)):
        speech[row, frames:] = 0.0
        text[row, tokens:] = PADDING
    text[0, 0] = CONFIG["vocab_size"] - 1
    rows = list(range(len(FRAMES))) if rows is None else rows
    frames, tokens = [FRAMES[row] for row in rows], [TOKENS[row] for row in rows]
    return {
        "speech": speech[rows, : max(frames)].to(torch.get_default_dtype()),
        "speech_lengths": torch.tensor(frames, dtype=torch.int32).unsqueeze(1),
        "text": text[rows, : max(tokens)],
        "text_lengths": torch.tensor(tokens, dtype=torch.int32).unsqueeze(1),
    }


seen = {}


def forward(model, inputs, number=SEED):
    """One forward pass; what the predictor puts out and what the decoder takes is in `seen`."""
    handles = [
        model.predictor.register_forward_hook(lambda _module, _args, output: seen.update(predictor=output)),
        model.decoder.register_forward_pre_hook(
            lambda _module, args, kwargs: seen.update(decoder=(args, kwargs)), with_kwargs=True
        ),
    ]
    seed(number)
    try:
        return model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
'''

_RAISES = """

def main():
    model = build()
    for number in range(24):
        try:
            forward(model, batch(SEED + number), SEED)
        except Exception as error:
            traceback.print_exc()
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/funasr/" in frame.filename]
            print(f"batch {number}: utterances of {FRAMES} frames and {TOKENS} tokens")
            return bool(own) and (type(error).__name__, own[-1].name) == ("@TYPE@", "@FUNCTION@")
    return False
"""

_PREDICTOR_ALONE = """

def main():
    model = build(double=True)
    forward(model, batch())
    together = seen["predictor"][1].detach()
    apart = 0.0
    for row in range(len(FRAMES)):
        forward(model, batch(rows=[row]))
        alone = float(seen["predictor"][1].detach()[0])
        print(f"utterance {row}: {alone:.9g} tokens predicted alone, {float(together[row]):.9g} in the batch")
        apart = max(apart, abs(alone - float(together[row])))
    return apart > 1e-5
"""

_FIRES = """

def main():
    model, bias = build(), CONFIG["model_conf"].get("predictor_bias", 0)
    empty = False
    for number in range(8):
        forward(model, batch(SEED + number))
        embeddings, _, weights = seen["predictor"][:3]
        for row, tokens in enumerate(TOKENS):
            if float(weights[row].max()) > 0.999:
                continue  # a frame fires once, and cannot give two tokens their embeddings
            fired = (embeddings[row] != 0).any(1).tolist()
            places = [place for place in range(tokens + bias) if place >= len(fired) or not fired[place]]
            if places:
                total = float(weights[row].detach().double().sum())
                print(f"batch {number}, utterance {row}: {tokens + bias} targets, the weights add up to {total:.9f},")
                print(f"  and the embeddings at {places} are all zeros")
                empty = True
    return empty
"""

_SEES = """

def main():
    model, bias = build(), CONFIG["model_conf"].get("predictor_bias", 0)
    blind = False
    for number in range(8):
        forward(model, batch(SEED + number))
        args, kwargs = seen["decoder"]
        mask = args[4] if len(args) > 4 else kwargs["chunk_mask"]
        for row, tokens in enumerate(TOKENS):
            places = [place for place in range(tokens + bias) if not (mask[row, place] != 0).any()]
            if places:
                print(f"batch {number}, utterance {row} of {FRAMES[row]} frames: targets {places} see no frame")
                blind = True
    return blind
"""

_EVALUATION = """

def main():
    model = build(double=True)
    apart = 0.0
    for number in range(5):
        inputs = batch(SEED + number)
        with torch.no_grad():
            training = forward(model.train(), copy.deepcopy(inputs))[1]
            evaluation = forward(model.eval(), copy.deepcopy(inputs))[1]
        for name in ("loss_att", "loss_pre", "loss_ctc"):
            if training.get(name) is not None:
                here, there = float(training[name]), float(evaluation[name])
                print(f"batch {number}: {name} is {here:.9g} in training and {there:.9g} in evaluation")
                apart = max(apart, abs(here - there) / max(1.0, abs(here), abs(there)))
    return apart > 1e-5
"""

_DRAWS = """

def main():
    model = build(double=True).eval()
    apart = 0.0
    with torch.no_grad():
        one, other = (forward(model, batch(), number)[1] for number in (1, 2))
    for name in ("loss_att", "loss_pre", "loss_ctc"):
        if one.get(name) is not None:
            print(f"the same batch in evaluation, twice: {name} is {float(one[name]):.9g} and {float(other[name]):.9g}")
            apart = max(apart, abs(float(one[name]) - float(other[name])))
    return apart > 1e-5
"""

_ENDINGS: Mapping[str, str] = {
    "predictor_ends_where_the_utterance_ends": _PREDICTOR_ALONE,
    "predictor_fires_for_every_token": _FIRES,
    "every_token_sees_frames": _SEES,
    "evaluation_gives_the_loss_of_training": _EVALUATION,
    "evaluation_draws_nothing": _DRAWS,
    "ctc_in_evaluation_draws_nothing": _DRAWS,
}

EXPECTED: Mapping[str, str] = {
    "predictor_ends_where_the_utterance_ends": "How many tokens are predicted for an utterance should not depend on"
    " the other utterances of its batch.",
    "predictor_fires_for_every_token": "Every target should be given an embedding from the frames: the weights are"
    " scaled so that they add up to the number of targets.",
    "every_token_sees_frames": "The mask should let every target attend to at least one frame.",
    "evaluation_gives_the_loss_of_training": "Without dropout, without the sampler and with one chunk configuration,"
    " the loss in evaluation should be that of training.",
    "evaluation_draws_nothing": "In evaluation, one batch should give one loss.",
    "ctc_in_evaluation_draws_nothing": "In evaluation, one batch should give one loss.",
    "one_target_is_enough": "An utterance of one target should give a finite loss.",
}
"""What each property says, in a sentence."""


def script(name: str, message: str, example: str, *, title: str, release: str, shims: tuple[str, ...]) -> str:
    """The text of a script for one stored counter-example; empty when none can be made for this property.

    Args:
        example: The counter-example as the outcome's evidence has it: YAML.
    """
    import yaml

    raised, _, place = message.partition(" in ")
    ending = _ENDINGS.get(name, "")
    if place.startswith("funasr/") and raised.isidentifier():
        ending = parts.fill(_RAISES, {"TYPE": raised, "FUNCTION": place.partition(":")[2].partition(":")[0]})
    if not ending:
        return ""
    config: dict[str, Any] = yaml.safe_load(example)
    drawn = config.pop("example")
    values = {
        "TITLE": parts.docstring(title),
        "RELEASE": release,
        "ADAPTED": parts.adapted(shims),
        "CONFIG": parts.literal(config),
        "FRAMES": str(drawn["frames"]),
        "TOKENS": str(drawn["tokens"]),
        "SEED": str(drawn["seed"]),
    }
    return parts.fill(parts.HEAD + _BODY + ending + parts.FOOT, values)
