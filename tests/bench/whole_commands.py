"""Whole commands, timed as a user meets them: from the start of the interpreter to the last line that is printed."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.built_in import KNOWN_ISSUES_NAME, shipped_file
from harness.core.cells import Status, Verdict
from harness.core.evidence import REUSED
from harness.rules.known_issues import load_known_issues
from harness.rules.verdicts import judge
from harness.run.store import LoadedRun
from harness.variants.catalogue import available

_PROGRAM = Path(__file__).with_name("kept_outcomes_at.py")
_LAST_CHARACTERS = 3000


@dataclass(frozen=True, kw_only=True)
class TimedCommand:
    """A command that ended."""

    seconds: float
    processor_seconds: float
    """Of all its processes, user and system together."""
    load_before: float
    status: int
    output: str

    def measured(self, words: str) -> dict[str, str]:
        """What a figure says of it; `words` is what was run."""
        return {
            "command": words,
            "processor time": f"{self.processor_seconds:.0f} s",
            "load average before": f"{self.load_before:.1f}",
        }

    def require(self, *statuses: int) -> None:
        """Fail with what the command printed unless its exit status is one of these."""
        assert self.status in statuses, f"exit status {self.status}\n{self.output[-_LAST_CHARACTERS:]}"


def timed_command(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> TimedCommand:
    """Run a command to its end."""
    load, before, begin = os.getloadavg()[0], _children_seconds(), time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return TimedCommand(
        seconds=time.perf_counter() - begin,
        processor_seconds=_children_seconds() - before,
        load_before=load,
        status=done.returncode,
        output=done.stdout,
    )


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, kw_only=True)
class HarnessCommands:
    """The harness's commands with a warm cache, and kept outcomes in a folder of their own."""

    python: Path
    cache: Path
    folder: Path
    """In which they run."""

    def run(self, *words: str, kept: str) -> TimedCommand:
        """Run a command; `kept` names the folder of kept outcomes, which is empty if it is not there."""
        command = [str(self.python), str(_PROGRAM), str(self.folder / kept), *words, "--cache", str(self.cache)]
        return timed_command(command, cwd=self.folder)


def cells_told(run: LoadedRun) -> dict[str, str]:
    """How many cells of a run were run and how many reused, and what became of the sample.

    Fails where the run does not answer every question, or where reuse was wrong.
    """
    statuses = Counter(outcome.status for outcome in run.outcomes)
    unmeasured = {Status.ERRORED, Status.CRASHED, Status.TIMED_OUT} & set(statuses)
    assert not unmeasured, statuses
    assert not run.missing, f"{run.missing} cells have no outcome"
    reused = sum(REUSED in outcome.evidence for outcome in run.outcomes)
    not_run = statuses[Status.BLOCKED]
    releases = len({outcome.cell.release for outcome in run.outcomes})
    facts = run.provenance.reuse
    assert facts is None or not facts.refuted, f"reuse was wrong: {facts}"
    unlisted = {Verdict.REGRESSION, Verdict.UNEXPECTED_PASS}
    issues = load_known_issues(shipped_file(KNOWN_ISSUES_NAME), variants=available())
    judged = [each for each in judge(run.outcomes, issues) if each.verdict in unlisted]
    found = [f"{each.outcome.cell.id} ({each.verdict})" for each in judged]
    drawn = {"run although reusable": f"{facts.confirmed}, all ended as predicted"} if facts else {}
    return {
        "cells": f"{len(run.outcomes)} in {releases} releases: {len(run.outcomes) - reused - not_run} run, {reused} "
        f"reused, {not_run} blocked",
        **drawn,
        "statuses": ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
        **({"not as the known issues say": "; ".join(found)} if found else {}),
    }
