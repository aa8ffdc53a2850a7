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
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parent))

from tests.campaign.cuts import cut_stores
from tests.campaign.kills import KINDS, kill_processes, kill_whole_runs
from tests.campaign.misbehaviours import misbehaviours, run_misbehaviours
from tests.campaign.real_soak import PART as REAL_SOAK
from tests.campaign.real_soak import soak_real
from tests.campaign.soak import soak
from tests.campaign.trials import PartResult
from tests.fuzz.campaign import FuzzResult, in_a_process
from tests.fuzz.targets import parsers

ROOT = Path(__file__).parent.parent
Result = TypeVar("Result", PartResult, FuzzResult)
REPORT = ROOT / "reports" / "hardening"
PARTS = (
    *("misbehaviours of cells", "cuts of the store", "kills of a whole run"),
    *(f"kills of the {kind}" for kind in KINDS),
    "soak: random faults in every process",
    REAL_SOAK,
)
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
    options.add_argument("--real-soak", type=int, default=5, help="runs of real releases, of some minutes each")
    options.add_argument("--seed", type=int, help="of everything that is drawn (default: drawn itself, and reported)")
    options.add_argument("--only", action="append", choices=("parts", "tests", "parsers"), default=[])
    options.add_argument("--part", action="append", default=[], help="only parts with this in their name")
    options.add_argument("--parser", action="append", default=[], help="only this parser; may be repeated")
    given = options.parse_args()
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    record, commit = _read(), _commit()
    for kind, key, one in _everything(given, seed):
        print(f"{kind}, {key}: {json.dumps(one)[:300]}", flush=True)
        record[kind][key] = {**one, "commit": commit}
        _write(record)
    return 1 if _failed(record) else 0


def _everything(given: argparse.Namespace, seed: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, name and record of each part, test and parser, as they are run one after the other."""
    wanted = given.only or ("parts", "tests", "parsers")
    for make in _parts(given, seed) if "parts" in wanted else ():
        done = make()
        yield "parts", done.part, asdict(done)
    for name, files in TESTS.items() if "tests" in wanted else ():
        yield "tests", name, _tested(*files)
    for engine in given.engine or ("hypothesis", "atheris") if "parsers" in wanted else ():
        names = given.parser or [one.name for one in parsers()]
        for one in in_a_process(names, given.inputs, engine):
            yield "parsers", f"{one.parser}, {engine}", asdict(one)


def _parts(given: argparse.Namespace, seed: int) -> Iterator[Callable[[], PartResult]]:
    every: dict[str, Callable[[], PartResult]] = {
        "misbehaviours": partial(run_misbehaviours, seed=seed),
        "cuts": partial(cut_stores, given.cuts, seed=seed),
        "kills of a whole run": partial(kill_whole_runs, given.kills, seed=seed),
        **{f"kills of the {kind}": partial(kill_processes, kind, given.kills // 2, seed=seed) for kind in KINDS},
        "soak: random": partial(soak, given.soak, seed=seed),
        REAL_SOAK: partial(soak_real, given.real_soak, seed=seed),
    }
    yield from (make for name, make in every.items() if not given.part or any(one in name for one in given.part))


def _read() -> dict[str, Any]:
    """The report that is there: what is not done again stays, with the commit that it was done on."""
    empty: dict[str, Any] = {"schema": 2, "parts": {}, "tests": {}, "parsers": {}}
    path = REPORT.with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else empty


def _commit() -> str:
    dirty = _said("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!reports")
    return _said("git", "rev-parse", "--short=10", "HEAD") + ("+" if dirty else "")


def _failed(record: dict[str, Any]) -> bool:
    parts = any(_of(PartResult, one).failed for one in record["parts"].values())
    tests = any(one["failed"] for one in record["tests"].values())
    return parts or tests or any(one["faults"] for one in record["parsers"].values())


def _of(kind: type[Result], record: dict[str, Any]) -> Result:
    return kind(**{name: one for name, one in record.items() if name != "commit"})


def _write(record: dict[str, Any]) -> None:
    REPORT.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    REPORT.with_suffix(".md").write_text(text_of(record), encoding="utf-8")


def text_of(record: dict[str, Any]) -> str:
    """The report."""
    parts = [(_of(PartResult, one), one["commit"]) for one in record["parts"].values()]
    lines = [
        "# Hardening",
        "",
        f"Made by `nox -s harden` with Python {platform.python_version()}; each line names the commit that it was made"
        " on. A later run replaces the lines that it makes.",
        "",
        "## Kills, cuts, misbehaviours, random faults",
        "",
        "Runs of small cells that need no FunASR, and at the end runs of two real releases; the store, the"
        " process tree, its channels and temporary folders and the exit status are the real ones. After each kill the"
        " same command resumes the run, and every outcome is"
        " compared with that of an undisturbed run.",
        "",
        "| part | tried | outcomes compared | lost | twice | differing | processes left | folders left"
        " | internal errors | seed | duration | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.part} | {one.tried:,} | {one.cells:,} | {one.lost} | {one.twice} | {one.differing}"
            f" | {one.processes_left} | {one.folders_left} | {one.internal_errors} | {one.seed} | {one.seconds:.0f} s"
            f" | {commit} |"
            for one, commit in parts
        ),
        "",
        *(f"- {one.part}: {count} {name}." for one, _ in parts for name, count in one.figures.items()),
        *(f"- {one.part}: `{fault}`" for one, _ in parts for fault in one.faults),
        *(f"- Not run yet: {name}." for name in PARTS if name not in record["parts"]),
        "",
        "Misbehaviours: " + "; ".join(f"{one.name} ({one.expected})" for one in misbehaviours()) + ".",
        "",
        "## Tests",
        "",
        "| about | passed | failed | skipped | commit |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {one['passed']} | {one['failed']} | {one['skipped']} | {one['commit']} |"
            for name, one in record["tests"].items()
        ),
        "",
        *(f"- Not run yet: {name}." for name in TESTS if name not in record["tests"]),
        "",
        *_parsers_text([(_of(FuzzResult, one), one["commit"]) for one in record["parsers"].values()]),
        "",
    ]
    return "\n".join(lines)


def _parsers_text(results: list[tuple[FuzzResult, str]]) -> list[str]:
    lines = [
        "## Files from outside: every parser",
        "",
        "Each input may be read or refused with a clear error, within 2 s of processor time and 200 MiB.",
        "Hypothesis mutates the structure of valid documents and their bytes; atheris mutates bytes by coverage.",
        "",
        "| parser | engine | inputs | read | refused | slowest | all | memory grown | faults | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.parser} | {one.engine} | {one.inputs:,} | {one.accepted:,} | {one.refused:,} | {one.slowest:.2f} s "
        f"| {one.seconds:.0f} s | {one.grown >> 20} MiB | {len(one.faults)} | {commit} |"
        for one, commit in results
    ]
    faults = [f"- {one.parser}, {one.engine}: `{fault}`" for one, _ in results for fault in one.faults]
    missing = 2 * len(parsers()) - len(results)
    lines += [
        "",
        *([f"Not run yet: {missing} of {2 * len(parsers())} pairs of a parser and an engine."] * bool(missing)),
    ]
    return [*lines, "", *(["Faults:", "", *faults] if faults else ["No fault in what was run."] * bool(results))]


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
