"""A user's own speech: an unchanged jsonl file, and what is found out about it before anything runs.

The file goes to FunASR's trainer byte for byte. Here it is read once, by FunASR's rules, for what the harness itself
has to know: which rows there are, how long their recordings are, and what texts the token list has to hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.config.toml_tables import Problems
from harness.core.errors import CorpusError, listing
from harness.corpus import synthesis
from harness.corpus.corpus import SHORTEST_SAMPLES, Corpus, Utterance, content_hash
from harness.corpus.jsonl import JsonlRow, read_rows, value_span
from harness.corpus.row_limits import LeftOut, Length, RowLimits, left_out, rules_of

HEADERS = 2000
"""Recordings of which the length is read; of a longer file so many, evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class AudioRecording:
    """What the header of an audio file says."""

    path: Path
    """Absolute."""
    samples: int
    """Per channel."""
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.rate

    @property
    def milliseconds(self) -> float:
        """Its length, in the order of operations of FunASR's `scp2jsonl.py`."""
        return self.samples * 1000 / self.rate


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A jsonl file that FunASR can read."""

    path: Path
    root: Path
    """The folder that relative sources are read from: the working directory, as FunASR has it."""
    rows: tuple[JsonlRow, ...] = field(repr=False)
    recordings: Mapping[int, AudioRecording] = field(repr=False)
    """By line; of `HEADERS` rows at most."""
    _left_out: dict[tuple[RowLimits, tuple[int, ...]], tuple[LeftOut, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def relative(self) -> bool:
        """Whether a source is read from the working directory."""
        return any(row.source and not Path(row.source).is_absolute() for row in self.rows)

    @property
    def lengths(self) -> list[tuple[int, Length]]:
        """Line, stated and measured length, where both are known."""
        return [
            (
                row.line,
                Length(
                    stated=row.source_len, seconds=recording.seconds, rate=recording.rate, channels=recording.channels
                ),
            )
            for row in self.rows
            if row.source_len is not None and (recording := self.recordings.get(row.line))
        ]

    def left_out(self, limits: RowLimits, version: str) -> tuple[LeftOut, ...]:
        """The rows that a release of this version leaves out by its own limits."""
        rules = rules_of(version)
        if (limits, rules) not in self._left_out:
            # Of a row that lacks what these releases require the whole file cannot be read.
            broken = next((row for row in self.rows if rules < (1, 0, 6) and row.source and row.lacking), None)
            instead = (
                f"line {broken.line} lacks `{broken.lacking[0]}`, and the file is not read (KeyError)" if broken else ""
            )
            self._left_out[limits, rules] = tuple(
                LeftOut(line=row.line, key=row.key, reason=reason)
                for row in self.rows
                if (reason := left_out(row, limits, rules) or instead)
            )
        return self._left_out[limits, rules]


@dataclass(frozen=True, kw_only=True)
class OwnSpeech:
    """What `--jsonl` and `--valid` name."""

    train: OwnFile
    valid: OwnFile | None
    """None where the training rows are validated on."""
    corpus: Corpus
    """The recordings that were measured, with the texts of all rows."""

    @property
    def files(self) -> tuple[OwnFile, ...]:
        """The files that the user gave."""
        return (self.train, self.valid) if self.valid else (self.train,)


def read_own(jsonl: Path, *, valid: Path | None = None, root: Path | None = None) -> OwnSpeech:
    """Read a user's files.

    Args:
        jsonl: The training rows.
        valid: The validation rows.
        root: What relative sources are relative to; the working directory unless it is given.

    Raises:
        CorpusError: with every line of a file that FunASR could not train on: it would raise there.
    """
    train = read_file(jsonl, root=root)
    other = read_file(valid, root=root) if valid else None
    files = (train, other) if other else (train,)
    rows = [row for file in files for row in file.rows]
    count = len(train.rows)
    corpus = Corpus(
        utterances=tuple(
            Utterance(
                key=row.key,
                path=recording.path,
                samples=round(recording.samples * synthesis.SAMPLING_RATE / recording.rate),
                text=row.target,
            )
            for row in train.rows
            if (recording := train.recordings.get(row.line))
        ),
        sha256=own_hash(files),
        origin=f"{count} utterance{'s' if count != 1 else ''} of {jsonl.name}",
        all_texts=tuple(row.target for row in rows if row.source),
    )
    return OwnSpeech(train=train, valid=other, corpus=corpus)


def load_corpus(jsonl: Path) -> Corpus:
    """The corpus of a file that the harness wrote with its recordings, as a bundle carries it.

    Raises:
        CorpusError: it is damaged.
    """
    file = read_file(jsonl, root=jsonl.absolute().parent)
    utterances = tuple(
        Utterance(key=row.key, path=recording.path, samples=recording.samples, text=row.target)
        for row in file.rows
        if (recording := file.recordings.get(row.line))
    )
    count = len(utterances)
    return Corpus(
        utterances=utterances,
        sha256=content_hash(utterances),
        origin=f"{count} utterance{'s' if count != 1 else ''} of {jsonl.name}",
    )


def read_file(path: Path, *, root: Path | None = None) -> OwnFile:
    """Read one file and the headers of its recordings.

    Raises:
        CorpusError: with every line that FunASR could not train on.
    """
    problems = Problems(source=str(path))
    rows = read_rows(path, problems)
    folder = (root or Path.cwd()).absolute()
    places = {row.line: place for row in rows if row.source and (place := _find(row, folder, path, problems))}
    lines = evenly(list(places), HEADERS)
    by_line = {row.line: row for row in rows}
    recordings = {line: recording for line in lines if (recording := _measure(places[line], by_line[line], problems))}
    if problems.found:
        raise CorpusError(
            listing(problems.source, problems.found), next_step=f"correct {path} and run the command again"
        )
    return OwnFile(path=path, root=folder, rows=rows, recordings=recordings)


def evenly(items: Sequence[int], count: int) -> list[int]:
    """So many of the items, from the first on and evenly spaced; all where there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def own_hash(files: Iterable[OwnFile]) -> str:
    """SHA-256 over the files' bytes without the places of the recordings, and over the measured recordings."""
    total = hashlib.sha256()
    for file in files:
        for row in file.rows:
            total.update(_without_source(row))
            if recording := file.recordings.get(row.line):
                with recording.path.open("rb") as audio:
                    total.update(hashlib.file_digest(audio, "sha256").digest())
        total.update(b"\0")
    return total.hexdigest()


