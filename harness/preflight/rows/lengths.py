"""Findings about `source_len` and `target_len` against the recordings and the texts, with the unit that they are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.core.cells import Severity
from harness.corpus.jsonl import target_length
from harness.corpus.row_limits import ABSOLUTE, RELATIVE, Length, Unit, unit_of
from harness.corpus.user_speech import evenly
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.gathered import Gathered
from harness.preflight.rows.measured import Arrivals

GUESSED_FROM = 2_000
"""Rows from which the unit is guessed, evenly spaced."""

_FAR = 0.3
"""How far a `target_len` may be from every count of the text that people use."""


def check(rows: Gathered, inputs: Inputs, arrivals: Arrivals | None) -> Iterator[PreflightFinding]:
    """What is wrong with the stated lengths."""
    yield from _about_source(rows, inputs, arrivals)
    yield from _about_target(rows, arrivals)


def length_of(rows: Gathered, number: int) -> Length | None:
    """A row's stated and measured length; None where one is not known."""
    row, header = rows.file.rows[number], rows.headers_by_row[number]
    if row.source_len is None or not header.rate:
        return None
    return Length(stated=row.source_len, seconds=header.seconds, rate=header.rate, channels=header.channels)


def wrong_lengths(rows: Gathered) -> list[int]:
    """Numbers of the rows whose `source_len` is not their recording's in frames of 10 ms."""
    numbers = []
    for number, (row, header) in enumerate(zip(rows.file.rows, rows.headers_by_row, strict=True)):
        if row.source_len is None or not header.rate:
            continue
        seconds = header.seconds
        if abs(row.source_len / 100 - seconds) > max(RELATIVE * seconds, ABSOLUTE / 100):
            numbers.append(number)
    return numbers


def unit(rows: Gathered) -> Unit | None:
    """The unit that nearly all `source_len` are in."""
    lengths = [length for number in evenly(range(rows.count), GUESSED_FROM) if (length := length_of(rows, number))]
    return unit_of(lengths)


def _about_source(rows: Gathered, inputs: Inputs, arrivals: Arrivals | None) -> Iterator[PreflightFinding]:
    without_length = [number for number, row in enumerate(rows.file.rows) if row.source and row.source_len is None]
    if without_length:
        yield _without_length(rows, inputs, without_length)
    off = wrong_lengths(rows)
    if not off:
        return
    guessed = unit(rows)
    if guessed not in (None, Unit.FRAMES):
        yield _unit(rows, guessed, off, arrivals)
        off = [number for number in off if (length := length_of(rows, number)) and not length.is_in(guessed)]
    if off:
        yield rows.finding(
            "source-len",
            "`source_len` is not the recording's length in frames of 10 ms, by which FunASR leaves rows out and fills "
            "batches",
            off,
            details=_stated_lengths(rows, off),
            remedy="--fix FILE writes a corrected copy",
        )


def _unit(rows: Gathered, guessed: Unit, off: list[int], arrivals: Arrivals | None) -> PreflightFinding:
    rows_lost = (
        "" if arrivals is None or arrivals.kept is None else f", and {_rows_lost(rows, arrivals, off)} never train"
    )
    rows_lost = rows_lost if not rows_lost.startswith(", and 0 ") else ""
    none = rows.data.role == "train" and arrivals is not None and arrivals.failure is None and not arrivals.indexed
    return rows.finding(
        "source-len-unit",
        f"`source_len` is in {guessed}; FunASR counts frames of 10 ms, compares its limits with them and fills "
        f"batches by them{rows_lost}",
        off,
        severity=Severity.BROKEN if none else Severity.WRONG,
        details=_stated_lengths(rows, off),
        remedy="--fix FILE writes a copy with source_len in frames of 10 ms",
    )


def _rows_lost(rows: Gathered, arrivals: Arrivals, off: list[int]) -> str:
    arrived = (arrivals.arrived if rows.data.role == "train" else arrivals.valid_kept) or frozenset()
    lost = sum(number not in arrived for number in off)
    return f"{lost} of {rows.count} rows"


def _stated_lengths(rows: Gathered, numbers: list[int]) -> Mapping[int, str]:
    details = {}
    for number in numbers[:8]:
        length = length_of(rows, number)
        if length is not None:
            unit_name = f" ({length.unit})" if length.unit else ""
            details[number] = (
                f"{length.stated:g}{unit_name} for {length.seconds:.2f} s; {length.frames} frames of 10 ms"
            )
    return details


def _without_length(rows: Gathered, inputs: Inputs, without_length: list[int]) -> PreflightFinding:
    kind = str(inputs.settings.get("dataset_conf.batch_type", "example"))
    by_frames = kind != "example"
    effect = (
        f"FunASR counts it as 1 frame, so a batch by {kind} has no limit to its length"
        if by_frames
        else "FunASR counts it as 1 frame, so no limit leaves the row out and rows are not sorted by length"
    )
    return rows.finding(
        "source-len-missing",
        f"no `source_len`: {effect}",
        without_length,
        severity=None if by_frames else Severity.MINOR,
        remedy="--fix FILE writes it from the recording",
    )


def _about_target(rows: Gathered, arrivals: Arrivals | None) -> Iterator[PreflightFinding]:
    tokens = (
        dict(zip(arrivals.tokens.rows, arrivals.tokens.tokens, strict=True)) if arrivals and arrivals.tokens else {}
    )
    off = []
    for number, row in enumerate(rows.file.rows):
        if row.target_len is None or not row.target:
            continue
        text = row.target
        counts = {len(text), len(text.replace(" ", "")), target_length(text), len(text.encode())}
        if rows.data.role == "train" and number in tokens:
            counts.add(tokens[number])
        if all(abs(row.target_len - count) > max(2.0, _FAR * count) for count in counts):
            off.append(number)
    if off:
        yield rows.finding(
            "target-len",
            "`target_len` counts neither the characters nor the words or tokens of the text; FunASR leaves rows out "
            "by it",
            off,
            severity=Severity.MINOR,
            details={
                number: f"{rows.file.rows[number].target_len:g} for {len(rows.file.rows[number].target)} characters"
                for number in off[:8]
            },
            remedy="--fix FILE writes a corrected copy",
        )
