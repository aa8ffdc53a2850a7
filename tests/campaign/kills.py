"""SIGKILL at random moments: of a whole run, and of each kind of process in it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from execute_scene import marked

from harness.core import processes
from tests.campaign.trials import PartResult, Trial, trial, undisturbed

KINDS = ("process of all releases", "process of a release", "process of a cell")
_BETWEEN_SECONDS = 0.6
"""Between two kills of a run, at most."""


def kill_whole_runs(count: int, *, seed: int) -> PartResult:
    """Kill the command; resume the run, which may be killed again, until it is whole."""
    result, chance = PartResult(part="kills of a whole run", seed=seed), random.Random(seed)
    began = time.monotonic()
    expected, seconds = undisturbed()
    while result.tried < count and len(result.faults) < 10:
        with trial(result) as one:
            while result.tried < count:
                process = one.start()
                time.sleep(chance.uniform(0.0, seconds))
                if process.poll() is not None:
                    break
                process.kill()
                process.wait()
                result.tried += 1
                one.wait_for_no_process()
            one.complete()
            one.compare(expected)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def kill_processes(kind: str, count: int, *, seed: int) -> PartResult:
    """Kill processes of a kind while runs go on, one after the other; then resume what is missing."""
    result, chance = PartResult(part=f"kills of the {kind}", seed=seed), random.Random(seed)
    began = time.monotonic()
    expected, _ = undisturbed()
    while result.tried < count and len(result.faults) < 10:
        with trial(result) as one:
            before, process = result.tried, one.start()
            while result.tried < count and process.poll() is None:
                time.sleep(chance.uniform(0.0, _BETWEEN_SECONDS))
                victims = list(_of_kind(kind, one, process.pid))
                if victims:
                    processes.kill(chance.choice(victims), signal.SIGKILL)
                    result.tried += 1
                    # until it is gone: a process that was killed already is no victim
                    time.sleep(0.05)
            if (status := one.finish(process)) not in (0, 3):
                result.fault(f"the run ended with {status}")
            one.wait_for_no_process()
            one.complete()
            one.compare(expected, allowed=result.tried - before, words=("SIGKILL",))
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _of_kind(kind: str, one: Trial, command: int) -> Iterator[int]:
    """The processes of this kind that run now."""
    alive = set(marked(one.scene.mark))
    level = [command]
    for _ in range(KINDS.index(kind) + 1):
        level = [child for pid in level for child in processes.children(pid) if child in alive]
    for pid in level:
        if processes.is_running(pid) and os.getpgid(pid) and Path(f"/proc/{pid}/exe").exists():
            yield pid
