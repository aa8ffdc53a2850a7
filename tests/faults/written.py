"""What a power run writes, and the committed table of faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.core.cells import Check, Status
from harness.core.durable import replace_file
from harness.rules.verdicts import JudgedOutcome
from harness.text.markdown import code, md

from .measure import Power
from .records import BY_RUNG, Fault
from .score import SHARE_ASKED, Seen, Sight, share, share_graded

SCHEMA = 1
BEGIN = "<!-- The table is written by `python -m tests.faults table`. -->"
END = "<!-- End of the table. -->"


def as_json(power: Power) -> dict[str, Any]:
    """The run's figures and every fault, as `reports/power.json` holds them."""
    sound = power.soundness
    return {
        "schema": SCHEMA,
        "faults": len(power.seen),
        "sights": {str(sight): count for sight, count in sorted(Counter(one.sight for one in power.seen).items())},
        "share_caught": share(power.seen),
        "share_graded": share_graded(power.seen),
        "share_asked": SHARE_ASKED,
        "sound_cells": sound.repeats,
        "sound_cells_in_other_configurations": sound.configured,
        "false_accusations": [_judged(one) for one in sound.accused],
        "not_measured": [_judged(one) for one in sound.unmeasured],
        "known_issues_of_the_sound_release": sound.known,
        "seconds": round(power.seconds, 1),
        "run": power.provenance.to_json() | {"libraries": {}} if power.provenance else None,
        "seen": [_seen(one) for one in power.seen],
    }


def headlines(power: Power) -> list[str]:
    """The figures, a sentence each."""
    counts = Counter(one.sight for one in power.seen)
    told = ", ".join(f"{counts[sight]} {sight}" for sight in Sight if counts[sight])
    sound = power.soundness
    cells = ", ".join(f"{count} {check}" for check, count in sound.repeats.items())
    lines = [
        f"{sum(one.counts for one in power.seen)} of {len(power.seen)} planted faults caught "
        f"({100 * share(power.seen):.1f} %; asked: {100 * SHARE_ASKED:.0f} %): {told or 'none planted'}.",
        f"{sum(one.graded for one in power.seen)} of them with the right severity "
        f"({100 * share_graded(power.seen):.1f} %; asked: {100 * SHARE_ASKED:.0f} %).",
        f"{len(sound.accused)} false accusations in {sum(sound.repeats.values())} cells of the sound release, "
        f"{sound.configured} of them in configurations other than the default: {cells}.",
    ]
    if sound.unmeasured:
        lines.append(f"{len(sound.unmeasured)} of its cells were not measured.")
    return lines


def table(power: Power, *, fmt: str) -> str:
    """Every fault and what came of it; those that were not caught first."""
    ranked = sorted(power.seen, key=lambda one: list(Sight).index(one.sight), reverse=True)
    rows = [
        (
            code(one.fault.name) if fmt == "github" else one.fault.name,
            str(one.fault.family),
            _expectation(one.fault, marked=fmt == "github"),
            str(one.sight),
            f"{one.check or '-'}: {one.status}" if one.status else "-",
            f"{one.severity or '-'}{'' if one.graded or not one.counts else f', is {grave(one.fault)}'}",
            (code(one.signature) if fmt == "github" and one.signature else one.signature) or "-",
            f"{one.seconds:.1f}",
        )
        for one in ranked
    ]
    return tabulate(rows, ("fault", "family", "expected", "verdict", "seen", "severity", "evidence", "s"), tablefmt=fmt)


def write(power: Power, folder: Path) -> tuple[Path, Path]:
    """Write `power.json` and `power.md`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / "power.json", folder / "power.md"
    replace_file(data, (json.dumps(as_json(power), indent=1, ensure_ascii=False) + "\n").encode())
    accused = [f"- {code(one.outcome.cell.id)}: {md(one.sentence)}" for one in power.soundness.accused]
    missed = [f"- {code(one.fault.name)}: {one.fault.title} {md(one.reason)}" for one in power.seen if not one.counts]
    sections = ["# Detection power", *(f"**{line}**" for line in headlines(power)), _setting(power)]
    if accused:
        sections += ["## Falsely accused", "\n".join(accused)]
    if missed:
        sections += ["## Not caught", "\n".join(missed)]
    sections += ["## Every fault", table(power, fmt="github")]
    replace_file(page, ("\n\n".join(sections) + "\n").encode())
    return data, page


def catalogue(faults: Sequence[Fault]) -> str:
    """The committed table: each fault, what is wrong, and what must come of it."""
    rows = [
        (code(fault.name), str(fault.family), fault.title, grave(fault), _expectation(fault, marked=True))
        for fault in faults
    ]
    rows.sort(key=lambda row: row[1])
    return tabulate(rows, ("fault", "family", "what is wrong", "severity", "must give"), tablefmt="github")


def grave(fault: Fault) -> str:
    """How grave a fault is, in words."""
    expected = fault.expected
    if expected.check is None or expected.status is Status.SKIPPED:
        return "-"
    graver = " or graver" if expected.or_graver or expected.check is Check.PROPERTIES else ""
    return f"{expected.severity or BY_RUNG[expected.check]}{graver}"


def update(page: Path, faults: Sequence[Fault]) -> bool:
    """Write the table between its marks in a page; whether that changed anything."""
    text = page.read_text("utf-8")
    new = with_table(text, faults)
    if new != text:
        page.write_text(new, "utf-8")
    return new != text


def with_table(text: str, faults: Sequence[Fault]) -> str:
    """The page's text with the table between its marks as it must be."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{catalogue(faults)}\n\n{END}{tail}"


def _expectation(fault: Fault, *, marked: bool) -> str:
    expected = fault.expected
    if expected.check is None:
        return "the command line refuses"
    told = f"{expected.check}: {expected.status}"
    if expected.signature == "*":
        return told
    return f"{told}, {code(expected.signature) if marked else expected.signature}"


def _setting(power: Power) -> str:
    run = power.provenance
    if run is None:
        return ""
    machine = f"{run.processor}, {run.cpu_count} processors, Python {run.python}, torch {run.torch}"
    return f"{power.seconds / 60:.1f} minutes on {machine}; {run.started}; harness {run.code}."


def _seen(one: Seen) -> dict[str, Any]:
    fault = one.fault
    return {
        "name": fault.name,
        "family": str(fault.family),
        "title": fault.title,
        "files": [f"funasr/{name}" for name in fault.files],
        "expected": {
            "check": fault.expected.check,
            "status": str(fault.expected.status),
            "signature": fault.expected.signature,
            "severity": grave(fault),
        },
        "verdict": str(one.sight),
        "seen": {
            "check": one.check,
            "status": one.status,
            "signature": one.signature,
            "reason": one.reason,
            "severity": one.severity,
        },
        "seconds": round(one.seconds, 2),
    }


def _judged(one: JudgedOutcome) -> dict[str, Any]:
    outcome = one.outcome
    signature = outcome.failure.signature if outcome.failure else None
    return {"cell": outcome.cell.id, "status": str(outcome.status), "signature": signature, "reason": outcome.reason}
