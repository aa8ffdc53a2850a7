"""Formats a memory prediction: text for the terminal, and the record that `estimate --json` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from harness.performance.prediction.account import PHASES, Account
from harness.performance.prediction.calibration import Calibration
from harness.performance.prediction.cards import MARGIN, GpuCard
from harness.performance.prediction.predictor import NOT_ON_A_GPU, Predictor, exact, figures
from harness.performance.prediction.recording import StorageUse
from harness.text.units import memory, plural

SCHEMA = 1
_PHASE_NAMES = {"forward": "forward pass", "backward": "backward pass", "update": "optimizer's step"}
_HOW = {
    StorageUse.WEIGHT: "exact: the parameters' shapes",
    StorageUse.GRADIENT: "exact: as large as what is trained",
    StorageUse.OPTIMIZER: "exact: the optimizer's tensors",
    StorageUse.ACTIVATION: "measured on the CPU, repeated for each block",
    StorageUse.TEMPORARY: "measured on the CPU; the optimizer's by rule",
    StorageUse.BATCH: "exact: the batch's shapes",
}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The answer to `--fit`."""

    card: GpuCard
    utterances: int
    """0 when not even one fits."""
    account: Account | None
    """Of a batch of so many."""


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """The requested batch, in the user's terms."""

    utterances: int
    seconds: float
    batch_type: str
    """`example` or `token`, as FunASR's `dataset_conf.batch_type`."""
    stated: int
    """The batch size as given, in that unit."""


def render_prediction(
    predictor: Predictor, requested: PredictionRequest, fits: Sequence[Fit], calibration: Calibration | None
) -> str:
    """What the command prints."""
    return "\n".join(_lines(predictor, requested, fits, calibration))


def _lines(
    predictor: Predictor, requested: PredictionRequest, fits: Sequence[Fit], calibration: Calibration | None
) -> Iterator[str]:
    question = predictor.question
    predicted = predictor.at(requested.utterances)
    yield (
        f"{question.variant.name} {question.dimensions} {question.depth}, FunASR {question.release.label}, "
        f"{question.precision}, {predictor.optimizer.name}"
    )
    yield _batch(predictor, requested)
    yield ""
    totals = exact(predictor)
    rows = []
    for use in StorageUse:
        if predicted.parts[use] or use in totals:
            rows.append(
                (use.value, memory(predicted.parts[use]), memory(totals[use]) if use in totals else "", _HOW[use])
            )
        if use is StorageUse.ACTIVATION:
            rows += [(f"- {where}", memory(size), "", "") for where, size in by_module(predicted.activations).items()]
    rows.append(("allocator's rounding", memory(predicted.rounding), "", "by rule"))
    header = ("part", "at the peak", "in all", "how it is known")
    yield tabulate(rows, headers=header, colalign=("left", "right", "right", "left"), disable_numparse=True)
    yield ""
    sizes = figures(predicted, calibration)
    calibrated = f"calibrated with {calibration.key}" if calibration else f"not calibrated, {NOT_ON_A_GPU}"
    phases = ", ".join(f"{_PHASE_NAMES[name]} {memory(predicted.by_phase[name])}" for name in PHASES)
    allocated, reserved = memory(sizes["predicted_allocated_bytes"]), memory(sizes["predicted_reserved_bytes"])
    yield f"peak allocated  {allocated}, in the {_PHASE_NAMES[predicted.phase]} ({phases})"
    yield f"peak reserved   {reserved} (the allocator's published rules; {calibrated})"
    yield f"context and workspaces: {_context(calibration)}"
    yield from (f"doubtful: {doubt}" for doubt in predictor.doubts)
    for fit in fits:
        yield from _fit(fit, requested, calibration)


def by_module(activations: Mapping[str, int]) -> dict[str, int]:
    """The activations by the module whose blocks made them, the largest first.

    `elsewhere` is outside of all stacks of blocks: embedding, predictor, sampler, projection onto the vocabulary, loss.
    """
    by_name: Counter[str] = Counter()
    for place, size in activations.items():
        by_name[f"{place.partition('.')[0]}'s blocks" if place else "elsewhere"] += size
    return dict(by_name.most_common())


