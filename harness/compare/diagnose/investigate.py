"""From a cell to its diagnosis: run it in the failing release and in a passing one, compare, and find the cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.compare.diagnose.diagnosis import Diagnosis, diagnose, passing
from harness.compare.diagnose.evidence import ComparedSide, Evidence
from harness.compare.diagnose.format import markdown
from harness.compare.diagnose.runner import Traced, TracedRunner
from harness.core.cells import Cell, Check, Outcome, Status
from harness.core.durable import write_document, write_json

PASSES = (0, 1, 2, 3)
"""Of a property: it runs a model a few times. Of all else the first forward pass is recorded whole."""


@dataclass(frozen=True, kw_only=True)
class ComparisonTarget:
    """The release that a cell is compared with."""

    label: str
    why: str
    advice: str = ""
    """What a user can do, in a sentence."""


def investigate(
    runner: TracedRunner,
    cell: Cell,
    against: ComparisonTarget | None,
    *,
    known: Outcome | None = None,
    property_name: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Run a cell and the same cell of another release, and compare them.

    Args:
        against: None where no release is known in which it passes: then it is run alone.
        known: The cell's outcome in an earlier run: the counter-example of a property is taken from it.
        asked: The property that it is about; the first that failed if it is empty.
        say: Gets sentences for the person who waits.

    Raises:
        HarnessError: one of the two cannot be asked.
    """
    began = time.monotonic()
    options, example = _trace_options(cell, known, property_name)
    if against is None:
        traced = runner.trace({cell: options})[cell]
        return replace(passing(traced.outcome), seconds=time.monotonic() - began)
    mine, other = _both(runner, cell, replace(cell, release=against.label), options, say=say)
    evidence = Evidence(mine=ComparedSide(traced=mine), other=ComparedSide(traced=other))
    # A release that passes needs no other, and one that is no remedy is not recommended.
    advice = against.advice if mine.outcome.status is not Status.PASSED else ""
    diagnosis = diagnose(evidence, why=against.why, advice=advice, example=example)
    return replace(diagnosis, seconds=time.monotonic() - began, notices=tuple(_notices(mine, other)))


def _trace_options(cell: Cell, known: Outcome | None, property_name: str) -> tuple[dict[str, object], str]:
    """What is to be recorded; of a property the one that fails, on its counter-example."""
    if cell.check is not Check.PROPERTIES or known is None:
        return {"passes": [0]}, ""
    examples = known.evidence.get("counterexamples") or []
    first = next(
        (example_record for example_record in examples if property_name in ("", example_record["property"])), None
    )
    if first is None:
        return {"passes": list(PASSES)}, ""
    return {"passes": list(PASSES), "property": first["property"], "example": first["config"]}, first["config"]


def _both(
    runner: TracedRunner, cell: Cell, other: Cell, options: Mapping[str, object], *, say: Callable[[str], None]
) -> tuple[Traced, Traced]:
    answers = runner.trace({cell: options, other: options})
    mine, theirs = answers[cell], answers[other]
    died = mine.trace.died_in if mine.trace else None
    if died is not None and died.number > 0 and theirs.trace and theirs.trace.numbered(died.number) is None:
        # Only now is it known which pass is to be compared.
        say(f"{cell.release} died in forward pass {died.number}; recording that one in both")
        answers = runner.trace({traced_cell: {**options, "passes": [0, died.number]} for traced_cell in (cell, other)})
        mine, theirs = answers[cell], answers[other]
    return mine, theirs


def _notices(mine: Traced, other: Traced) -> list[str]:
    notices = []
    if mine.outcome.status is Status.PASSED:
        notices.append(f"{mine.outcome.cell.release} passes here")
    if other.outcome.status is not Status.PASSED:
        notices.append(
            f"{other.outcome.cell.release} does not pass here: {other.outcome.status}: {other.outcome.reason}"
        )
    return notices


def store(diagnosis: Diagnosis, folder: Path) -> tuple[Path, Path]:
    """Write diagnosis.json and diagnosis.md.

    Raises:
        StoreError: they cannot be written.
    """
    paths = (folder / "diagnosis.json", folder / "diagnosis.md")
    write_json(paths[0], diagnosis.to_json())
    write_document(paths[1], markdown(diagnosis))
    return paths


def slug(cell: Cell, against: str) -> str:
    """The name of a diagnosis's folder."""
    name = cell.id.replace("/", "~")
    return f"{name}~against-{against}" if against else name
