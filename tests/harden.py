"""`python -m tests.harden`: the hardening campaign, written to `reports/hardening.md` and `reports/hardening.json`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from tests.campaign.cuts import cut_stores
from tests.campaign.kills import KINDS, kill_processes, kill_whole_runs
from tests.campaign.misbehaviours import misbehaviours, run_misbehaviours
from tests.campaign.soak import soak
from tests.campaign.trials import PartResult
from tests.fuzz.campaign import FuzzResult, in_processes
from tests.fuzz.targets import parsers

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "reports" / "hardening"
TESTS = {
    "hostile text: every field in every output": ("tests/test_hostile_text.py",),
    "cells that a busy machine kept waiting": ("tests/test_starved_cells.py",),
    "a full disk at each write of a run": ("tests/test_full_disk.py",),
    "the world around: pipes, homes, locales, clocks, memory": ("tests/test_world_around.py",),
    "a package index that is down, slow, cut off or lying": ("tests/test_index_troubles.py",),
}
"""Tests that are a part of the campaign, by what they are about."""


def main() -> int:
    """1 where anything did not hold."""
    options = argparse.ArgumentParser()
    options.add_argument("--inputs", type=int, default=5000, help="for each parser and each of the two engines")
    options.add_argument("--engine", action="append", choices=("hypothesis", "atheris"), default=[])
    options.add_argument("--kills", type=int, default=200, help="of whole runs, and half as many of each other process")
    options.add_argument("--cuts", type=int, default=1000)
    options.add_argument("--soak", type=int, default=20)
    options.add_argument("--seed", type=int, help="of everything that is drawn (default: drawn itself, and reported)")
    options.add_argument("--until", help="HH:MM in UTC: no further parser is begun (default: all are)")
    given = options.parse_args()
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    record = _origin()
    for make in _parts(given, seed):
        done = make()
        print(f"{done.part}: {done.tried}, {'not as it should be' if done.failed else 'all well'}", flush=True)
        record["parts"].append(asdict(done))
        _write(record)
    for name, files in TESTS.items():
        record["tests"][name] = _tested(*files)
        print(f"{name}: {record['tests'][name]}", flush=True)
        _write(record)
    for one in _fuzzed(given):
        print(f"{one.parser}, {one.engine}: {one.inputs} inputs, {len(one.faults)} faults", flush=True)
        record["parsers"].append(asdict(one))
        _write(record)
    return 1 if _failed(record) else 0


def _parts(given: argparse.Namespace, seed: int) -> Iterator[Callable[[], PartResult]]:
    yield partial(run_misbehaviours, seed=seed)
    yield partial(cut_stores, given.cuts, seed=seed)
    yield partial(kill_whole_runs, given.kills, seed=seed)
    for kind in KINDS:
        yield partial(kill_processes, kind, given.kills // 2, seed=seed)
    yield partial(soak, given.soak, seed=seed)


def _fuzzed(given: argparse.Namespace) -> Iterator[FuzzResult]:
    names = [one.name for one in parsers()]
    for engine in given.engine or ("hypothesis", "atheris"):
        for name in names:
            if given.until and time.strftime("%H:%M", time.gmtime()) >= given.until:
                print(f"{name}, {engine}: not begun, it is {given.until}", flush=True)
                continue
            yield from in_processes([name], given.inputs, engine)


def _origin() -> dict[str, Any]:
    commit = _said("git", "rev-parse", "HEAD")
    return {
        "schema": 2,
        "commit": commit + ("+" if _said("git", "status", "--porcelain", "--untracked-files=no") else ""),
        "python": platform.python_version(),
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "parts": [],
        "tests": {},
        "parsers": [],
    }


def _failed(record: dict[str, Any]) -> bool:
    parts = any(PartResult(**one).failed for one in record["parts"])
    tests = any(one["failed"] for one in record["tests"].values())
    return parts or tests or any(one["faults"] for one in record["parsers"])


def _write(record: dict[str, Any]) -> None:
    REPORT.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    REPORT.with_suffix(".md").write_text(text_of(record), encoding="utf-8")


def text_of(record: dict[str, Any]) -> str:
    """The report."""
    parts, results = [PartResult(**one) for one in record["parts"]], [FuzzResult(**one) for one in record["parsers"]]
    lines = [
        "# Hardening",
        "",
        f"Made by `nox -s harden` on {record['made']}, commit {record['commit']}, Python {record['python']}.",
        "",
        "## Kills, cuts, misbehaviours, random faults",
        "",
        "Runs of small cells that need no FunASR; the store, the process tree, its channels and temporary folders and"
        " the exit status are the real ones. After each kill the same command resumes the run, and every outcome is"
        " compared with that of an undisturbed run.",
        "",
        "| part | tried | outcomes compared | lost | twice | differing | processes left | folders left"
        " | internal errors | seed | duration |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.part} | {one.tried:,} | {one.cells:,} | {one.lost} | {one.twice} | {one.differing}"
            f" | {one.processes_left} | {one.folders_left} | {one.internal_errors} | {one.seed} | {one.seconds:.0f} s |"
            for one in parts
        ),
        "",
        *(f"- {one.part}: {count} {name}." for one in parts for name, count in one.figures.items()),
        *(f"- {one.part}: `{fault}`" for one in parts for fault in one.faults),
        "",
        "Misbehaviours: " + "; ".join(f"{one.name} ({one.expected})" for one in misbehaviours()) + ".",
        "",
        "## Tests",
        "",
        "| about | passed | failed | skipped |",
        "| --- | --- | --- | --- |",
        *(f"| {n} | {o['passed']} | {o['failed']} | {o['skipped']} |" for n, o in record["tests"].items()),
        "",
        *_parsers_text(results),
        "",
    ]
    return "\n".join(lines)


def _parsers_text(results: list[FuzzResult]) -> list[str]:
    lines = [
        "## Files from outside: every parser",
        "",
        "Each input may be read or refused with a clear error, within 2 s of processor time and 200 MiB.",
        "Hypothesis mutates the structure of valid documents and their bytes; atheris mutates bytes by coverage.",
        "",
        "| parser | engine | inputs | read | refused | slowest | memory grown | faults |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.parser} | {one.engine} | {one.inputs:,} | {one.accepted:,} | {one.refused:,} | {one.slowest:.2f} s "
        f"| {one.grown >> 20} MiB | {len(one.faults)} |"
        for one in results
    ]
    faults = [f"- {one.parser}, {one.engine}: `{fault}`" for one in results for fault in one.faults]
    return [*lines, "", *(["Faults:", "", *faults] if faults else ["No fault."])]


def _tested(*files: str) -> dict[str, int]:
    command = [sys.executable, "-m", "pytest", *files, "-q", "-n", "0", "--benchmark-disable"]
    env = {**os.environ, "FULL_DISK_STEP": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = counts.get("failed", 0) + counts.get("error", 0) + (0 if counts else 1)
    return {"passed": counts.get("passed", 0), "failed": failed, "skipped": counts.get("skipped", 0)}


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
