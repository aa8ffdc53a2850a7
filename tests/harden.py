"""`python -m tests.harden`: the hardening campaign, written to `reports/hardening.md` and `reports/hardening.json`."""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from tests.fuzz.campaign import FuzzResult, in_processes
from tests.fuzz.targets import parsers

ROOT = Path(__file__).parent.parent
HOSTILE = "tests/test_hostile_text.py"


def main() -> int:
    """1 where anything did not hold."""
    options = argparse.ArgumentParser()
    options.add_argument("--inputs", type=int, default=5000, help="for each parser and each of the two engines")
    options.add_argument("--engine", action="append", choices=("hypothesis", "atheris"), default=[])
    given = options.parse_args()
    names = [one.name for one in parsers()]
    results = []
    for engine in given.engine or ("hypothesis", "atheris"):
        for one in in_processes(names, given.inputs, engine):
            print(f"{one.parser}, {one.engine}: {one.inputs} inputs, {len(one.faults)} faults", flush=True)
            results.append(one)
    texts = _texts()
    commit = _said("git", "rev-parse", "HEAD")
    record: dict[str, Any] = {
        "schema": 1,
        "commit": commit + ("+" if _said("git", "status", "--porcelain", "--untracked-files=no") else ""),
        "python": platform.python_version(),
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "parsers": [asdict(one) for one in results],
        "hostile_text": texts,
    }
    (ROOT / "reports" / "hardening.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (ROOT / "reports" / "hardening.md").write_text(text_of(record, results), encoding="utf-8")
    return 1 if any(one.faults for one in results) or texts["failed"] else 0


def text_of(record: dict[str, Any], results: list[FuzzResult]) -> str:
    """The report."""
    lines = [
        "# Hardening",
        "",
        f"Made by `nox -s harden` on {record['made']}, commit {record['commit']}, Python {record['python']}.",
        "",
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
    lines += ["", *(["Faults:", "", *faults] if faults else ["No fault."])]
    texts = record["hostile_text"]
    lines += [
        "",
        "## Text from outside: every field in every output",
        "",
        f"`{HOSTILE}`: {texts['passed']} passed, {texts['failed']} failed, {texts['skipped']} skipped.",
        "",
    ]
    return "\n".join(lines)


def _texts() -> dict[str, int]:
    command = [sys.executable, "-m", "pytest", HOSTILE, "-q", "-n", "0", "--benchmark-disable"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = counts.get("failed", 0) + counts.get("error", 0) + (0 if counts else 1)
    return {"passed": counts.get("passed", 0), "failed": failed, "skipped": counts.get("skipped", 0)}


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
