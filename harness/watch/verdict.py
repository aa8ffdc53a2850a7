"""What watching a training came to, as a JSON record."""

from __future__ import annotations

import dataclasses

from harness.watch.watching import WatchedTraining

RECORD = "report.json"
SCHEMA = 1


def record(watched: WatchedTraining) -> dict[str, object]:
    """Findings, faults and figures, as plain data."""
    checkpoint = watched.last_checkpoint
    return {
        "schema": SCHEMA,
        "status": watched.status,
        "stopped_for": watched.stopped_for.rule if watched.stopped_for else None,
        "last_checkpoint": {"path": checkpoint.path, "step": checkpoint.step} if checkpoint else None,
        "findings": [
            {**dataclasses.asdict(finding), "severity": str(finding.severity)} for finding in watched.findings.ordered
        ],
        "faults": dict(watched.findings.faults),
        "ranks": [
            {
                "rank": rank.rank,
                "pid": rank.process.pid if rank.process else None,
                "funasr": rank.process.funasr if rank.process else None,
                "steps": rank.steps,
                "skipped": rank.skipped,
                "ended": rank.ended.how if rank.ended else None,
                "last_loss": rank.curves["loss"].values[-1] if "loss" in rank.curves else None,
                "observers_that_failed": [failure.observer for failure in rank.failures],
            }
            for rank in watched.state.ranks.values()
        ],
        "damaged_lines": {name: file.damaged for name, file in watched.records.files.items() if file.damaged},
    }
