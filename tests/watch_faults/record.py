"""The committed record of a run, `reports/watched.json` and `watched.md`, from what each training's folder has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.core.wire import now
from harness.run.provenance import code_state, this_machine
from watch_faults.catalogue import FAULTS, SOUND
from watch_faults.measure import Outcome, folder_of

OUTCOME = "outcome.json"
_SHORT = 12

_ABOUT = """\
# Watched trainings

Real trainings with FunASR 1.4.16 under `funasr-harness watch`, by `nox -s watched`: faults planted in the release, \
the data or the command, each of which has to be named with its severity, and sound trainings, of which nothing above \
`minor` may be said ([how](../CONTRIBUTING.md#watched-trainings)).
"""


def keep(room: Path, outcome: Outcome) -> None:
    """Write what was found into the training's own folder."""
    commit, changed = code_state()
    training = outcome.training
    found = {
        "name": training.name,
        "expected": [f"{severity} {rule}" for rule, severity in training.expected],
        "found": [f"{severity} {rule}" for rule, severity in outcome.found.items()],
        "as_expected": outcome.caught,
        "seconds": round(outcome.seconds),
        "harness": f"{commit or 'unknown'}{'+' if changed else ''}",
        "date": now(),
    }
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    (folder_of(room, training) / OUTCOME).write_text(text, encoding="utf-8")


def write(room: Path, reports: Path) -> bool:
    """Write the record where the folder has an outcome of every training; returns whether it has."""
    paths = [folder_of(room, one) / OUTCOME for one in (*FAULTS, *SOUND)]
    if not all(path.exists() for path in paths):
        return False
    rows = [json.loads(path.read_text("utf-8")) for path in paths]
    faults, sound = rows[: len(FAULTS)], rows[len(FAULTS) :]
    machine = this_machine()
    record = {
        "processor": machine.processor,
        "processors": machine.cpu_count,
        "GPUs": ", ".join(machine.gpus) or "none",
        "named": sum(row["as_expected"] for row in faults),
        "accused": sum(not row["as_expected"] for row in sound),
        "faults": faults,
        "sound": sound,
    }
    (reports / "watched.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (reports / "watched.md").write_text(_markdown(record), encoding="utf-8")
    return True


def _markdown(record: Mapping[str, Any]) -> str:
    faults, sound = record["faults"], record["sound"]
    commits = list(dict.fromkeys(row["harness"] for row in (*faults, *sound)))
    minutes = sum(row["seconds"] for row in (*faults, *sound)) / 60
    parts = [
        _ABOUT,
        f"**{record['named']} of {len(faults)} planted faults named with their severity; "
        f"{record['accused']} of {len(sound)} sound trainings accused.**",
        f"{minutes:.0f} minutes on {record['processor']}, {record['processors']} processors, GPUs: {record['GPUs']}; "
        f"{min(row['date'] for row in (*faults, *sound))[:10]}; harness {', '.join(commits)}.",
        *_run_again(faults, sound, commits),
        "## Planted faults",
        _table(faults, ("expected", "found")),
        "## Sound trainings",
        _table(sound, ("found",)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _run_again(faults: Sequence[Any], sound: Sequence[Any], commits: Sequence[str]) -> list[str]:
    """Which trainings are not of the commit that most are of."""
    if len(commits) == 1:
        return []
    rows = (*faults, *sound)
    most = max(commits, key=lambda commit: sum(row["harness"] == commit for row in rows))
    others = [f"{row['name']} (on {row['harness'][:_SHORT]})" for row in rows if row["harness"] != most]
    return [f"Not of one run: the trainings ran on {most[:_SHORT]}, but for {', '.join(others)}."]


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    def cell(row: Mapping[str, Any], column: str) -> str:
        joined = (" or " if column == "expected" else ", ").join(row[column])
        return joined or "nothing"

    lines = []
    for row in rows:
        said = "yes" if row["as_expected"] else "**no**"
        lines.append([row["name"], *(cell(row, column) for column in columns), said, row["seconds"]])
    return tabulate(lines, headers=("training", *columns, "as expected", "s"), tablefmt="github", disable_numparse=True)
