"""Everything that one run knows about a cell: the record that `show` prints as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Failure
from harness.rules.known_issues import KnownIssue
from harness.rules.verdicts import JudgedOutcome
from harness.run.archive import run_name
from harness.run.provenance import Provenance
from harness.run.repeat_commands import Repeating
from harness.text.plain import plain

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RunOfCell:
    """A cell in one run."""

    folder: Path
    provenance: Provenance
    judged: JudgedOutcome

    @property
    def repeat(self) -> Repeating:
        """The commands that repeat the cell."""
        return Repeating.of(self.provenance, self.folder)

    @property
    def issues(self) -> tuple[KnownIssue, ...]:
        """The known issues that explain it."""
        return tuple(issue for issue in (self.judged.issue, *self.judged.also) if issue) if self.judged.issue else ()

    def to_json(self) -> dict[str, object]:
        """The record of this run within `show --json`."""
        return {
            "run": run_name(self.folder),
            "matrix": self.provenance.matrix,
            "torch": self.provenance.torch,
            "python": self.provenance.python,
            "verdict": str(self.judged.verdict),
            "explanation": self.judged.sentence,
            "findings": [
                {"severity": str(defect.severity), "signature": defect.signature, "title": defect.title}
                for defect in self.judged.defects
            ],
            "issues": [
                {
                    "id": issue.id,
                    "title": issue.title,
                    "cause": issue.cause,
                    "remedy": issue.remedy,
                    "upstream": list(issue.upstream),
                }
                for issue in self.issues
            ],
            "outcome": self.judged.outcome.to_json(),
            "again": self.repeat.again(self.judged.outcome.cell.id),
        }


def cell_json(cell: str, runs: Sequence[RunOfCell]) -> dict[str, object]:
    """What `show --json` prints."""
    return {"schema": SCHEMA, "cell": cell, "runs": [run.to_json() for run in runs]}


def render_cell(run: RunOfCell) -> str:
    """What `show` prints for one run."""
    return plain("\n".join(_lines(run)))


def _lines(run: RunOfCell) -> Iterator[str]:
    outcome, origin = run.judged.outcome, run.provenance
    yield f"{outcome.cell.id}"
    yield f"  run       {run_name(run.folder)} (matrix {origin.matrix}, torch {origin.torch}, Python {origin.python})"
    yield f"  status    {outcome.status}{': ' + outcome.reason if outcome.reason else ''}"
    yield f"  verdict   {run.judged.verdict}: {run.judged.sentence}"
    yield from (f"  {defect.severity:<9} {defect.signature}: {defect.title}" for defect in run.judged.defects)
    for issue in run.issues:
        yield f"  cause     {issue.cause}"
        yield f"  remedy    {issue.remedy}"
        yield from (f"  upstream  {report}" for report in issue.upstream)
    if reused := outcome.common.reused:
        yield f"  reused    from {reused.cell}, which ran {reused.ran}; the command at the end runs it"
    else:
        yield f"  measured  {outcome.started}, {outcome.seconds:.1f} s"
    yield from (f"  shim      {name}" for name in outcome.shims)
    yield from (f"  {name} = {_json(value)}" for name, value in outcome.metrics.items())
    yield from _evidence(outcome.evidence)
    if outcome.failure is not None:
        yield from _traceback(outcome.failure)
    yield f"  again     {run.repeat.again(outcome.cell.id)}"
    if run.repeat.hint:
        yield f"            {run.repeat.hint}"


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _evidence(evidence: Mapping[str, object]) -> Iterator[str]:
    for name, value in evidence.items():
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            yield f"  {name}:"
            yield from (f"    {_json(item)}" for item in value)
        elif value not in (None, "", [], {}):
            yield f"  {name}: {_json(value)}"


def _traceback(failure: Failure) -> Iterator[str]:
    yield f"  signature {failure.signature}"
    for frame in failure.frames:
        yield f'    File "{frame.file}", line {frame.line}, in {frame.function}'
        yield f"      {frame.code}"
    yield f"    {failure.type}: {failure.message}"