def _without_source(row: JsonlRow) -> bytes:
    if not row.source:
        return row.content
    text = row.content.decode("utf-8")
    begin, end = value_span(text, "source")
    return (text[:begin] + text[end:]).encode("utf-8")


def _find(row: JsonlRow, folder: Path, jsonl: Path, problems: Problems) -> Path | None:
    """The recording's path, as FunASR's `load_audio_text_image_video` takes `source`."""
    place = f"line {row.line}"
    if "://" in row.source:
        problems.add(place, f"`source` is an address, not a file: {row.source} (download it first)")
        return None
    path = folder / row.source
    try:
        if path.is_file():
            return path
    except OSError as error:
        problems.add(place, f"{row.source[:200]}: {error.strerror}")
        return None
    hint = ""
    if not Path(row.source).is_absolute():
        hint = f" (FunASR reads relative paths from the working directory, {folder}"
        home = jsonl.absolute().parent
        hint += f"; it is in the file's folder: run the command in {home})" if (home / row.source).is_file() else ")"
    problems.add(place, f"no such audio file: {row.source}{hint}")
    return None


def _measure(path: Path, row: JsonlRow, problems: Problems) -> AudioRecording | None:
    """The recording, if it is speech that can be used."""
    import soundfile

    place = f"line {row.line}"
    try:
        audio = soundfile.info(path)
    except (RuntimeError, OSError) as error:
        problems.add(place, f"{row.source} cannot be read as audio: {str(error).rpartition(': ')[2]}")
        return None
    least = -(-SHORTEST_SAMPLES * audio.samplerate // synthesis.SAMPLING_RATE)
    if audio.frames < least:
        problems.add(place, f"{row.source} has {audio.frames} samples; one analysis window needs {least}")
        return None
    return AudioRecording(
        path=path, samples=int(audio.frames), rate=int(audio.samplerate), channels=int(audio.channels)
    )
