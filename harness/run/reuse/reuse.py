"""Decides during a run which cells are not run, because another release's cell shows how they end.

It learns from each cell that ran, and then answers for those that wait. Some of the cells that could be reused run all
the same, drawn by chance: where one ends otherwise than predicted, the harness is at fault, nothing of that check is
reused any more, and what was reused of it is run.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core import wire
from harness.core.cells import Cell, Check, Device, Outcome, Release
from harness.core.evidence import REUSED
from harness.run.provenance import ReuseFacts
from harness.run.reuse.fingerprint import CodeUsed, NotReusable, ReleaseSeen, equals, fingerprint
from harness.run.reuse.kept import KeptOutcomes, KnownOutcome
from harness.run.reuse.release_files import ReleaseFiles
from harness.worker.release import registry
from harness.worker.release.importer import FullImport

REUSABLE = frozenset({Check.CONSTRUCT, Check.LOSS_CONTRACT})
"""Checks whose outcomes follow from code and request alone: no time, no speed, no child processes."""
ONE_IN = 16
"""Of so many cells that could be reused one is run all the same, which is 6 %; and the first of each check."""
OF_THE_RELEASE = ("label", "version", "install_dir")
"""Parts of a request that differ in every release: which of them matter is part of the fingerprint."""
_ANNOUNCED = re.compile(r"(funasr version: )\S+\.$", re.MULTILINE)
"""What releases print of themselves."""
_OF_THE_MACHINE = ("peak_resident_bytes",)
"""Metrics that are no release's doing."""


@dataclass(kw_only=True)
class ReuseCount:
    """What became of the cells of a run, for its report."""

    seed: int
    """Of the draw."""
    reused: Counter[Check] = field(default_factory=Counter)
    confirmed: Counter[Check] = field(default_factory=Counter)
    """Cells that were drawn, and ended as predicted."""
    refuted: dict[str, str] = field(default_factory=dict)
    """By id of a cell that was drawn and ended otherwise, from which cell that had been predicted."""
    refused: Counter[str] = field(default_factory=Counter)
    """Why cells that ran say nothing about others."""

    def facts(self) -> ReuseFacts:
        """What `run.json` keeps."""
        return ReuseFacts(
            seed=self.seed,
            reused=self.reused.total(),
            confirmed=self.confirmed.total(),
            refuted=tuple(sorted(self.refuted)),
        )


