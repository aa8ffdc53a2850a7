"""Decides during a run which cells are not run, because another cell shows how they end: one of another release that
uses the same code and files, or one that an earlier run made of the same release.

It learns from each cell that ran, and then answers for those that wait. Some of the cells that could be reused run all
the same, drawn by chance: where one ends otherwise than predicted, the harness is at fault, nothing of that check is
reused any more, and what was reused of it is run.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core import wire
from harness.core.cells import Cell, Check, Device, Outcome, Release, Status
from harness.core.evidence import REUSED
from harness.run.provenance import ReuseFacts
from harness.run.reuse import same_release
from harness.run.reuse.fingerprint import CodeUsed, NotReusable, ReleaseSeen, equals, fingerprint, whole_release
from harness.run.reuse.kept import KeptOutcomes, KnownOutcome, Registrations
from harness.run.reuse.release_files import ReleaseFiles
from harness.run.reuse.sample import ReuseSample, by_itself, of_model, of_release
from harness.worker.release import registry
from harness.worker.release.importer import FullImport

REUSABLE = frozenset({Check.CONSTRUCT, Check.LOSS_CONTRACT})
"""Checks whose outcomes follow from code and request alone: no time, no speed, no child processes."""
OF_THE_RELEASE = ("label", "version", "install_dir", "order")
"""Parts of a request that differ in every release: which of them matter is part of the fingerprint."""
_ANNOUNCED = re.compile(r"(funasr version: )\S+\.$", re.MULTILINE)
"""What releases print of themselves."""


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
        kept_outcomes: KeptOutcomes | None = None,
        base: str = "",
        alone: bool = False,
        not_reusable: Iterable[Check] = (),
    ) -> None:
        """See the module.

        Args:
            releases: By label, and `folders` with where each is installed.
            seed: Of the draw of cells that run nevertheless.
            kept_outcomes: What earlier runs found out; None for what this run finds out alone.
            base: A release that all others are compared with: its cells run first, and of each other release some
                models are drawn. Empty where releases show each other how they end.
            alone: Whether the run is of one release, whose cells earlier runs show: a model is drawn, not all of it.
            not_reusable: Checks of which the same run reused a wrong outcome before it was interrupted.
        """
        self.base = base
        self._draws_models = alone or bool(base)
        self._releases = {
            label: ReleaseFiles(folders[label], release.version)
            for label, release in releases.items()
            if label in folders
        }
        self._orders: dict[str, FullImport] = {}
        self._new_orders: dict[str, Registrations] = {}
        self._kept = kept_outcomes
        self._known: dict[str, list[KnownOutcome]] = {}
        self._new: dict[str, Check] = {}
        """By key, the check of cells of which this run found out something."""
        self._tried: dict[str, int] = {}
        """By id of a cell, how many of those known it was compared with."""
        self._seen: dict[str, ReleaseSeen] = {}
        self._example: KnownOutcome | None = None
        """The newest of all, to guess by what cells of a kind use of which nothing is known yet."""
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._samples: dict[str, ReuseSample] = {}
        """By release where there is a base; else one for all."""
        self._given: dict[Check, list[Cell]] = defaultdict(list)
        self._drawn_alone: dict[str, bool] = {}
        """By id of a cell that an earlier run of the same release shows, whether it runs all the same."""
        self._faulty = set(not_reusable)
        self._keys: dict[str, str] = {}
        self.count = ReuseCount(seed=seed)

    def answers(self, cell: Cell) -> bool:
        """Whether another release's cell can show how cells like this one end."""
        return cell.check in REUSABLE and cell.device is Device.CPU and cell.check not in self._faulty

    def remembers(self, cell: Cell) -> bool:
        """Whether an earlier run of the same release can show how cells like this one end.

        That needs no outcome of this run: such a cell is answered before those that it depends on.
        """
        return cell.check in same_release.CHECKS and cell.device is Device.CPU and cell.check not in self._faulty

    def awaits_base(self, unsettled: Iterable[Cell]) -> bool:
        """Whether cells of the base are still to come that others may take over."""
        return any(cell.release == self.base and self.answers(cell) for cell in unsettled)

    def in_drawing_order(self, cells: Mapping[int, Cell]) -> list[tuple[int, Cell]]:
        """In which order cells are offered: models by chance, for the first that could be reused is drawn."""
        if not self._draws_models:
            return list(cells.items())
        models = list(dict.fromkeys(map(of_model, cells.values())))
        self._random.shuffle(models)
        return sorted(cells.items(), key=lambda item: models.index(of_model(item[1])))

    def known_orders(self) -> Mapping[str, Registrations]:
        """By release, in which order a full import registers components, as earlier runs found out."""
        stored_orders = self._kept.load_orders() if self._kept else {}
        orders = {label: stored_orders.get(files.install_dir.name, ()) for label, files in self._releases.items()}
        self._orders |= {label: FullImport(rows) for label, rows in orders.items() if rows}
        return orders

    def learn_import(self, outcome: Outcome) -> None:
        """Take the order of registrations from an `import` check that passed."""
        self._remember(outcome.cell.release, outcome.evidence)

    def learn_order(self, release: str, result: Mapping[str, Any]) -> None:
        """Take the order of registrations that was found out for this run."""
        if rows := self._remember(release, result.get("evidence", {})):
            self._new_orders[self._releases[release].install_dir.name] = rows

    def _remember(self, release: str, evidence: Mapping[str, Any]) -> Registrations:
        try:
            rows = evidence[registry.EVIDENCE]["registrations"]
            registrations = tuple((str(table), str(name), str(module)) for table, name, module, *_ in rows)
        except (KeyError, TypeError, ValueError):
            registrations = ()
        self._orders[release] = FullImport(registrations)
        self._seen.pop(release, None)
        return registrations

    def learn(self, outcome: Outcome, request: Mapping[str, Any], used: Any) -> None:
        """Take the outcome of a cell that ran; `used` is what it recorded."""
        cell = outcome.cell
        if cell.release not in self._releases or outcome.status is Status.ERRORED:
            # the machine's own fault, or ours: nothing was learned
            return
        if self.remembers(cell):
            self._learn_of_same_release(outcome, request)
        if not self.answers(cell):
            return
        release, shared = self._release(cell), self._key(cell, request)
        known = self._known_of(shared)
        predicted = next((candidate for candidate in known if equals(candidate.fingerprint, release)), None)
        self._sample_of(cell).ran(cell, predicted is not None)
        if predicted is not None:
            self._compare(predicted.outcome, outcome)
        try:
            recorded = fingerprint(CodeUsed.from_json(used), outcome, release)
        except NotReusable as why:
            self.count.refused[str(why)] += 1
            return
        if all(candidate.fingerprint != recorded for candidate in known):
            self._example = KnownOutcome(outcome=outcome, fingerprint=recorded)
            known.append(self._example)
            self._new[shared] = cell.check

    def offer(self, cell: Cell, request: Mapping[str, Any]) -> Outcome | None:
        """The outcome of a cell that need not run; None for one that is to run."""
        if cell.release not in self._releases:
            return None
        if self.remembers(cell):
            return self._remembered(cell, request)
        if not self.answers(cell) or self._sample_of(cell).has(cell):
            return None
        known = self._known_of(self._key(cell, request))
        first, self._tried[cell.id] = self._tried.get(cell.id, 0), len(known)
        release = self._release(cell)
        for candidate in known[first:]:
            predicted = self._carried(candidate.outcome, cell) if equals(candidate.fingerprint, release) else None
            if predicted is None:
                continue
            if self._sample_of(cell).draws(cell):
                return None
            self._given[cell.check].append(cell)
            self.count.reused[cell.check] += 1
            return predicted
        return None

    def _learn_of_same_release(self, outcome: Outcome, request: Mapping[str, Any]) -> None:
        known = self._known_of_same_release(outcome.cell, request)
        if known is None:
            return
        release = self._release(outcome.cell)
        predicted = next((candidate for candidate in known if equals(candidate.fingerprint, release)), None)
        if predicted is not None:
            self._compare(predicted.outcome, outcome)
            return
        try:
            recorded = whole_release(outcome, release)
        except NotReusable as why:
            self.count.refused[str(why)] += 1
            return
        known.append(KnownOutcome(outcome=outcome, fingerprint=recorded))
        self._new[self._keys[outcome.cell.id]] = outcome.cell.check

    def _remembered(self, cell: Cell, request: Mapping[str, Any]) -> Outcome | None:
        """The outcome that an earlier run of the same release shows, unless the cell is drawn: each by itself."""
        release = self._release(cell)
        for candidate in self._known_of_same_release(cell, request) or ():
            predicted = self._carried(candidate.outcome, cell) if equals(candidate.fingerprint, release) else None
            if predicted is None:
                continue
            if cell.id not in self._drawn_alone:
                self._drawn_alone[cell.id] = by_itself(self._random)
            if self._drawn_alone[cell.id]:
                return None
            self._given[cell.check].append(cell)
            self.count.reused[cell.check] += 1
            return predicted
        return None

    def _known_of_same_release(self, cell: Cell, request: Mapping[str, Any]) -> list[KnownOutcome] | None:
        """What is known of cells with this request; None where nothing may be taken over."""
        if cell.id not in self._keys:
            same = same_release.request_key(request)
            self._keys[cell.id] = key(same) if same else ""
        return self._known_of(self._keys[cell.id]) if self._keys[cell.id] else None

    def probably_alike(self, first: tuple[Cell, Mapping[str, Any]], second: tuple[Cell, Mapping[str, Any]]) -> bool:
        """Whether a cell need probably not run once another has, given each with its request.

        They are alike in everything that a cell of this kind is known to have used, or one of another kind.
        """
        cells = first[0], second[0]
        if not all(self.answers(cell) and cell.release in self._releases for cell in cells):
            return False
        shared = self._key(*first)
        if self._sample_of(first[0]).has(first[0]) or shared != self._key(*second):
            return False
        example = next(reversed(self._known_of(shared)), self._example)
        if example is None:
            return False
        first_release, second_release = map(self._release, cells)
        return all(first_release.value(need) == second_release.value(need) for need in example.fingerprint)

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
        if self._new_orders:
            self._kept.save_orders(self._new_orders)
        self._kept.prune()

    def _sample_of(self, cell: Cell) -> ReuseSample:
        name = cell.release if self.base else ""
        if name not in self._samples:
            self._samples[name] = ReuseSample(REUSABLE, self._random, of_model if self._draws_models else of_release)
        return self._samples[name]

    def _known_of(self, shared: str) -> list[KnownOutcome]:
        if shared not in self._known:
            self._known[shared] = self._kept.load(shared) if self._kept else []
        return self._known[shared]

    def _key(self, cell: Cell, request: Mapping[str, Any]) -> str:
        if cell.id not in self._keys:
            self._keys[cell.id] = key(request)
        return self._keys[cell.id]

    def _release(self, cell: Cell) -> ReleaseSeen:
        if cell.release not in self._seen:
            files, order = self._releases[cell.release], self._orders.get(cell.release)
            self._seen[cell.release] = ReleaseSeen(files=files, order=order)
        return self._seen[cell.release]

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
            metrics=same_release.without(outcome.metrics, same_release.MEASURED),
            evidence={**evidence, REUSED: {"cell": outcome.cell.id, "ran": outcome.started}},
            seconds=0.0,
            started=wire.now(),
        )


def key(request: Mapping[str, Any]) -> str:
    """What cells of several releases must have in common: the request without what is the release's."""
    release = {name: part for name, part in request["release"].items() if name not in OF_THE_RELEASE}
    return json.dumps({**request, "release": release}, sort_keys=True)


def comparable(outcome: Outcome) -> Mapping[str, Any]:
    """What must be equal in two runs of one cell: all but time and memory, and what it printed."""
    data = outcome.to_json()
    without = {"log_tail", REUSED}
    compared: Mapping[str, Any] = same_release.steady(
        {
            **{name: part for name, part in data.items() if name not in ("seconds", "started")},
            "evidence": {name: part for name, part in data["evidence"].items() if name not in without},
        }
    )
    return compared
