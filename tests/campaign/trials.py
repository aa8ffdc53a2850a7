"""What the parts of the campaign share: a stored run in a folder of its own, and what is compared after it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import signals
from execute_scene import MARK, Scene, marked

from harness.commands.exit_status import FAULT, guarded
from harness.core import processes
from tests.campaign import stored_run
from tests.campaign.stored_run import SCENE, STORE, small_scene

PROGRAM = Path(__file__).with_name("stored_run.py")
PATIENCE = 300.0
"""Seconds for what has to come; nothing is measured against it."""
_OF_THE_MOMENT = ("pid", "cwd", "entered", "log_tail")
"""Evidence that differs from run to run."""
OWN_FAULT = "a fault of the harness itself"
_INTERNAL = re.compile(rf"{OWN_FAULT}|Traceback \(most recent call last\)")
PLANTED = ("SIGKILL", "Cannot allocate memory: 'planted in")
"""In the reason of a cell that the injector killed or refused memory: no undisturbed run has such an outcome."""


@dataclass(kw_only=True)
class PartResult:
    """What a part of the campaign came to."""

    part: str
    seed: int
    tried: int = 0
    cells: int = 0
    """Outcomes that were compared with those of an undisturbed run."""
    lost: int = 0
    twice: int = 0
    differing: int = 0
    processes_left: int = 0
    folders_left: int = 0
    internal_errors: int = 0
    faults: list[str] = field(default_factory=list)
    """What did not hold, in words."""
    seconds: float = 0.0
    figures: dict[str, int] = field(default_factory=dict)
    """What else was counted."""

    @property
    def failed(self) -> bool:
        """Whether anything did not hold."""
        counts = (self.lost, self.twice, self.differing, self.processes_left, self.folders_left, self.internal_errors)
        return any(counts) or bool(self.faults)

    def fault(self, text: str) -> None:
        """Note one."""
        if len(self.faults) < 20:
            self.faults.append(text)

    def count_internal_errors(self, said: str) -> None:
        """Count the faults of the harness and the tracebacks in what a command printed, and note the first."""
        found = [match.start() for match in _INTERNAL.finditer(said)]
        self.internal_errors += len(found)
        if found:
            self.fault(said[max(0, found[0] - 300) : found[0] + 900])


class Command:
    """A forked child, with what `subprocess.Popen` has of one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        if self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if ended else None
        return self._status

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status, once it has ended."""
        end = time.monotonic() + seconds
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a run", seconds)
            processes.wait_readable([], timeout=min(1.0, end - time.monotonic()), pid=self.pid)
        return status

    def kill(self) -> None:
        """By SIGKILL."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)