class Reuse:
    """What one run knows of its cells."""

    def __init__(
        self,
        releases: Mapping[str, Release],
        folders: Mapping[str, Path],
        *,
        seed: int,
        kept: KeptOutcomes | None = None,
    ) -> None:
        """See the module.

        Args:
            releases: By label, and `folders` with where each is installed.
            seed: Of the draw of cells that run all the same.
            kept: What earlier runs found out; None for what this run finds out alone.
        """
        self._releases = {
            label: ReleaseFiles(folders[label], release.version)
            for label, release in releases.items()
            if label in folders
        }
        self._orders: dict[str, FullImport] = {}
        self._kept = kept
        self._known: dict[str, list[KnownOutcome]] = {}
        self._new: dict[str, Check] = {}
        """By key, the check of cells of which this run found out something."""
        self._tried: dict[str, int] = {}
        """By id of a cell, how many of those known it was compared with."""
        self._drawn: dict[str, KnownOutcome] = {}
        """By id, cells that run though they could be reused."""
        self._given: dict[Check, list[Cell]] = defaultdict(list)
        self._faulty: set[Check] = set()
        self._keys: dict[str, str] = {}
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._draws: dict[Check, tuple[int, int]] = {}
        self.count = ReuseCount(seed=seed)

    def answers(self, cell: Cell) -> bool:
        """Whether cells like this one can be reused at all."""
        return cell.check in REUSABLE and cell.device is Device.CPU and cell.check not in self._faulty

    def learn_import(self, outcome: Outcome) -> None:
        """Take the order of registrations from an `import` check that passed."""
        rows = outcome.evidence.get(registry.EVIDENCE, {}).get("registrations", ())
        self._orders[outcome.cell.release] = FullImport(
            tuple((table, name, module) for table, name, module, *_ in rows)
        )

    def learn(self, outcome: Outcome, request: Mapping[str, Any], used: Any) -> None:
        """Take the outcome of a cell that ran; `used` is what it recorded."""
        cell = outcome.cell
        if not self.answers(cell) or cell.release not in self._releases:
            return
        if (predicted := self._drawn.pop(cell.id, None)) is not None:
            self._compare(predicted.outcome, outcome)
        try:
            release = self._release(cell)
            found = fingerprint(CodeUsed.from_json(used), outcome, release)
        except NotReusable as why:
            self.count.refused[str(why)] += 1
            return
        shared = self._key(cell, request)
        known = self._known_of(shared)
        if all(one.fingerprint != found for one in known):
            known.append(KnownOutcome(outcome=outcome, fingerprint=found))
            self._new[shared] = cell.check

    def offer(self, cell: Cell, request: Mapping[str, Any]) -> Outcome | None:
        """The outcome of a cell that need not run; None for one that is to run."""
        if not self.answers(cell) or cell.release not in self._releases or cell.id in self._drawn:
            return None
        known = self._known_of(self._key(cell, request))
        first, self._tried[cell.id] = self._tried.get(cell.id, 0), len(known)
        release = self._release(cell)
        for one in known[first:]:
            predicted = self._carried(one.outcome, cell) if equals(one.fingerprint, release) else None
            if predicted is None:
                continue
            if self.is_drawn(cell.check):
                self._drawn[cell.id] = one
                return None
            self._given[cell.check].append(cell)
            self.count.reused[cell.check] += 1
            return predicted
        return None

    def take_back(self) -> list[Cell]:
        """Cells that were reused of a check that has turned out not to be reusable, and of those that depend on it."""
        back: list[Cell] = []
        for check in list(self._given):
            if any(faulty.position <= check.position for faulty in self._faulty):
                back += self._given.pop(check)
                self.count.reused[check] = 0
                self._faulty.add(check)
        return back

    def save(self) -> None:
        """Keep for later runs what this one found out; of a check that is not reusable, forget what was kept.

        Raises:
            OSError: the cache cannot be written to.
        """
        if self._kept is None:
            return
        for shared, check in self._new.items():
            self._kept.save(shared, [] if check in self._faulty else self._known[shared])
        self._kept.prune()

    def _known_of(self, shared: str) -> list[KnownOutcome]:
        if shared not in self._known:
            self._known[shared] = self._kept.load(shared) if self._kept else []
        return self._known[shared]

    def _key(self, cell: Cell, request: Mapping[str, Any]) -> str:
        if cell.id not in self._keys:
            self._keys[cell.id] = key(request)
        return self._keys[cell.id]

    def _release(self, cell: Cell) -> ReleaseSeen:
        return ReleaseSeen(files=self._releases[cell.release], order=self._orders.get(cell.release))

    def is_drawn(self, check: Check) -> bool:
        """One at a random place in each `ONE_IN`; the first block is one cell long."""
        left, place = self._draws.get(check, (1, 1))
        drawn = left == place
        left -= 1
        self._draws[check] = (left, place) if left else (ONE_IN, self._random.randint(1, ONE_IN))
        return drawn

    def _compare(self, predicted: Outcome, outcome: Outcome) -> None:
        carried = self._carried(predicted, outcome.cell)
        if carried is not None and comparable(carried) == comparable(outcome):
            self.count.confirmed[outcome.cell.check] += 1
            return
        self.count.refuted[outcome.cell.id] = predicted.cell.id
        self._new |= {shared: outcome.cell.check for name, shared in self._keys.items() if name == outcome.cell.id}
        self._faulty.add(outcome.cell.check)

    def _carried(self, outcome: Outcome, cell: Cell) -> Outcome | None:
        """An outcome as that of another release's cell; None where it names its own release."""
        evidence = dict(outcome.evidence)
        if outcome.cell.release != cell.release:
            if "log_tail" in evidence:
                text = str(evidence["log_tail"])
                evidence["log_tail"] = _ANNOUNCED.sub(rf"\g<1>{self._releases[cell.release].version}.", text)
            if outcome.cell.release in json.dumps({**outcome.to_json(), "evidence": evidence, "id": "", "cell": ""}):
                return None
        return replace(
            outcome,
            cell=cell,
            metrics={name: value for name, value in outcome.metrics.items() if name not in _OF_THE_MACHINE},
            evidence={**evidence, REUSED: {"cell": outcome.cell.id, "ran": outcome.started}},
            seconds=0.0,
            started=wire.now(),
        )


def key(request: Mapping[str, Any]) -> str:
    """What cells of several releases must have in common: the request without what is the release's."""
    release = {name: part for name, part in request["release"].items() if name not in OF_THE_RELEASE}
    return json.dumps({**request, "release": release}, sort_keys=True)


def comparable(outcome: Outcome) -> Mapping[str, Any]:
    """What must be equal in two runs of one cell: all but the time, the machine's share, and what it printed."""
    data = outcome.to_json()
    without = {"log_tail", REUSED}
    return {
        **{name: part for name, part in data.items() if name not in ("seconds", "started")},
        "metrics": {name: part for name, part in data["metrics"].items() if name not in _OF_THE_MACHINE},
        "evidence": {name: part for name, part in data["evidence"].items() if name not in without},
    }
