"""`estimate`: how much GPU memory a training step takes and which batch fits a card, predicted without a GPU."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path

from harness.commands.common import cell_runner, print_json
from harness.commands.exit_status import FINE, FOUND
from harness.commands.own_variants import chosen_dimensions
from harness.core.cells import Depth, Precision, Release
from harness.core.errors import InputError
from harness.performance.prediction.calibration import Calibration, read_calibration
from harness.performance.prediction.cards import GpuCard
from harness.performance.prediction.format import Fit, PredictionRequest, prediction_json, render_prediction
from harness.performance.prediction.measure import MeasureContext, MeasureRequest
from harness.performance.prediction.predictor import Predictor
from harness.releases import load_lock, resolve
from harness.text.terminal import say
from harness.variants.catalogue import load_variant
from harness.variants.variant import render

FRAME_SECONDS = 0.06
"""Of a stacked frame."""
TOKEN_SECONDS = 0.01
"""What `batch_type=token` counts: frames of 10 ms, as `source_len` in a jsonl row does."""
CHARACTERS_PER_SECOND = 10 / 3
"""As dense as everyday Mandarin, and as the batches of the other checks."""
LONGEST_SECONDS = 60.0
MOST_UTTERANCES = 1 << 16


def main(options: argparse.Namespace) -> int:
    """Print the prediction; 0, or 1 when a card was named that not even one utterance fits."""
    question, requested, cards = read(options)
    calibration = _calibration(options)
    say(f"measuring {question.variant.name} with few blocks on the CPU …")
    context = MeasureContext(runner=cell_runner(options), threads=len(os.sched_getaffinity(0)))
    predictor = Predictor.of(question, context, alone=None if cards else requested.utterances)
    predictor.at(requested.utterances)
    fits = [_fit(predictor, card, calibration) for card in cards]
    if options.json:
        print_json(prediction_json(predictor, requested, fits, calibration))
    else:
        print(render_prediction(predictor, requested, fits, calibration))
    return FOUND if any(fit.account is None for fit in fits) else FINE


def read(options: argparse.Namespace) -> tuple[MeasureRequest, PredictionRequest, tuple[GpuCard, ...]]:
    """What the options request, all of it read before anything is measured.

    Raises:
        InputError: what is wrong with it.
    """
    cards = tuple(map(GpuCard.parse, options.fit))
    variant = load_variant(options.variant)
    dimensions = chosen_dimensions(options.dimensions, variant)
    if dimensions is None:
        raise InputError("--dimensions is missing", next_step="write them as in --dimensions v8404-h512")
    depth = options.depth or Depth.FULL
    render(variant, dimensions=dimensions, depth=depth)
    seconds = options.seconds
    if not FRAME_SECONDS <= seconds <= LONGEST_SECONDS:
        raise InputError(
            f"--seconds {seconds:g} is no length of an utterance that is trained on",
            next_step=f"give one from {FRAME_SECONDS:g} to {LONGEST_SECONDS:g} seconds",
        )
    requested = _prediction_request(options.batch, options.batch_type, seconds)
    characters = options.characters or max(2, round(seconds * CHARACTERS_PER_SECOND))
    question = MeasureRequest(
        release=_release(options),
        variant=variant,
        dimensions=dimensions,
        depth=depth,
        precision=Precision(options.precision),
        frames=max(2, round(seconds / FRAME_SECONDS)),
        characters=max(2, characters),
    )
    return question, requested, cards


def _prediction_request(batch_size: int, batch_type: str, seconds: float) -> PredictionRequest:
    utterances = batch_size
    if batch_type == "token":
        utterances = batch_size // max(1, round(seconds / TOKEN_SECONDS))
        if utterances < 1:
            raise InputError(
                f"a batch of {batch_size:,} tokens has no room for one utterance of {seconds:g} s",
                cause=f"batch_type=token counts frames of 10 ms: such an utterance has {round(seconds * 100):,}",
                next_step="name a larger --batch or a shorter --seconds",
            )
    if utterances > MOST_UTTERANCES:
        raise InputError(
            f"a batch of {utterances:,} utterances is more than any card holds",
            next_step=f"name one of at most {MOST_UTTERANCES:,}",
        )
    return PredictionRequest(utterances=utterances, seconds=seconds, batch_type=batch_type, stated=batch_size)


def _release(options: argparse.Namespace) -> Release:
    locked = load_lock(options.lock)
    releases = resolve(options.release, locked)
    if len(releases) != 1:
        near = difflib.get_close_matches(options.release, [release.label for release in releases], n=1)
        raise InputError(
            f"--release {options.release} means {len(releases)} releases",
            next_step=f"name one, such as {near[0] if near else releases[-1].label}",
        )
    return releases[0]


def _calibration(options: argparse.Namespace) -> Calibration | None:
    return read_calibration(Path(options.baselines), options.gpu) if options.gpu else None


def _fit(predictor: Predictor, card: GpuCard, calibration: Calibration | None) -> Fit:
    utterances = predictor.largest(card, calibration)
    account = predictor.at(utterances) if utterances else None
    return Fit(card=card, utterances=utterances, account=account)
