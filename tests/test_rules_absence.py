"""What a release lacks: not yet, never, or no longer."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.cells import Cell, Outcome, Status, Verdict
from harness.releases.first_releases import FIRST
from harness.rules.known_issues import KnownIssues
from harness.rules.release_contents import apply_absence_rule
from harness.rules.verdicts import exit_code, judge
from harness.run.decide import blocked
from harness.variants.catalogue import available, load_variant

REASON = "the release has no model 'EParaformer'"
COMPONENT = "model_classes/EParaformer"


def cell(release: str, check: str = "construct", variant: str = "e_paraformer") -> Cell:
    return Cell.parse(f"{release}/{variant}/v8404-h320/reduced/{check}/cpu-fp32")


def skipped(release: str, name: str | None = COMPONENT, *, reason: str = REASON, **where: str) -> Outcome:
    evidence: dict[str, Any] = {"absent": name} if name else {}
    return Outcome(cell=cell(release, **where), status=Status.SKIPPED, reason=reason, evidence=evidence)


def passed(release: str, **where: str) -> Outcome:
    return Outcome(cell=cell(release, **where), status=Status.PASSED, reason="")


def verdicts(*outcomes: Outcome) -> list[Verdict]:
    return [one.verdict for one in judge(outcomes, KnownIssues())]


@pytest.mark.parametrize("release", ["1.2.2", "1.2.3", "1.4.16", "1.4.17", "2.0.0", "1.4.16+local.1a2b3c4d"])
def test_what_an_older_release_has_was_taken_away(release: str) -> None:
    (one,) = judge([skipped(release)], KnownIssues())
    assert (one.verdict, one.outcome.status) == (Verdict.REGRESSION, Status.FAILED)
    assert one.outcome.failure is not None
    assert (one.outcome.failure.type, one.outcome.failure.message) == ("Absent", one.outcome.reason)
    assert one.outcome.failure.signature == "Absent@model_classes/EParaformer"
    assert one.outcome.reason == f"{REASON}, though releases have it since 1.2.2: it was taken away"
    assert exit_code([one]) == 1


@pytest.mark.parametrize("release", ["1.0.0", "1.2.0", "1.2.0+local.1a2b3c4d"])
def test_a_release_before_the_first_does_not_have_it_yet(release: str) -> None:
    (one,) = judge([skipped(release)], KnownIssues())
    assert (one.verdict, one.outcome.status) == (Verdict.AS_EXPECTED, Status.SKIPPED)
    assert one.outcome.reason == f"{REASON}: not yet, 1.2.2 is the first that has it"


def test_of_a_component_that_the_table_does_not_name_the_run_decides() -> None:
    name, own = "model_classes/Mine", {"variant": "mine"}
    assert verdicts(skipped("1.4.15", name, **own), skipped("1.4.16", name, **own)) == [Verdict.AS_EXPECTED] * 2
    # A newer release that has it says nothing: it may have come later.
    assert verdicts(skipped("1.4.15", name, **own), passed("1.4.16", **own)) == [Verdict.AS_EXPECTED] * 2
    one, other = judge([skipped("1.4.16", name, **own), passed("1.4.9", **own)], KnownIssues())
    assert (one.verdict, other.verdict) == (Verdict.REGRESSION, Verdict.AS_EXPECTED)
    assert one.outcome.reason == f"{REASON}, though 1.4.9 has it: it was taken away"


def test_another_question_of_the_older_release_says_nothing() -> None:
    name = "model_classes/Mine"
    others = [passed("1.4.9", check="loss_contract"), passed("1.4.9", variant="paraformer")]
    assert verdicts(skipped("1.4.16", name), *others)[0] is Verdict.AS_EXPECTED


@pytest.mark.parametrize("status", [Status.BLOCKED, Status.ERRORED, Status.SKIPPED])
def test_an_older_cell_that_did_not_run_does_not_show_that_the_release_had_it(status: Status) -> None:
    older = Outcome(cell=cell("1.4.9"), status=status, reason="planted")
    assert apply_absence_rule([skipped("1.4.16", None), older])[0].status is Status.SKIPPED


def test_a_question_that_does_not_arise_stays_skipped() -> None:
    reason = "the data tests need the CharTokenizer, and the config names SentencepiecesTokenizer"
    outcomes = [skipped(release, None, reason=reason, check="data@train") for release in ("1.4.15", "1.4.16")]
    assert apply_absence_rule(outcomes) == tuple(outcomes)


@pytest.mark.parametrize(
    ("name", "check", "before", "since"),
    [
        ("entry/train", "finetune@train", None, "1.4.17"),
        ("entry/train_ds", "finetune@train_ds", "1.0.27", "1.0.28"),
        ("precision/train-bf16", "finetune@train", "1.3.3", "1.3.4"),
    ],
)
def test_entry_points_and_precisions_are_judged_alike(name: str, check: str, before: str | None, since: str) -> None:
    if before is not None:
        assert verdicts(skipped(before, name, check=check)) == [Verdict.AS_EXPECTED]
    assert verdicts(skipped(since, name, check=check)) == [Verdict.REGRESSION]


def test_what_was_skipped_with_it_follows() -> None:
    root = skipped("1.4.17")
    above = blocked(cell("1.4.17", "loss_contract"), [root])
    top = blocked(cell("1.4.17", "finetune@train"), [root, above])
    assert (above.status, above.reason) == (Status.SKIPPED, REASON)
    found = judge([root, above, top], KnownIssues())
    assert [one.verdict for one in found] == [Verdict.REGRESSION, Verdict.FOLLOWS, Verdict.FOLLOWS]
    assert [one.outcome.status for one in found] == [Status.FAILED, Status.BLOCKED, Status.BLOCKED]
    older = [skipped("1.2.0"), blocked(cell("1.2.0", "loss_contract"), [skipped("1.2.0")])]
    assert verdicts(*older) == [Verdict.AS_EXPECTED] * 2


def test_every_component_of_the_harnesss_variants_has_its_first_release() -> None:
    wanted = {"/".join(pair) for name in available() for pair in load_variant(name).components}
    assert wanted == {name for name in FIRST if name.partition("/")[0].endswith("_classes")}
