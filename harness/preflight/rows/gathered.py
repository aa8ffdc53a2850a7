"""One set's rows with the headers of their recordings, and how findings name rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.core.cells import Severity
from harness.corpus.user_speech import evenly
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.audio import DECODED, AudioHeader, decoded, read_headers
from harness.preflight.rows.data_files import DataSet
from harness.preflight.rows.reading import JsonRow, RowFile, read_rows

NAMED = 4
"""Rows that a finding names as evidence."""

FEW = 0.01
"""A share of rows below which a fault of single rows changes little of what is learned."""

_UNKNOWN = AudioHeader()


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A set that can be read."""

    data: DataSet
    file: RowFile
    headers: Mapping[str, AudioHeader] = field(repr=False)
    """By `source`; of those that were read."""
    heard: Mapping[str, AudioHeader] = field(repr=False)
    """By `source`, what is wrong with the samples of those that were decoded."""
    decoded: int
    """How many recordings were decoded."""

    @cached_property
    def headers_by_row(self) -> list[AudioHeader]:
        """The header of each row's recording; an empty one where it is not known."""
        return [self.headers.get(row.source, _UNKNOWN) for row in self.file.rows]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.file.rows)

    def place(self, row: JsonRow) -> Place:
        """Where a row is."""
        return Place(file=self._file(row.file), line=row.line, key=row.key[:80])

    def line_place(self, file: int, line: int) -> Place:
        """Where a line is."""
        return Place(file=self._file(file), line=line)

    def _file(self, number: int) -> str:
        return self.data.given if len(self.data.files) == 1 else str(self.data.files[number])

    def row_name(self, row: JsonRow) -> str:
        """How evidence names a row."""
        return row.name if len(self.data.files) == 1 else f"{Path(self._file(row.file)).name} {row.name}"

    def finding(
        self,
        rule: str,
        message: str,
        numbers: Sequence[int],
        *,
        severity: Severity | None = None,
        details: Mapping[int, str] | None = None,
        remedy: str = "",
        evidence: Iterable[str] = (),
    ) -> PreflightFinding:
        """A finding about some rows, by number.

        Its severity is `wrong`, and `minor` where the rows are few among many, unless it is given.
        """
        rows = [self.file.rows[number] for number in numbers[:NAMED]]
        details = details or {}
        named = [
            f"{self.row_name(row)}: {details[number]}" if number in details else self.row_name(row)
            for number, row in zip(numbers, rows, strict=False)
        ]
        more = [f"and {len(numbers) - NAMED} more rows"] if len(numbers) > NAMED else []
        return PreflightFinding(
            severity=severity or (Severity.WRONG if self.many(len(numbers)) else Severity.MINOR),
            rule=rule,
            message=message,
            place=self.place(rows[0]),
            evidence=(*evidence, *named, *more),
            remedy=remedy,
            count=len(numbers),
        )

    def many(self, count: int) -> bool:
        """Whether so many rows are more than a few of all."""
        return count >= FEW * max(1, self.count)


def gather(data: DataSet, inputs: Inputs, *, audio_rows: bool) -> Gathered:
    """Read a set's files and the headers of its recordings."""
    file = read_rows(data.files, audio_rows=audio_rows)
    sources = [row.source for row in file.rows if row.source] if audio_rows else []
    headers = read_headers(sources, inputs.root, read_all=inputs.read_all_audio)
    known = list(headers)
    chosen = known if inputs.read_all_audio else [known[number] for number in evenly(range(len(known)), DECODED)]
    speech_faults = decoded(chosen, headers, inputs.root)
    return Gathered(data=data, file=file, headers=headers, heard=speech_faults, decoded=len(chosen))