@dataclass(kw_only=True)
class Trial:
    """One stored run that something happens to."""

    folder: Path
    scene: Scene
    result: PartResult

    @property
    def store(self) -> Path:
        """The run's folder."""
        return self.folder / STORE

    @property
    def temporary(self) -> Path:
        """Where temporary folders of the run lie."""
        return self.folder / "tmp"

    def start(self) -> Command:
        """The run, or the rest of it, in a fork of this process: what it would import is imported already."""
        self.temporary.mkdir(exist_ok=True)
        pid = os.fork()
        if pid:
            return Command(pid)
        status = FAULT
        try:
            signals.listen()
            os.environ.update({"TMPDIR": str(self.temporary), MARK: self.scene.mark})
            tempfile.tempdir = None
            os.chdir(self.folder)
            said = os.open("said.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for descriptor in (1, 2):
                os.dup2(said, descriptor)
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            status = guarded(lambda: stored_run.main(self.folder / SCENE, self.store), command="run", debug=False)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def start_afresh(self, **variables: str) -> subprocess.Popen[str]:
        """The same in an interpreter of its own, with further environment variables."""
        self.temporary.mkdir(exist_ok=True)
        path = [variables.pop("PYTHONPATH", ""), str(PROGRAM.parents[2]), str(PROGRAM.parents[1])]
        env = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            MARK: self.scene.mark,
            **variables,
        }
        words = [sys.executable, "-P", str(PROGRAM), str(self.folder / SCENE), str(self.store)]
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                words, env=env, text=True, stdout=said, stderr=said, preexec_fn=signals.listen, cwd=self.folder
            )

    def finish(self, process: Command | subprocess.Popen[str]) -> int:
        """Wait for its end; returns its exit status."""
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.result.fault(f"a run did not end within {PATIENCE:.0f} s")
            process.kill()
            status = process.wait()
        return status

    def said(self) -> str:
        """What all parts of the run printed."""
        return (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace")

    def wait_for_no_process(self, seconds: float = 60.0) -> None:
        """Those that are left after some time count."""
        end = time.monotonic() + seconds
        while (left := marked(self.scene.mark)) and time.monotonic() < end:
            time.sleep(0.02)
        self.result.processes_left += len(left)
        for pid in left:
            self.result.fault(f"process {pid} was left")
            with contextlib.suppress(OSError):
                os.kill(pid, 9)

    def complete(self) -> None:
        """Resume the run until nothing is missing, undisturbed."""
        for _ in range(5):
            status = self.finish(self.start())
            self.wait_for_no_process()
            if status == 0 and not self._missing():
                break
        else:
            self.result.fault(f"the run was never whole: {self.said()[-300:]}")
        left = list(self.temporary.glob("fh-*"))
        self.result.folders_left += len(left)

    def _missing(self) -> list[str]:
        found = outcomes(self.store)
        return [cell.id for cell in self.scene.requests if found.get(cell.id, {}).get("status") in (None, "errored")]

    def compare(self, expected: Mapping[str, Any], allowed: int = 0, words: Collection[str] = ()) -> None:
        """Count what is lost, twice, or differs from the undisturbed run.

        Args:
            allowed: How many cells may have ended otherwise because of what was done to them.
            words: Of which each of their reasons has one then.
        """
        found, result = outcomes(self.store), self.result
        result.cells += len(expected)
        lost = [name for name in expected if name not in found]
        result.lost += len(lost)
        differing = [name for name, one in expected.items() if name in found and found[name] != one]
        blamed = {name for name in differing if any(word in found[name]["reason"] for word in words)}
        blocked = {name for name in differing if found[name]["evidence"].get("blocked_by") in blamed}
        wrong = [name for name in differing if name not in blamed | blocked]
        if len(blamed) > allowed:
            wrong += sorted(blamed)
        result.differing += len(wrong)
        result.twice += count_doubled(self.store)
        for name in lost:
            result.fault(f"{name} was lost")
        for name in wrong[:3]:
            result.fault(f"{name} differs: {found[name]['status']} {found[name]['reason'][:160]}")
        result.count_internal_errors(self.said())


@contextlib.contextmanager
def trial(result: PartResult) -> Iterator[Trial]:
    """A new run that has not begun."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        folder = Path(name)
        scene = small_scene(folder)
        scene.save(folder / SCENE)
        yield Trial(folder=folder, scene=scene, result=result)


@cache
def undisturbed() -> tuple[dict[str, Any], float]:
    """The outcomes of a run that nothing happened to, and its seconds."""
    with trial(PartResult(part="undisturbed", seed=0)) as one:
        began = time.monotonic()
        status = one.finish(one.start())
        seconds = time.monotonic() - began
        found = outcomes(one.store)
        if status or len(found) != len(one.scene.requests):
            raise RuntimeError(f"the undisturbed run ended with {status}: {one.said()[-1000:]}")
        return found, seconds


def outcomes(store: Path) -> dict[str, Any]:
    """By cell, what of an outcome is the same in every run; the last line of each cell."""
    return {one["id"]: _essence(one) for one in _lines(store)}


def count_doubled(store: Path) -> int:
    """How many cells have two final outcomes: `errored`, and what it blocks, are run again."""
    final = Counter(one["id"] for one in _lines(store) if one["status"] not in ("errored", "blocked"))
    return sum(count - 1 for count in final.values())


def _lines(store: Path) -> list[dict[str, Any]]:
    try:
        content = (store / "outcomes.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def _essence(outcome: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: outcome[name] for name in ("status", "reason", "failure", "shims")}
    evidence = {name: one for name, one in outcome["evidence"].items() if name not in _OF_THE_MOMENT}
    return {**kept, "evidence": evidence}
