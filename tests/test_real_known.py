"""Known issues beside real releases: the code that they blame exists, and they hold wherever it runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness.core.cells import Cell, Check, Release, Severity, Verdict
from harness.rules.code_that_ran import CodePlace
from harness.rules.known_issues import KnownIssue, KnownIssues, load_known_issues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.store import load_run
from harness.variants.catalogue import available

pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parent.parent
ISSUES = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())
LOST_BATCH = "last-batch-of-epoch-lost"

MATRIX = """
schema = 1
name = "code_at_fault"
description = "Other architectures in a release whose sampler and trainer have known faults."

[axes]
release = ["1.0.17"]
variant = ["bicif_paraformer", "conformer"]
vocab_size = [8404]
hidden_size = [64]
depth = ["reduced"]
check = ["construct", "loss_contract", "finetune@train"]
device = ["cpu"]
precision = ["fp32"]

[finetune]
# No question here is about width. A model 64 wide learns in as many steps at a higher rate (tests/faults/cells.py).
learning_rate = 0.01
seeds = 1
"""

Layout = Callable[[str], Path]


@cache
def defined(file: Path) -> frozenset[str]:
    """Classes, functions and methods (`Class.method`) of a module, and the empty name for the module itself."""
    if not file.is_file():
        return frozenset()
    found = {""}
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, kinds):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, kinds)}
    return frozenset(found)


def exists(place: CodePlace, layout: Path) -> bool:
    return place.name in defined(layout / place.file)


def unfounded(issue: KnownIssue, layout: Layout, locked: tuple[Release, ...]) -> list[str]:
    """Places that are in no release of the issue's; all of them where none is in the release in which it was seen."""
    seen = Cell.parse(issue.seen)
    if not any(exists(place, layout(seen.release)) for place in issue.code):
        return [str(place) for place in issue.code]
    releases = [release.label for release in locked if issue.covers(replace(seen, release=release.label))]
    return [str(place) for place in issue.code if not any(exists(place, layout(label)) for label in reversed(releases))]


def test_every_explained_issue_names_code_that_its_releases_have(layout: Layout, locked: tuple[Release, ...]) -> None:
    assert [issue.id for issue in ISSUES.issues if issue.explained and not issue.code] == []
    wrong = {issue.id: places for issue in ISSUES.issues if (places := unfounded(issue, layout, locked))}
    assert wrong == {}


def test_code_that_no_release_has_is_noticed(layout: Layout, locked: tuple[Release, ...]) -> None:
    sound = next(issue for issue in ISSUES.issues if issue.id == "path-with-aishell")
    assert unfounded(sound, layout, locked) == []
    for text in ("funasr/datasets/index_ds.py", "funasr/datasets/audio_datasets/index_ds.py:IndexDSJsonlRankfull"):
        place = CodePlace.parse(text)
        assert unfounded(replace(sound, code=(place,)), layout, locked) == [text]
        assert unfounded(replace(sound, code=(*sound.code, place)), layout, locked) == [text]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[JudgedOutcome, ...]:
    room = tmp_path_factory.mktemp("known")
    (room / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    command = [sys.executable, "-m", "harness", "run", str(room / "matrix.toml"), "-o", str(room / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return judge(load_run(room / "run").outcomes, ISSUES)


def tuned(judged: tuple[JudgedOutcome, ...], variant: str) -> JudgedOutcome:
    return next(
        one
        for one in judged
        if one.outcome.cell.check is Check.FINETUNE and one.outcome.cell.variant == variant
    )  # fmt: skip


@pytest.mark.parametrize("variant", ["bicif_paraformer", "conformer"])
def test_the_samplers_and_the_trainers_faults_are_known_with_other_architectures(
    judged: tuple[JudgedOutcome, ...], variant: str
) -> None:
    one = tuned(judged, variant)
    assert one.verdict is Verdict.KNOWN
    assert {issue.id for issue in (one.issue, *one.also) if issue} == {
        LOST_BATCH,
        "schedule-runs-ahead",
        "accumulation-needs-several-processes",
        "one-epoch-too-many",
    }
    assert one.severity is Severity.WRONG


def test_blamed_on_one_variants_own_code_the_same_fault_is_known_there_and_nowhere_else(
    judged: tuple[JudgedOutcome, ...],
) -> None:
    own = CodePlace.parse("funasr/models/bicif_paraformer/model.py:BiCifParaformer")
    issues = tuple(
        replace(issue, code=(own,)) if issue.id == LOST_BATCH else issue for issue in ISSUES.issues
    )  # fmt: skip
    again = judge([one.outcome for one in judged], KnownIssues(issues=issues))
    assert tuned(again, "bicif_paraformer").verdict is Verdict.KNOWN
    other = tuned(again, "conformer")
    assert other.verdict is Verdict.REGRESSION
    assert "steps" in other.sentence


def test_a_release_records_the_classes_of_its_models_with_their_bases(judged: tuple[JudgedOutcome, ...]) -> None:
    built = {one.outcome.cell.variant: one.outcome for one in judged if one.outcome.cell.check is Check.CONSTRUCT}
    assert {
        "funasr/models/conformer/model.py:Conformer",
        "funasr/models/transformer/model.py:Transformer",
        "funasr/models/ctc/ctc.py:CTC",
    } <= set(built["conformer"].evidence["code"])
    assert "funasr/models/paraformer/model.py:Paraformer" in built["bicif_paraformer"].evidence["code"]
    assert not any("conformer" in one for one in built["bicif_paraformer"].evidence["code"])
