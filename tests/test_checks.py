"""The registry of checks: every name in it leads somewhere, and a check is one entry and one module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core.checks import Check, named_object

ROOT = Path(__file__).parent.parent

TOY_ENTRY = """
    TOY = (
        "toy",
        CheckFacts(
            measure="checks.toy.check",
            metrics=DataMetrics,
            evidence=DataEvidence,
            letter="Y",
            meaning="the toy is round",
            failing="The toy is not round",
            timeout_seconds=5.0,
            usual_seconds=0.1,
            blocks_dependents=False,
        ),
    )
"""
TOY_MODULE = """
from collections.abc import Mapping
from typing import Any


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    failure = {"type": "Square", "message": "it is square", "signature": "Square@toy", "frames": []}
    return {"status": "failed", "reason": "it is square", "failure": failure}
"""
MATRIX = """
schema = 1
name = "toys"
description = "A check that was added."
[axes]
release = ["1.4.16"]
variant = ["paraformer"]
vocab_size = [8404]
hidden_size = [320]
check = ["toy"]
device = ["cpu"]
[limits]
timeout_seconds = { toy = 3 }
"""
TRIED = """
import json, sys
from pathlib import Path
from harness.config.matrix import load_matrix
from harness.core.cells import Failure, Outcome, Status
from harness.core.checks import Check
from harness.releases.lockfile import load_lock
from harness.releases.selection import resolve
from harness.report.cell_details import facts_of
from harness.rules.apply import apply_rules
from harness.rules.known_issues import KnownIssues
from harness.rules.verdicts import judge
from harness.worker.checks import dispatch

matrix_file, lock_file, folder = map(Path, sys.argv[1:])
lock = load_lock(lock_file)
matrix = load_matrix(
    matrix_file, resolve=lambda spec: resolve(spec, lock), variants=("paraformer",), gpu_present=False
)
(cell,) = matrix.cells
release = {"install_dir": str(folder), "version": "1.4.16"}
measured = dispatch.run({"check": str(cell.check), "device": "cpu", "release": release})
outcome = apply_rules(
    Outcome(
        cell=cell,
        status=Status(measured["status"]),
        reason=measured["reason"],
        failure=Failure.from_json(measured["failure"]),
    )
)
(judged,) = judge([outcome], KnownIssues())
facts_of(outcome)
seen = {
    "cell": cell.id,
    "limit": matrix.limits.timeout_seconds[Check("toy")],
    "signature": outcome.failure.signature,
    "verdict": judged.verdict,
    "severity": judged.severity,
    "last": list(Check)[-1],
}
print(json.dumps(seen))
"""


@pytest.mark.parametrize("check", Check)
def test_every_name_in_an_entry_leads_somewhere(check: Check) -> None:
    assert callable(named_object("harness.worker", check.facts.measure))
    if check.facts.rule:
        assert callable(named_object("harness.rules", check.facts.rule))
    if check.facts.settings:
        assert named_object("harness.config", check.facts.settings)() is not None


@pytest.mark.parametrize("name", ["letter", "meaning", "failing", "measure", "metrics", "evidence"])
def test_no_two_checks_share_what_tells_them_apart(name: str) -> None:
    assert len({getattr(check.facts, name) for check in Check}) == len(Check)


def test_a_check_is_one_entry_and_one_module(tmp_path: Path) -> None:
    """A toy check, added to a copy of the harness, is read from a matrix, measured and judged like the others."""
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    entries = tmp_path / "harness" / "core" / "checks.py"
    text = entries.read_text("utf-8")
    place = text.index("\n    @property\n    def position")
    entries.write_text(text[:place] + TOY_ENTRY + text[place:], "utf-8")
    (tmp_path / "harness" / "worker" / "checks" / "toy.py").write_text(TOY_MODULE, "utf-8")
    (tmp_path / "toys.toml").write_text(MATRIX, "utf-8")
    assert tried(tmp_path) == {
        "cell": "1.4.16/paraformer/v8404-h320/reduced/toy/cpu-fp32",
        "limit": 3,
        "signature": "Square@toy",
        "verdict": "regression",
        "severity": "broken",
        "last": "toy",
    }


def tried(folder: Path) -> dict[str, Any]:
    places = [folder / "toys.toml", ROOT / "matrices" / "releases.lock.toml", folder]
    child = subprocess.run(
        [sys.executable, "-P", "-c", TRIED, *map(str, places)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    answer: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return answer
