"""The nearest release in which a cell passes, and where a user can go from one in which it fails: taken from runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.cells import Cell, Outcome, Status
from harness.core.errors import InputError, StoreError
from harness.core.versions import release_key
from harness.run.store import known_runs, load_run, run_name


@dataclass(frozen=True, kw_only=True)
class RecordedStatus:
    """The outcome of a cell in a run."""

    outcome: Outcome
    run: Path
    matrix: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """The outcomes of one cell over all releases."""

    cell: Cell
    """The question, put to the release in question."""
    seen: Mapping[str, RecordedStatus]
    """By release; of several runs what was measured last."""
    published: Sequence[str]
    """All published releases, oldest first."""
    notices: tuple[str, ...] = ()
    asked: str = ""
    """Of a cell of `properties`, the property that it is about; empty is all of them."""

    def status(self, label: str) -> Status | None:
        """How the cell ended in this release; None where no run has it."""
        recorded = self.seen.get(label)
        if recorded is None or not self.asked:
            return recorded.outcome.status if recorded else None
        return property_statuses(recorded.outcome).get(self.asked)

    def _signature(self, label: str) -> str:
        recorded = self.seen.get(label)
        failure = recorded.outcome.failure if recorded and not self.asked else None
        return failure.signature if failure else ""

    @property
    def place(self) -> float:
        """Where the release stands among the published ones; a local one just after that of its version."""
        return _place(self.cell.release, self.published)

    def passing(self) -> list[str]:
        """The published releases in which it passes, the nearest first; of two equally near the later one."""
        labels = [
            label for label in self.published if self.status(label) is Status.PASSED and label != self.cell.release
        ]
        return sorted(labels, key=lambda label: (abs(self._away(label)), -self._away(label)))

    def _away(self, label: str) -> float:
        return self.published.index(label) - self.place

    def why(self, label: str) -> str:
        """Why this one was chosen, in a clause."""
        run = run_name(self.seen[label].run)
        between = round(abs(self._away(label)) + 0.49) - 1
        side = "later" if self._away(label) > 0 else "earlier"
        distance = "next to it" if between <= 0 else f"{between} published release{'s' if between > 1 else ''} between"
        return f"the nearest release in which this cell passes ({run}); {side}, {distance}"

    def advice(self) -> str:
        """What a user can do about the release: a sentence; empty where no run has a release that passes."""
        later = [label for label in self.published if self.published.index(label) > self.place]
        earlier = [label for label in self.published if self.published.index(label) < self.place]
        upward = next((label for label in later if self.status(label) is Status.PASSED), None)
        downward = next((label for label in reversed(earlier) if self.status(label) is Status.PASSED), None)
        if upward:
            beyond = later[later.index(upward) :]
            failing = [label for label in beyond if self.status(label) in _BROKEN]
            same = [label for label in failing if self._signature(label) == self._signature(self.cell.release)]
            but = f", but not to {_listed(same)}" if same else ""
            otherwise = [label for label in failing if label not in same]
            newest = f"; {beyond[-1]}, the newest, passes too" if self.status(beyond[-1]) is Status.PASSED else ""
            failing_otherwise = (
                f"; {_listed(otherwise)} fail{'s' if len(otherwise) == 1 else ''} otherwise" if otherwise else ""
            )
            return f"Upgrade to {upward} or later{but}{newest if beyond[-1] != upward else ''}{failing_otherwise}."
        if downward:
            return f"Go back to {downward}: in no later release that was run does this cell pass."
        return ""


_BROKEN = (Status.FAILED, Status.CRASHED, Status.TIMED_OUT, Status.OUT_OF_MEMORY)


_OF_PROPERTIES = {"holds": Status.PASSED, "fails": Status.FAILED, "known": Status.FAILED}


def property_statuses(outcome: Outcome) -> dict[str, Status]:
    """What became of each property that a cell of `properties` asked."""
    results = outcome.evidence.get("properties") or []
    return {
        result["name"]: _OF_PROPERTIES[result["status"]] for result in results if result["status"] in _OF_PROPERTIES
    }


def about_property(record: Record, name: str = "") -> Record:
    """The record of one property: the one that is named, or the first that fails and holds in some release.

    Raises:
        InputError: the cell asked no property of this name.
    """
    recorded = record.seen.get(record.cell.release)
    statuses = property_statuses(recorded.outcome) if recorded else {}
    if name and statuses and name not in statuses:
        near = difflib.get_close_matches(name, list(statuses), n=3)
        cause = f"near ones are {', '.join(near)}" if near else ""
        raise InputError(
            f"{record.cell.id} asked no property {name!r}", cause=cause, next_step="see docs/checks.md#properties"
        )
    failing = (
        [name] if name else [property_name for property_name, status in statuses.items() if status is Status.FAILED]
    )
    records = [replace(record, asked=property_name) for property_name in failing]
    return next((candidate for candidate in records if candidate.passing()), records[0] if records else record)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")


def read_record(cell: Cell, published: Sequence[str], folders: Sequence[Path] | None = None) -> Record:
    """The outcomes of a cell over releases, from the runs in these folders; by default all under runs/ and reports/."""
    newest: dict[str, RecordedStatus] = {}
    notices = []
    for folder in known_runs() if folders is None else folders:
        try:
            run = load_run(folder)
        except StoreError as error:
            notices.append(f"passed over: {error.what}")
            continue
        for outcome in run.outcomes:
            label = outcome.cell.release
            if replace(outcome.cell, release=cell.release) != cell:
                continue
            known = newest.get(label)
            if known is None or outcome.started > known.outcome.started:
                newest[label] = RecordedStatus(outcome=outcome, run=folder, matrix=run.provenance.matrix)
    return Record(cell=cell, seen=newest, published=published, notices=tuple(notices))


def _place(label: str, published: Sequence[str]) -> float:
    if label in published:
        return float(published.index(label))
    return sum(release_key(release) <= release_key(label) for release in published) - 0.5
