"""A user's rows in the files that trainers are given: whole lines, byte for byte, unless it is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.durable import storage_error
from harness.corpus.jsonl import JsonlRow, completed, with_value
from harness.corpus.notices import corrections, notices_of
from harness.corpus.row_limits import LeftOut, RowLimits, left_out, rules_of
from harness.corpus.user_speech import OwnFile, OwnSpeech, evenly

MOST_ROWS = 60
"""Rows of a file that `finetune` trains on unless `--rows` says otherwise. Each is to be seen ten times: that is 150
steps for each seed, which a CPU takes in a minute."""

SMALL = 40
"""Rows for the trainings that need a few: of `checkpoint`, `decode`, accumulation and several processes."""

_RULES = tuple(map(rules_of, ("1.0.6", "1.0.18", "1.0.26")))
"""Of `limits.py`, those that together leave out whatever any leaves out."""


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """A user's speech, as files for a run."""

    speech: OwnSpeech
    given: OwnFile
    """The rows that `finetune` trains on: all of the file, or a part of them that is said."""
    train: Path
    """Their lines."""
    whole: Path
    """All lines of the file."""
    valid: Path
    limits: Mapping[str, RowLimits]
    """In force, by variant."""
    small: Mapping[str, Path]
    """By variant, a few rows that every release trains on, with absolute paths and every field that some release
    requires: for the trainings that are not about the user's rows."""
    notices: tuple[str, ...]

    def expected(self, variant: str, version: str) -> tuple[list[int], tuple[LeftOut, ...]]:
        """The lines of the given rows that a release trains on by its own limits, and the rows that it leaves out."""
        out = self.given.left_out(self.limits[variant], version)
        lines_left_out = {row.line for row in out}
        return [row.line for row in self.given.rows if row.line not in lines_left_out], out

    @property
    def root(self) -> Path | None:
        """The working directory that the trainer needs; None where every path is absolute."""
        return self.given.root if any(file.relative for file in self.speech.files) else None


def lay_out(speech: OwnSpeech, folder: Path, *, limits: Mapping[str, RowLimits], rows: int | None = None) -> OwnRows:
    """Write the files of a run.

    Args:
        speech: What the user gave.
        folder: Where to; it must be empty or missing.
        limits: In force, by variant.
        rows: How many rows `finetune` trains on; `MOST_ROWS` where it is not said.

    Raises:
        StoreError: the disk is full, or the place cannot be written to.
    """
    try:
        return _lay_out(speech, folder, limits, MOST_ROWS if rows is None else rows)
    except OSError as error:
        raise storage_error(error, folder, "written") from error


def _lay_out(speech: OwnSpeech, folder: Path, limits: Mapping[str, RowLimits], most: int) -> OwnRows:
    file = speech.train
    complete_file = _copy(file.path, folder / "whole")
    chosen, train = evenly_chosen(file, most), complete_file
    if len(chosen.rows) < len(file.rows):
        train = folder / "train" / file.path.name
        train.parent.mkdir()
        train.write_bytes(b"".join(row.content for row in chosen.rows))
    valid = _copy(speech.valid.path, folder / "valid") if speech.valid else train
    small = {variant: folder / "small" / f"{variant}.jsonl" for variant in limits}
    (folder / "small").mkdir()
    for variant, path in small.items():
        path.write_text("".join(_small(file, limits[variant])), encoding="utf-8")
    return OwnRows(
        speech=speech,
        given=chosen,
        train=train,
        whole=complete_file,
        valid=valid,
        limits=limits,
        small=small,
        notices=tuple(_notices(speech, chosen)),
    )


def evenly_chosen(file: OwnFile, most: int) -> OwnFile:
    """The file with so many of its rows, evenly spaced, if it has more."""
    chosen = set(evenly([row.line for row in file.rows], most))
    return replace(file, rows=tuple(row for row in file.rows if row.line in chosen))


def _notices(speech: OwnSpeech, chosen: OwnFile) -> Iterator[str]:
    name, listed, count = speech.train.path.name, len(speech.train.rows), len(chosen.rows)
    for file in speech.files:
        yield from notices_of(file)
    if count < listed:
        yield (
            f"{name}: finetune trains on {count} of its {listed} rows, evenly spaced from line "
            f"{chosen.rows[0].line} to "
            f"line {chosen.rows[-1].line}; --rows {listed} takes all."
        )


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copyfile(path, folder / path.name))


def _small(file: OwnFile, limits: RowLimits) -> Iterator[str]:
    """Rows that were measured and that no release leaves out; where there is none, those that were measured."""
    measured = [row for row in file.rows if row.line in file.recordings]
    sound = [row for row in measured if not any(left_out(row, limits, rules) for rules in _RULES)]
    chosen = set(evenly([row.line for row in sound or measured], SMALL))
    for row in measured:
        if row.line in chosen:
            recording = file.recordings[row.line]
            yield completed(row, recording.path, recording.milliseconds)


def write_corrected(file: OwnFile, folder: Path) -> Path | None:
    """A copy with `source_len` in frames of 10 ms, every other byte as it is; None where there is nothing to correct.

    Raises:
        OSError: it cannot be written.
    """
    known = corrections(file)
    if not known:
        return None
    path = folder / f"{file.path.stem}.corrected{file.path.suffix}"
    path.write_bytes(
        b"".join(
            with_value(row, "source_len", known[row.line]) if row.line in known else row.content for row in file.rows
        )
    )
    return path


def carry(speech: OwnSpeech, folder: Path, names: Iterable[str], *, rows: int | None = None) -> None:
    """Write the files and their recordings into a folder of their own, as a bundle carries them.

    Only `source` is another: the recording's place in the folder. Every other byte is the user's.
    """
    places: dict[Path, str] = {}
    for file, name in zip(speech.files, names, strict=False):
        part = evenly_chosen(file, MOST_ROWS if rows is None else rows) if file is speech.train else file
        (folder / name).mkdir()
        (folder / name / file.path.name).write_bytes(b"".join(_carried(row, part, folder, places) for row in part.rows))


def _carried(row: JsonlRow, file: OwnFile, folder: Path, places: dict[Path, str]) -> bytes:
    if not row.source:
        return row.content
    path = file.root / row.source
    if path not in places:
        place = Path("audio", f"{len(places):05}{path.suffix}")
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / place)
        places[path] = str(place)
    return with_value(row, "source", places[path])
