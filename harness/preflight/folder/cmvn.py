"""am.mvn, the features' statistics in the form of a Kaldi network: as FunASR's `load_cmvn` reads it, and its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.folder.file_kinds import FileKind, content_of, text_of
from harness.preflight.folder.model_files import ModelFiles
from harness.preflight.inputs import Inputs

KEY = "frontend_conf.cmvn_file"
_FRONTENDS = frozenset({"WavFrontend", "WavFrontendOnline"})
_MELS, _STACKED = 80, 1
"""Defaults of both frontends' `n_mels` and `lfr_m`."""


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """What the release reads."""

    shifts: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    problem: str = ""
    """Why it cannot be read."""
    line: int | None = None


def read_statistics(path: Path) -> FeatureStatistics:
    """Shifts and scales, by the rules of the release's `load_cmvn`: the line after `<AddShift>` and `<Rescale>`."""
    try:
        lines = text_of(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return FeatureStatistics(problem=getattr(error, "strerror", None) or "it is not UTF-8")
    lines = lines[:-1] if lines[-1] == "" else lines
    numbers: dict[str, tuple[float, ...]] = {}
    for number, line in enumerate(lines):
        words = line.split(None, 1)
        if not words:
            return FeatureStatistics(problem="a blank line, at which FunASR ends with an IndexError", line=number + 1)
        if words[0] not in ("<AddShift>", "<Rescale>"):
            continue
        values = lines[number + 1].split() if number + 1 < len(lines) else []
        if values[:1] != ["<LearnRateCoef>"]:
            continue
        try:
            numbers[words[0]] = tuple(float(number_text) for number_text in values[3:-1])
        except ValueError:
            return FeatureStatistics(problem=f"what follows {words[0]} is no list of numbers", line=number + 2)
    if not numbers.get("<AddShift>") or not numbers.get("<Rescale>"):
        return FeatureStatistics(problem="it has no `<AddShift>` and `<Rescale>` with their numbers in the next line")
    if len(numbers["<AddShift>"]) != len(numbers["<Rescale>"]):
        sizes = f"{len(numbers['<AddShift>'])} shifts and {len(numbers['<Rescale>'])} scales"
        return FeatureStatistics(problem=f"it has {sizes}")
    return FeatureStatistics(shifts=numbers["<AddShift>"], scales=numbers["<Rescale>"])


def check_statistics(inputs: Inputs, files: ModelFiles) -> PreflightPart:
    """The findings about the statistics in force."""
    named, frontend = files.named.get(KEY), inputs.settings.get("frontend")
    if named is None or frontend not in _FRONTENDS or content_of(named.path).kind is not FileKind.TEXT:
        return PreflightPart()
    statistics, place = read_statistics(named.path), Place(file=str(named.path))
    if statistics.problem:
        problem = PreflightFinding(
            severity=Severity.BROKEN,
            rule="statistics-unreadable",
            message=f"{named.path.name} cannot be used as features' statistics: {statistics.problem}",
            place=Place(file=place.file, line=statistics.line),
            remedy="take am.mvn from the folder that the checkpoint comes from",
        )
        return PreflightPart(findings=(problem,))
    fact = PreflightFact(
        section="model folder", label="features' statistics", value=f"{len(statistics.shifts)} dimensions"
    )
    return PreflightPart(findings=(*_size(inputs, statistics, place), *_values(statistics, place)), facts=(fact,))


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _size(inputs: Inputs, statistics: FeatureStatistics, place: Place) -> Iterator[PreflightFinding]:
    mels = _number(inputs.settings.get("frontend_conf.n_mels"), _MELS)
    stacked = _number(inputs.settings.get("frontend_conf.lfr_m"), _STACKED)
    size, actual = mels * stacked, len(statistics.shifts)
    if size == actual:
        return
    more = actual > size
    consequence = (
        f"the release uses the first {size} and trains with those of other features"
        if more
        else "the training ends at the first row"
        if actual > 1
        else "the same shift and scale is used for all"
    )
    yield PreflightFinding(
        severity=Severity.WRONG if more or actual == 1 else Severity.BROKEN,
        rule="statistics-size",
        message=(
            f"{Path(place.file).name} has statistics for {actual} dimensions and the features have {size} "
            f"(n_mels {mels} × lfr_m {stacked}): {consequence}"
        ),
        place=place,
        remedy=(
            "take am.mvn and frontend_conf from the folder that the checkpoint comes from"
            + (f"; {actual} would be lfr_m {actual // mels}" if actual % mels == 0 else "")
        ),
    )


def _values(statistics: FeatureStatistics, place: Place) -> Iterator[PreflightFinding]:
    odd = [
        number
        for number, pair in enumerate(zip(statistics.shifts, statistics.scales, strict=True))
        if not all(map(math.isfinite, pair))
    ]
    flat = [number for number, scale in enumerate(statistics.scales) if math.isfinite(scale) and scale <= 0]
    if odd:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="statistics-not-finite",
            message="am.mvn holds nan or inf: the features, and with them the loss, become nan",
            place=place,
            evidence=(f"dimensions {', '.join(map(str, odd[:5]))}",),
            remedy="take am.mvn from the folder that the checkpoint comes from",
            count=len(odd),
        )
    if flat:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="statistics-scale",
            message="am.mvn scales features with 0 or less: the model hears nothing of them, or hears them upside down",
            place=place,
            evidence=(f"{len(flat)} of {len(statistics.scales)} dimensions, the first: {flat[0]}",),
            remedy="take am.mvn from the folder that the checkpoint comes from",
            count=len(flat),
        )
