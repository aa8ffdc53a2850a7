"""Runs of real releases with random faults in the command and its processes, compared with an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import signals

from harness.environments.environment import LIBRARIES
from tests.campaign.soak import INJECTED
from tests.campaign.trials import PartResult, count_doubled, outcomes

ROOT = Path(__file__).parents[2]
PART = "soak with real releases: faults in the command and the process of all releases, kills in the others"
PROBABILITY = 0.003
"""Lower than with small cells: a real run makes many more calls."""
PATIENCE = 1200.0


def matrix_of(*releases: str) -> str:
    """Of the streaming model, by the checks that need no training."""
    return f"""
schema = 1
name = "small"
description = "The streaming model, without training."
[axes]
release = {json.dumps(releases)}
variant = ["paraformer_streaming"]
vocab_size = [8404]
hidden_size = [320]
depth = ["reduced"]
check = ["import", "construct", "loss_contract"]
device = ["cpu"]
precision = ["fp32"]
"""


MATRIX = matrix_of("1.0.12", "1.4.16")
"""Two releases of unlike outcome."""


def soak_real(runs: int, *, seed: int, probability: float = PROBABILITY) -> PartResult:
    """Each run is disturbed twice, and then resumed undisturbed until it is whole.

    All runs share one cache, so that a release which a fault damaged there would be found by the next run.
    """
    result, chance = PartResult(part=PART, seed=seed), random.Random(seed)
    began = time.monotonic()
    statuses: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        cache = Path(name) / "cache"
        first = Path(name) / "undisturbed"
        if status := _run(first, cache):
            raise RuntimeError(f"the undisturbed run ended with {status}: {_said(first)[-1000:]}")
        expected = outcomes(first / "run")
        for number in range(runs):
            folder = Path(name) / f"run-{number}"
            for _ in range(2):
                faults = f"{chance.getrandbits(32)}:{probability}"
                status = _run(folder, cache, faults)
                statuses[status] = statuses.get(status, 0) + 1
                if status == 1:
                    # a cell that was killed crashed, and a crash that nobody expects is a regression
                    killed = [
                        cell for cell, outcome in outcomes(folder / "run").items() if "SIGKILL" in outcome["reason"]
                    ]
                    if not killed:
                        result.fault(f"exit status 1, which means a regression, with {faults}: {_said(folder)[-300:]}")
                _count_processes(folder, result)
            for _ in range(5):
                if _run(folder, cache) == 0 and _whole(folder, expected):
                    break
            _count_processes(folder, result)
            _compare(folder, expected, result)
            result.tried += 1
            shutil.rmtree(folder, ignore_errors=True)
    result.figures = {f"ended with exit status {status}": count for status, count in sorted(statuses.items())}
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _run(folder: Path, cache: Path, faults: str = "") -> int:
    """The exit status; the run's store is `run` in this folder."""
    temporary, injected = folder / "tmp", folder / "injected"
    temporary.mkdir(parents=True, exist_ok=True)
    (folder / "soak.toml").write_text(MATRIX)
    env = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    if faults:
        injected.mkdir(exist_ok=True)
        shutil.copy(INJECTED / "sitecustomize.py", injected)
        (injected / "faults.txt").write_text(faults)
        env |= {"PYTHONPATH": os.pathsep.join((str(injected), str(ROOT))), LIBRARIES: str(injected)}
    words = [sys.executable, "-P", "-m", "harness", "run", str(folder / "soak.toml"), "-o", str(folder / "run")]
    with (folder / "said.txt").open("ab") as said:
        process = subprocess.Popen(
            [*words, "--cache", str(cache), "-q"], env=env, stdout=said, stderr=said, preexec_fn=signals.listen,
            cwd=folder,
        )  # fmt: skip
        return process.wait(PATIENCE)


def _said(folder: Path) -> str:
    return (folder / "said.txt").read_text(encoding="utf-8", errors="replace")


def _whole(folder: Path, expected: dict[str, Any]) -> bool:
    found = outcomes(folder / "run")
    return all(found.get(cell, {}).get("status") not in (None, "errored") for cell in expected)


def _count_processes(folder: Path, result: PartResult, seconds: float = 60.0) -> None:
    """Those that are left after some time count."""
    end = time.monotonic() + seconds
    while (left := _processes_in(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    result.processes_left += len(left)
    for pid in left:
        result.fault(f"process {pid} was left")
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _processes_in(folder: Path) -> list[int]:
    """Processes that name something in this folder in their command or environment, or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if int(entry.name) != os.getpid() and (
                f"{folder}/".encode() in words or str((entry / "cwd").readlink()).startswith(f"{folder}")
            ):
                found.append(int(entry.name))
    return found


def _compare(folder: Path, expected: dict[str, Any], result: PartResult) -> None:
    """As in `Trial.compare`: what a SIGKILL ended, and what that blocks, may differ."""
    found = outcomes(folder / "run")
    result.cells += len(expected)
    result.twice += count_doubled(folder / "run")
    result.folders_left += len(list((folder / "tmp").glob("fh-*")))
    killed = {cell for cell, one in found.items() if "SIGKILL" in one["reason"]}
    for cell, one in expected.items():
        if cell not in found:
            result.lost += 1
            result.fault(f"{cell} was lost")
        elif found[cell] != one and cell not in killed and found[cell]["evidence"].get("blocked_by") not in killed:
            result.differing += 1
            result.fault(f"{cell} differs: {found[cell]['status']} {found[cell]['reason'][:160]}")
    result.count_internal_errors(_said(folder))
