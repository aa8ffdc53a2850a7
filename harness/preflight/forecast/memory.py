"""Memory on a card, predicted from the user's own rows: their largest batch, and the largest `batch_size` that fits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.cells import Depth, Precision, Severity
from harness.core.errors import HarnessError, InputError, VariantError
from harness.performance.prediction.cards import GpuCard
from harness.performance.prediction.measure import MeasureContext, MeasureRequest
from harness.performance.prediction.predictor import Predictor
from harness.performance.prediction.recording import StorageUse
from harness.preflight.findings import PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.forecast.worst_batch import BY_ROWS, DEFAULT_SIZE, Batch, RowLength, in_their_type, worst_batch
from harness.preflight.inputs import Inputs
from harness.preflight.rows.data_files import data_sets
from harness.run.prepare import no_stored_examples
from harness.run.progress import stage
from harness.run.runner import CellRunner, RunnerSettings
from harness.text.units import memory, plural
from harness.variants.catalogue import load_variant
from harness.variants.from_folder import dimensions_of
from harness.variants.variant import Variant
from harness.worker.trainer.expectation import row_limits
from harness.worker.trainer.options import precision_overrides, trainer_options

SECTION = "memory"
PREDICTED = "predicted, not measured on a GPU"
LONGEST_FRAMES = 6000.0
"""60 s in frames of 10 ms: longer ones are in another unit, or no rows for training."""
_LONGEST_LINE = 1 << 20
_MOST_LINES = 1_000_000
CARDS: Mapping[str, str] = {
    **{"t4": "16GB", "v100": "32GB", "p100": "16GB", "a10": "24GB", "l4": "24GB", "a30": "24GB", "rtx 3060": "12GB"},
    **{"rtx 3080": "10GB", "rtx 3090": "24GB", "rtx 4080": "16GB", "rtx 4090": "24GB", "rtx 5090": "32GB"},
    **{"a100": "40GB", "a100-80gb": "80GB", "a6000": "48GB", "l40": "48GB", "l40s": "48GB", "a40": "48GB"},
    **{"h100": "80GB", "h200": "141GB", "h20": "96GB", "a800": "80GB", "h800": "80GB"},
}
"""What their vendors state; of a card that is sold with several sizes, the smaller."""


@dataclass(frozen=True, kw_only=True)
class Fits:
    """What one way of training takes."""

    name: str
    peak: int
    """Of the worst batch."""
    largest: int
    """Rows of its length that fit the card."""


def check(inputs: Inputs) -> PreflightPart:
    """Figures where a card is named; they take as long as some training steps of a shallow model."""
    if inputs.card is None:
        return PreflightPart()
    if data_sets(inputs).of("train") is None:
        return PreflightPart(skipped="memory: no training rows can be read (--train)")
    try:
        card = card_of(inputs.card)
        variant = _in_force(inputs, load_variant(str(inputs.model)))
        rows = list(rows_of(inputs))
        if not rows:
            return PreflightPart(skipped="memory: no training row is within this release's limits")
        batch = worst_batch(rows, _type(inputs), _size(inputs))
        if batch.frames > LONGEST_FRAMES:
            return PreflightPart(
                skipped=f"memory: source_len of {batch.longest[0].key} is {batch.frames:.0f}: no frames of 10 ms"
            )
        return _predicted(inputs, variant, batch, card)
    except (VariantError, InputError) as error:
        return PreflightPart(skipped=f"memory: {error}")
    except HarnessError as error:
        return PreflightPart(skipped=f"memory cannot be predicted: {error}")


def card_of(name: str) -> GpuCard:
    """A card by its memory, or by its name.

    Raises:
        InputError: it is neither.
    """
    known = CARDS.get(" ".join(name.lower().replace("nvidia", "").replace("geforce", "").split()))
    return replace(GpuCard.parse(known), name=name) if known else GpuCard.parse(name)


def rows_of(inputs: Inputs) -> Iterator[RowLength]:
    """The rows that the release's limits let pass, by their stated lengths."""
    limits = row_limits(str(inputs.install_dir), inputs.settings.section("dataset_conf"))
    training_set = data_sets(inputs).of("train")
    for number, row in (
        numbered_row for path in (training_set.files if training_set else ()) for numbered_row in _rows(path)
    ):
        source, target = _number(row.get("source_len"), 1.0), _number(row.get("target_len"), 0.0)
        if source <= limits.get("max_source_length", source) and source + target <= limits.get(
            "max_token_length", source + target
        ):
            yield RowLength(key=str(row.get("key", f"line {number}")), line=number, source=source, target=target)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number in range(1, _MOST_LINES + 1):
            line = file.readline(_LONGEST_LINE)
            if not line:
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, Mapping):
                yield number, row


