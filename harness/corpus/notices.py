"""What a user should know about their files before anything runs; of sound files there is nothing.

Each notice is one sentence with the file's name and lines, and without a path: it is kept with the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from harness.corpus.jsonl import JsonlRow
from harness.corpus.row_limits import LeftOut, Unit, unit_of, wrong
from harness.corpus.tokens import unspeakable
from harness.corpus.user_speech import HEADERS, OwnFile, evenly

NAMED = 5
"""So many lines are named where several have the same thing."""

SILENT = 1e-4
"""Of full scale: the highest sample of a recording that is digital silence, or next to it."""

HEARD = 200
"""Recordings of a file that are read for silence, evenly spaced."""

QUICK = 30.0
"""Characters a second, more than anybody speaks: Mandarin has some 5, the letters of English some 15."""


def notices_of(file: OwnFile) -> Iterator[str]:
    """All that is odd about one file whatever the release, in the order in which a reader would fix it."""
    name = file.path.name
    yield from _about_lengths(file)
    for question, sentence in _TEXTS:
        lines = [row.name for row in file.rows if row.source and question(row)]
        if lines:
            yield f"{name}: {some(lines)}: {sentence}"
    yield from _about_pairs(file)
    yield from _about_recordings(file)
    if len(file.recordings) < sum(bool(row.source) for row in file.rows):
        yield f"{name}: of {len(file.rows)} recordings {HEADERS} were opened, evenly spaced over the file."


def some(lines: Sequence[str]) -> str:
    """The first few of these, and how many more there are."""
    more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return ", ".join(lines[:NAMED]) + more


def not_trained(file: OwnFile, left_out: Sequence[LeftOut], where: str, *, used: str = "trains") -> str:
    """The sentence about rows that some releases leave out; `used` is what they do with the others."""
    count, total = len(left_out), len(file.rows)
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in left_out:
        reasons[row.reason].append(f"line {row.line}")
    shown = [f"{some(lines)}: {reason}" for reason, lines in list(reasons.items())[:NAMED]]
    more = len(reasons) - len(shown)
    if more:
        shown.append(f"and {sum(len(lines) for lines in list(reasons.values())[NAMED:])} more rows")
    none = "no row" if count == total else f"{total - count} of {total} rows"
    return f"{file.path.name}: FunASR {used} on {none} ({where}). {'; '.join(shown)}."


def corrections(file: OwnFile) -> dict[int, int]:
    """By line, the `source_len` in frames of 10 ms of those rows whose stated one is something else."""
    measured = file.lengths
    unit = unit_of([length for _, length in measured])
    corrected = {line: length.frames for line, length in wrong(measured)}
    if unit in _FACTORS:
        # What was not measured is converted: the rest of the file is in the same unit.
        for row in file.rows:
            if row.source_len is not None and row.source and row.line not in file.recordings:
                corrected[row.line] = int(row.source_len * _FACTORS[unit])
    return corrected


_FACTORS: Mapping[Unit | None, float] = {Unit.MILLISECONDS: 0.1, Unit.SECONDS: 100.0, Unit.STACKED: 6.0}


def _about_lengths(file: OwnFile) -> Iterator[str]:
    measured = file.lengths
    unit = unit_of([length for _, length in measured])
    off = wrong(measured)
    if not off:
        return
    line, first = off[0]
    if unit is not None and unit is not Unit.FRAMES:
        yield (
            f"{file.path.name}: `source_len` is in {unit} (line {line} says {first.stated:g}, "
            f"for {first.seconds:.2f} s); FunASR counts frames of 10 ms, {first.frames} in that line."
        )
        off = [numbered_length for numbered_length in off if not numbered_length[1].is_in(unit)]
    if off:
        lines = [f"line {line} says {length.stated:g}, its recording has {length.frames}" for line, length in off]
        yield f"{file.path.name}: `source_len` is not the recording's length in frames of 10 ms: {some(lines)}."


def _about_pairs(file: OwnFile) -> Iterator[str]:
    texts: dict[str, list[JsonlRow]] = defaultdict(list)
    for row in file.rows:
        if row.source:
            texts[row.source].append(row)
    pairs = [rows for rows in texts.values() if len({row.target for row in rows}) > 1]
    if pairs:
        groups = [" and ".join(f"line {row.line}" for row in rows[:2]) for rows in pairs]
        yield f"{file.path.name}: one recording with several texts: {some(groups)}."


def _about_recordings(file: OwnFile) -> Iterator[str]:
    measured = [(row, recording) for row in file.rows if (recording := file.recordings.get(row.line))]
    quick = [
        f"{row.name} has {len(row.target)} characters on {recording.seconds:.2f} s"
        for row, recording in measured
        if len(row.target) > QUICK * recording.seconds
    ]
    silent = [f"line {line}" for line in evenly(list(file.recordings), HEARD) if _is_silent(file, line)]
    if quick:
        yield f"{file.path.name}: more text than can be spoken in the time: {some(quick)}."
    if silent:
        yield f"{file.path.name}: the recording is silence: {some(silent)}."


def _is_silent(file: OwnFile, line: int) -> bool:
    import soundfile

    samples, _ = soundfile.read(file.recordings[line].path, dtype="float32", always_2d=True)
    return bool(abs(samples).max() <= SILENT)


def _spaces(row: JsonlRow) -> bool:
    return "  " in row.target or row.target != row.target.strip(" ")


def _aishell(row: JsonlRow) -> bool:
    return "aishell" in row.source and " " in row.target


_TEXTS: Sequence[tuple[Callable[[JsonlRow], bool], str]] = (
    (lambda row: not row.target.strip(), "an empty text, of which releases make the token <unk>."),
    (
        lambda row: bool(row.target.strip()) and _spaces(row),
        "spaces at an end of the text or next to one another: releases since 1.0.6 make <unk> of what is between them.",
    ),
    (
        lambda row: any(map(unspeakable, row.target)),
        "white space other than the ordinary space, or control characters: no token list holds them.",
    ),
    (
        _aishell,
        "`source` contains `aishell`: releases since 1.0.15 remove all spaces from such a row's text "
        "(since 1.3.2 not with `text_language` en).",
    ),
    (
        lambda row: "/cpfs01" in row.source,
        "`source` contains /cpfs01: releases since 1.0.25 read /cpfs_speech/data in its place.",
    ),
)


def releases_of(labels: Iterable[str]) -> str:
    """Releases as a person lists them: `1.0.17, 1.0.18` or `1.0.6 to 1.4.16 (95 releases)`."""
    names = list(labels)
    return ", ".join(names) if len(names) <= NAMED else f"{names[0]} to {names[-1]} ({len(names)} releases)"
