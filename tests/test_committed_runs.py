"""What the committed runs hold: every published release, the reported bug where it was, each failure explained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from harness.core.cells import Check, Outcome, Status, Verdict
from harness.releases import load_lock
from harness.rules.known_issues import KnownIssue, KnownIssues, load_known_issues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.store import LoadedRun, load_run
from harness.variants.catalogue import available

ROOT = Path(__file__).parent.parent
RUNS = ("later_checks", "training", "ranks", "properties", "architectures", "findings", "bicif", "seaco")
"""Besides the atlas."""
REPORTED = ("paraformer_streaming", "paraformer")
"""Of the architectures, those that the atlas is about."""
STREAMING = "paraformer_streaming"
ASSERTION = "AssertionError@funasr/losses/label_smoothing_loss.py:forward"


Loaded = Callable[[str], LoadedRun]
Judged = Callable[[str], tuple[JudgedOutcome, ...]]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A committed run by its name; each is read once."""
    return cache(lambda name: load_run(ROOT / "reports" / name))


@pytest.fixture(scope="module")
def judged(loaded: Loaded, issues: KnownIssues) -> Judged:
    """The outcomes of a committed run, judged once."""
    return cache(lambda name: judge(loaded(name).outcomes, issues))


@pytest.fixture(scope="module")
def atlas(loaded: Loaded) -> LoadedRun:
    return loaded("atlas")


@pytest.fixture(scope="module")
def issues() -> KnownIssues:
    return load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())


def contracts(atlas: LoadedRun, variant: str) -> list[Outcome]:
    return [o for o in atlas.outcomes if o.cell.check is Check.LOSS_CONTRACT and o.cell.variant == variant]


def asserted(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.signature == ASSERTION


def test_every_published_release_was_asked_at_every_shape(atlas: LoadedRun) -> None:
    published = {release.label for release in load_lock(ROOT / "matrices" / "releases.lock.toml")}
    for variant in REPORTED:
        met = {(outcome.cell.release, str(outcome.cell.dimensions)) for outcome in contracts(atlas, variant)}
        assert {release for release, _ in met} == published
        assert len(met) == 4 * len(published)


def test_the_reported_bug_is_in_the_releases_that_have_it_and_in_no_other(atlas: LoadedRun) -> None:
    having = {outcome.cell.release for outcome in atlas.outcomes if asserted(outcome)}
    assert having == {"1.0.12", "1.0.14", "1.0.15", "1.0.16", "1.0.17"}
    assert {outcome.cell.variant for outcome in atlas.outcomes if asserted(outcome)} == {STREAMING}


@pytest.mark.parametrize(("width", "classes"), [(320, 8404), (512, 8501)])
def test_the_reported_widths_are_in_the_evidence(atlas: LoadedRun, width: int, classes: int) -> None:
    shape = f"v{classes}-h{width}"
    found = [o for o in contracts(atlas, STREAMING) if asserted(o) and str(o.cell.dimensions) == shape]
    assert len(found) == 5
    for outcome in found:
        (seen,) = outcome.evidence["loss_inputs"]
        assert (seen["width"], seen["classes"]) == (width, classes)
        assert outcome.evidence["projection_calls"] == {"decoder.output_layer": 0}


@pytest.mark.parametrize("name", ["atlas", *RUNS])
def test_nothing_in_a_committed_run_is_unexplained_or_unexpected(
    name: str, judged: Judged, issues: KnownIssues
) -> None:
    verdicts = {one.verdict for one in judged(name)}
    assert verdicts == {Verdict.AS_EXPECTED, Verdict.KNOWN}
    assert all(issue.explained for issue in issues.issues)


def test_every_known_issue_was_seen_in_the_cell_that_it_names(judged: Judged, issues: KnownIssues) -> None:
    seen: dict[str, list[KnownIssue]] = defaultdict(list)
    looked: set[str] = set()
    for name in ("atlas", *RUNS):
        for one in judged(name):
            seen[one.outcome.cell.id] += [issue for issue in (one.issue, *one.also) if issue]
            looked |= {one.outcome.cell.id} if one.outcome.common.findings is not None else set()
    # Runs that were made before findings were looked for cannot show one.
    expected = [
        issue for issue in issues.issues if not issue.varies and (issue.expects_failure or issue.seen in looked)
    ]
    assert [issue.id for issue in expected if issue not in seen[issue.seen]] == []


def test_every_check_passed_in_the_newest_release(loaded: Loaded) -> None:
    newest = load_lock(ROOT / "matrices" / "releases.lock.toml")[-1].label
    run = loaded("later_checks")
    for variant in REPORTED:
        met = {o.cell.check: o for o in run.outcomes if o.cell.release == newest and o.cell.variant in (variant, None)}
        assert met.keys() == set(Check)
        # What is not blocked was asked: the text came back, and each property was searched for long enough.
        assert met[Check.DECODE].status is Status.PASSED
        assert met[Check.PROPERTIES].metrics["examples"] >= 200