def _number(value: object, default: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
    return float(value) if known else default  # type: ignore[arg-type]


def _type(inputs: Inputs) -> str:
    return str(inputs.settings.get("dataset_conf.batch_type", BY_ROWS))


def _size(inputs: Inputs) -> int:
    size = inputs.settings.get("dataset_conf.batch_size", DEFAULT_SIZE)
    return int(size) if isinstance(size, int | float) and size >= 1 else DEFAULT_SIZE


def _in_force(inputs: Inputs, variant: Variant) -> Variant:
    """The variant with the command's overrides of its own config."""
    config = {**variant.config}
    for override in inputs.command.overrides:
        section, _, key = override.path.partition(".")
        if key and "." not in key and isinstance(config.get(section), Mapping):
            config[section] = {**config[section], key: override.value}
        elif not key and section in ("optim", "scheduler"):
            config[section] = override.value
    return replace(variant, config=config)


def _predicted(inputs: Inputs, variant: Variant, batch: Batch, card: GpuCard) -> PreflightPart:
    fits = [
        _fit(inputs, variant, batch, card, precision, name)
        for precision, name in (
            (Precision.FP32, str(Precision.FP32)),
            *_halves(inputs),
        )
    ]
    fit_in_force = next((fit for fit, _ in fits if _precision(inputs) in fit.name), fits[0][0])
    ways = [way for fit, gathered in fits for way in (fit, gathered)]
    return PreflightPart(
        findings=tuple(_findings(inputs, batch, card, fit_in_force)), facts=tuple(_facts(inputs, batch, card, ways))
    )


def _precision(inputs: Inputs) -> str:
    train = inputs.settings.section("train_conf")
    return next((name for name in (Precision.BF16, Precision.FP16) if train.get(f"use_{name}")), Precision.FP32)


def _halves(inputs: Inputs) -> Iterator[tuple[Precision, str]]:
    """The half precisions of the release's trainer; both take the same memory, so that one is measured."""
    precisions = [precision for precision in (Precision.BF16, Precision.FP16) if _has_precision(inputs, precision)]
    if precisions:
        yield precisions[0], " and ".join(precisions)


def _has_precision(inputs: Inputs, precision: Precision) -> bool:
    entry = inputs.command.entry
    if entry is None:
        entry = trainer_options(str(inputs.install_dir), inputs.release.version, "train_ds").native_entry
    return precision_overrides(str(inputs.install_dir), entry, precision) is not None


def _fit(
    inputs: Inputs, variant: Variant, batch: Batch, card: GpuCard, precision: Precision, name: str
) -> tuple[Fits, Fits]:
    """What the batch takes in a precision; and the same with accumulation, which keeps gradients over a forward."""
    stacked = float((variant.config.get("frontend_conf") or {}).get("lfr_n", 1))
    question = MeasureRequest(
        release=inputs.release,
        variant=variant,
        dimensions=dimensions_of(variant),
        depth=Depth.FULL,
        precision=precision,
        frames=max(2, round(batch.frames / stacked)),
        characters=max(2, round(batch.tokens)),
    )
    measure_context = MeasureContext(runner=_runner(inputs), threads=len(os.sched_getaffinity(0)))
    with stage(f"predicting memory in {name} from a shallow model on the CPU"):
        predictor = Predictor.of(question, measure_context)
    account = predictor.at(batch.rows)
    gradients_kept = max(0, predictor.gradient_bytes - account.parts.get(StorageUse.GRADIENT, 0))
    smaller = replace(card, size=max(1, card.size - round(gradients_kept / 0.9)))
    return (
        Fits(name=name, peak=account.reserved, largest=predictor.largest(card, None)),
        Fits(
            name=f"{name}, accumulated",
            peak=account.reserved + gradients_kept,
            largest=predictor.largest(smaller, None),
        ),
    )


def _runner(inputs: Inputs) -> CellRunner:
    settings = RunnerSettings(
        environment=inputs.environment,
        cache=inputs.cache,
        rule=lambda outcome: outcome,
        counterexamples=no_stored_examples,
        jobs=1,
    )
    return CellRunner(settings=settings)


def _findings(inputs: Inputs, batch: Batch, card: GpuCard, fit_in_force: Fits) -> Iterator[PreflightFinding]:
    if fit_in_force.largest >= batch.rows:
        return
    kind = _type(inputs)
    fitting = in_their_type(batch, fit_in_force.largest, kind)
    keys = ", ".join(row.key for row in batch.longest)
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="batch-does-not-fit",
        message=f"the largest batch of these rows takes {memory(fit_in_force.peak)} and {card.name} has "
        f"{memory(card.size)}: "
        f"training ends out of memory when it comes ({PREDICTED})",
        place=inputs.settings.place("dataset_conf.batch_size"),
        evidence=(f"{batch.rows} rows of up to {batch.frames:.0f} frames and {batch.tokens:.0f} tokens: {keys}",),
        remedy=f"++dataset_conf.batch_size={fitting}"
        if fitting
        else "take a larger card, or leave out the longest rows: ++dataset_conf.max_token_length=1000",
    )


def _facts(inputs: Inputs, batch: Batch, card: GpuCard, ways: Sequence[Fits]) -> Iterator[PreflightFact]:
    kind = _type(inputs)
    first = batch.longest[0]
    yield PreflightFact(
        section=SECTION,
        label="largest batch of these rows",
        value=f"{plural(batch.rows, 'row')} of up to {batch.frames / 100:.1f} s and {batch.tokens:.0f} tokens, "
        f"the longest {first.key} (line {first.line}); all figures {PREDICTED}",
    )
    for fit in ways:
        fitting = in_their_type(batch, fit.largest, kind)
        yield PreflightFact(
            section=SECTION,
            label=f"that batch in {fit.name}",
            value=f"{memory(fit.peak)}; largest batch_size on {card.name} {fitting or 'none'} (batch_type {kind})",
        )
