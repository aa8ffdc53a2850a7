"""What the report says of checkpoints and of decoded text, from outcomes settled as a run settles them."""

from __future__ import annotations

from typing import Any

import report_factory as factory
from test_rules_checkpoint import drops_silently, loads_the_base_when_bare, sound
from test_rules_decode import SAID, metrics

from harness.core.cells import Status, Verdict
from harness.core.evidence.questions import AnswerStatus
from harness.core.versions import Order
from harness.report.saved_model import WORDS, decoded, saved_groups
from harness.rules.checkpoint import apply_checkpoint_rule
from harness.rules.decode import apply_decode_rule
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome

ORDER = Order(labels=factory.RELEASES)


def judged(release: str, check: str, seen: dict[str, Any], **evidence: Any) -> JudgedOutcome:
    of = factory.cell(release, f"{check}@train_ds")
    outcome = factory.outcome(of, metrics=seen, evidence=evidence)
    settled = apply_checkpoint_rule(outcome) if check == "checkpoint" else apply_decode_rule(outcome)
    return JudgedOutcome(outcome=settled, verdict=Verdict.AS_EXPECTED, sentence="")


def test_a_sound_release_passes_and_its_questions_are_reported() -> None:
    item = judged(factory.RELEASES[-1], "checkpoint", sound())
    assert item.outcome.status is Status.PASSED
    (group,) = saved_groups([item], ORDER)
    assert [question.name for question in group.questions] == list(WORDS)
    assert {question.status for question in group.questions} == {AnswerStatus.HOLDS}
    assert group.failing == ()
    assert [(one.kind, one.taken, one.dropped_count) for one in group.mismatches] == [
        ("vocabulary", 70, 1),
        ("width", 70, 1),
    ]
    assert group.mismatches[0].dropped[0].model == "9 × 4"


def test_what_fails_makes_the_cell_fail_with_a_signature_of_its_names() -> None:
    seen = sound()
    loads_the_base_when_bare(seen)
    drops_silently(seen)
    outcome = judged(factory.RELEASES[-1], "checkpoint", seen).outcome
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert outcome.failure.signature == "CheckpointBroken@bare_folder_loads+mismatch_said"
    assert outcome.reason.startswith("bare_folder_loads: what is in memory is the base")


def test_releases_that_answer_alike_are_reported_once() -> None:
    broken = sound()
    loads_the_base_when_bare(broken)
    items = [judged(factory.RELEASES[number], "checkpoint", broken) for number in (40, 41)]
    items += [judged(factory.RELEASES[42], "checkpoint", sound())]
    newest, older = saved_groups(items, ORDER)
    assert [str(span) for span in newest.spans] == [factory.RELEASES[42]]
    assert [str(span) for span in older.spans] == [f"{factory.RELEASES[40]}, {factory.RELEASES[41]}"]
    assert [question.words for question in older.failing] == [WORDS["bare_folder_loads"]]
    assert len(older.cells) == 2


def test_other_checks_and_cells_without_an_answer_are_skipped() -> None:
    other = factory.outcome(factory.cell(factory.RELEASES[0], "construct"))
    blocked = factory.outcome(factory.cell(factory.RELEASES[0], "checkpoint@train"), Status.BLOCKED)
    items = [JudgedOutcome(outcome=outcome, verdict=Verdict.AS_EXPECTED, sentence="") for outcome in (other, blocked)]
    assert saved_groups(items, ORDER) == ()
    assert decoded(items, ORDER) == ()


def test_decoded_text_is_reported_utterance_by_utterance() -> None:
    older = judged(factory.RELEASES[3], "decode", metrics(steps=240), loaded_as="folder")
    newer = judged(factory.RELEASES[-1], "decode", metrics(hypotheses=["", ""], steps=240), loaded_as="folder")
    first, second = decoded([older, newer], ORDER)
    assert (first.release, first.level, first.error_rate) == (factory.RELEASES[-1], Level.BROKEN, 1.0)
    assert (second.level, second.error_rate, second.untrained_error_rate, second.steps) == (
        Level.PASSED,
        0.0,
        1.0,
        240,
    )
    assert [(line.reference, line.hypothesis) for line in second.lines] == list(zip(SAID, SAID, strict=True))


def test_text_that_does_not_come_back_and_other_weights_have_signatures_of_their_own() -> None:
    silent = judged(factory.RELEASES[-1], "decode", metrics(hypotheses=["", ""])).outcome
    assert silent.failure is not None
    assert silent.failure.signature == "NotDecoded@error_rate"
    other = metrics(hypotheses=["", ""], weights_differ_count=3, weights_differ=["a"])
    for loaded_as, place in (("folder", "folder"), ("config and checkpoint", "config")):
        outcome = judged(factory.RELEASES[-1], "decode", other, loaded_as=loaded_as).outcome
        assert outcome.failure is not None
        assert outcome.failure.signature == f"WeightsDiffer@{place}"


def test_a_cell_that_proves_nothing_is_no_failure_of_the_release() -> None:
    outcome = judged(factory.RELEASES[-1], "decode", metrics(untrained_hypotheses=SAID)).outcome
    assert outcome.status is Status.ERRORED
    assert outcome.failure is not None
    assert outcome.failure.signature == "NotDecoded@untrained"
