"""With which releases would this training work? What can be said of every published one without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from harness.config.built_in import built_in_folder
from harness.core.cells import Check, Entry, Outcome, Release, Severity, Status
from harness.core.versions import Order
from harness.preflight.findings import GRAVEST_FIRST
from harness.preflight.inputs import Inputs
from harness.preflight.release import combinations, known
from harness.releases import install_path
from harness.releases.first_releases import FIRST
from harness.run.archive import holds_run
from harness.run.store import load_run

ATLAS = built_in_folder().parent / "reports" / "atlas"
"""The committed run of every release; a wheel does not carry it."""
_TRIED = (Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE)
_ENDED = (Status.FAILED, Status.CRASHED, Status.TIMED_OUT)


@dataclass(frozen=True, kw_only=True)
class ReleaseReason:
    """Why a release is not one to train with."""

    severity: Severity
    rule: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ReleaseGroup:
    """Consecutive releases of which the same is to be said."""

    releases: str
    """`1.0.18 – 1.0.23 (6 releases)`."""
    severity: Severity | None
    """The gravest; None where nothing above `minor` was found."""
    reasons: tuple[ReleaseReason, ...]


@dataclass(frozen=True, kw_only=True)
class ReleaseTable:
    """Every release, newest first."""

    groups: tuple[ReleaseGroup, ...]
    best: str
    """The newest of which nothing above `minor` is known; empty where there is none."""
    read: int
    """Of how many the code was read; of the others only what is recorded is known."""
    listed: int
    atlas: bool
    """Whether the committed run of every release was at hand."""

    def lines(self) -> tuple[str, ...]:
        """A line for each group, and what to install."""
        rows = [
            f"{one.severity or 'go':>6}  {one.releases}" + "".join(f"\n        {reason.text}" for reason in one.reasons)
            for one in self.groups
        ]
        last = f"Best: pip install funasr=={self.best}" if self.best else "No release is without a finding above minor."
        seen = f"The code of {self.read} of {self.listed} releases was read; of the others what is recorded is known."
        return (*rows, last, *([seen] if self.read < self.listed else []))

    def to_json(self) -> dict[str, Any]:
        """The record for `--json`."""
        groups = [
            {
                "releases": one.releases,
                "severity": one.severity,
                "reasons": [{"severity": why.severity, "rule": why.rule, "text": why.text} for why in one.reasons],
            }
            for one in self.groups
        ]
        return {"releases": groups, "best": self.best or None, "read": self.read, "listed": self.listed}


def which_releases(
    inputs: Inputs, locked: Sequence[Release], *, progress: Callable[[str], None] = lambda _: None
) -> ReleaseTable:
    """What would happen in each published release: by its code where it lies in the cache, the known issues, the
    components that it has, and the committed run of every release.
    """
    recorded = _recorded(inputs)
    reasons: dict[str, tuple[ReleaseReason, ...]] = {}
    read = 0
    for release in locked:
        install_dir = install_path(release, inputs.cache)
        there = (install_dir / "funasr" / "__init__.py").is_file()
        read += there
        if there:
            progress(f"reading FunASR {release.label}")
        found = _of_release(inputs, release, install_dir if there else None)
        if not any(one.severity is Severity.BROKEN for one in found):
            found = [*found, *recorded.get(release.label, ())]
        reasons[release.label] = tuple(sorted(found, key=lambda one: GRAVEST_FIRST.index(one.severity)))
    labels = [release.label for release in locked]
    sound = [label for label in labels if not reasons[label] and not Version(label).is_prerelease]
    return ReleaseTable(
        groups=_grouped(labels, reasons),
        best=sound[-1] if sound else "",
        read=read,
        listed=len(labels),
        atlas=bool(recorded) or holds_run(ATLAS),
    )


def _of_release(inputs: Inputs, release: Release, install_dir: Path | None) -> list[ReleaseReason]:
    if install_dir is not None:
        here = replace(inputs, release=release, install_dir=install_dir)
        findings = [*known.check(here).findings]
        if not any(one.severity is Severity.BROKEN for one in findings):
            findings += combinations.check(here).findings
        return [
            ReleaseReason(severity=one.severity, rule=f"{one.rule} {one.place.key}", text=_plain(one.message, release))
            for one in findings
            if one.severity is not Severity.MINOR
        ]
    absent = _absent(inputs, release)
    if absent:
        return absent
    entry = inputs.command.entry or (Entry.TRAIN_DS if _has(release, "entry/train_ds") else Entry.TRAIN)
    here = replace(inputs, release=release, command=replace(inputs.command, entry=entry))
    return [
        ReleaseReason(severity=one.severity, rule=f"known-{one.id}", text=one.title)
        for one in known.applying(here)
        if one.severity is Severity.BROKEN or (one.applies_when and one.severity is not Severity.MINOR)
    ]


def _plain(message: str, release: Release) -> str:
    """A message that is the same for neighbours."""
    text = message.replace(f"known issue of FunASR {release.label}: ", "").replace(f"FunASR {release.label}", "it")
    return text.replace("funasr/bin/", "")


def _absent(inputs: Inputs, release: Release) -> list[ReleaseReason]:
    wanted = [f"{key}_classes/{inputs.config.get(key)}" for key in ("model", "encoder", "decoder", "predictor")]
    wanted += [f"entry/{inputs.command.entry}"] if inputs.command.entry else []
    return [
        ReleaseReason(
            severity=Severity.BROKEN, rule=name, text=f"it has no {name.rpartition('/')[2]}; {FIRST[name]} is the first"
        )
        for name in wanted
        if not _has(release, name)
    ][:1]


def _has(release: Release, name: str) -> bool:
    return name not in FIRST or Version(FIRST[name]) <= Version(release.version)


def _recorded(inputs: Inputs) -> Mapping[str, tuple[ReleaseReason, ...]]:
    """By release, how the committed run ended for the model, where a training could not be done."""
    variants = known.variants_of(inputs.config)
    if not variants or not holds_run(ATLAS):
        return {}
    found: dict[str, dict[str, ReleaseReason]] = {}
    for outcome in load_run(ATLAS).outcomes:
        if outcome.cell.variant in variants and _ends_training(outcome, inputs.command.entry):
            signature = outcome.failure.signature if outcome.failure else str(outcome.status)
            reason = ReleaseReason(
                severity=Severity.BROKEN,
                rule=signature,
                text=f"its training ended with {signature} in the harness's own run",
            )
            found.setdefault(outcome.cell.release, {}).setdefault(signature, reason)
    return {release: tuple(all_.values())[:1] for release, all_ in found.items()}


def _ends_training(outcome: Outcome, entry: str | None) -> bool:
    cell = outcome.cell
    if cell.check not in _TRIED or outcome.status not in _ENDED or (entry and cell.entry not in (None, entry)):
        return False
    # That it trained otherwise than configured is what known issues and the other parts tell.
    return outcome.failure is None or not outcome.failure.signature.startswith("NotTrained@")


def _grouped(labels: Sequence[str], reasons: Mapping[str, tuple[ReleaseReason, ...]]) -> tuple[ReleaseGroup, ...]:
    order = Order.of(labels, ())
    alike: dict[tuple[str, ...], list[str]] = {}
    for label in labels:
        alike.setdefault(tuple(one.rule for one in reasons[label]), []).append(label)
    groups = [
        (Version(span.last), ReleaseGroup(releases=str(span), severity=_gravest(first), reasons=first))
        for same in alike.values()
        for span in order.spans(same)
        for first in (reasons[span.first],)
    ]
    return tuple(group for _, group in sorted(groups, key=lambda one: one[0], reverse=True))


def _gravest(reasons: Sequence[ReleaseReason]) -> Severity | None:
    return reasons[0].severity if reasons else None