def _batch(predictor: Predictor, requested: PredictionRequest) -> str:
    question = predictor.question
    token_batch = f" (batch_type=token, batch_size={requested.stated:,})" if requested.batch_type == "token" else ""
    return (
        f"a batch of {plural(requested.utterances, 'utterance')} of {requested.seconds:g} s{token_batch}: "
        f"{question.frames} stacked frames and {question.characters} characters each"
    )


def _fit(fit: Fit, requested: PredictionRequest, calibration: Calibration | None) -> Iterator[str]:
    yield ""
    card = f"a card of {fit.card.name} ({memory(fit.card.size)})"
    if fit.account is None:
        yield f"{card} does not hold a training step of even one utterance of {requested.seconds:g} s"
    else:
        peak = figures(fit.account, calibration)["predicted_reserved_bytes"]
        tokens = f", batch_type=token with batch_size={_tokens(fit.utterances, requested.seconds):,}"
        yield f"{card} holds {plural(fit.utterances, 'utterance')} of {requested.seconds:g} s at most{tokens}"
        parts = ", ".join(f"{use} {memory(size)}" for use, size in fit.account.parts.items() if size)
        yield f"  predicted: reserved {memory(peak)}, allocated {memory(fit.account.allocated)} ({parts})"
    known = "" if calibration else f" for the context and the workspaces, which were {NOT_ON_A_GPU}"
    yield f"  margin: {memory(fit.card.margin)} ({MARGIN:.0%} of the card) are left free{known}"


def _context(calibration: Calibration | None) -> str:
    if calibration is None:
        return NOT_ON_A_GPU
    return (
        f"{memory(calibration.context_bytes)} and {memory(calibration.workspace_bytes)}, "
        f"measured on {calibration.origin.get('gpu', calibration.key)}"
    )


def _tokens(utterances: int, seconds: float) -> int:
    """The batch in frames of 10 ms, as `batch_type=token` counts."""
    return utterances * round(seconds * 100)


def prediction_json(
    predictor: Predictor, requested: PredictionRequest, fits: Sequence[Fit], calibration: Calibration | None
) -> dict[str, object]:
    """The record that `--json` prints; sizes in bytes."""
    question = predictor.question
    predicted = predictor.at(requested.utterances)
    return {
        "schema": SCHEMA,
        "release": question.release.label,
        "variant": question.variant.name,
        "vocab_size": question.dimensions.vocab_size,
        "hidden_size": question.dimensions.hidden_size,
        "depth": question.depth,
        "precision": question.precision,
        "optimizer": predictor.optimizer.name,
        "utterances": requested.utterances,
        "seconds_each": requested.seconds,
        "frames_each": question.frames,
        "characters_each": question.characters,
        **_account(predicted, calibration),
        "weights_bytes": predictor.weights_bytes,
        "gradient_bytes": predictor.gradient_bytes,
        "optimizer_state_bytes": exact(predictor)[StorageUse.OPTIMIZER],
        "context_bytes": calibration.context_bytes if calibration else None,
        "workspace_bytes": calibration.workspace_bytes if calibration else None,
        "calibration": calibration.key if calibration else None,
        "doubts": list(predictor.doubts),
        "fit": [_fit_json(fit, requested, calibration) for fit in fits],
    }


def _fit_json(fit: Fit, requested: PredictionRequest, calibration: Calibration | None) -> dict[str, object]:
    return {
        "card": fit.card.name,
        "card_bytes": fit.card.size,
        "margin_bytes": fit.card.margin,
        "utterances": fit.utterances,
        "tokens": _tokens(fit.utterances, requested.seconds),
        **(_account(fit.account, calibration) if fit.account else {}),
    }


def _account(predicted: Account, calibration: Calibration | None) -> dict[str, object]:
    return {
        **figures(predicted, calibration),
        "peak_phase": predicted.phase,
        "activations_at_peak_bytes": by_module(predicted.activations),
        "parts_at_peak_bytes": {use.value: size for use, size in predicted.parts.items()}
        | {"rounding": predicted.rounding},
        "peak_by_phase_bytes": dict(predicted.by_phase),
    }
