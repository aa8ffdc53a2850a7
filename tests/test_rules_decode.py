"""The verdict on decoded text, on both sides of each bound."""

from __future__ import annotations

from typing import Any

import pytest
from parsed import judge_decode

from harness.core.cells import Cell, Outcome, Status
from harness.core.evidence.parsing import EvidenceMismatch
from harness.rules.decode import DECODING, UNTRAINED_LEAST, apply_decode_rule, error_rate

SAID = ["今天天气真好", "请把窗户关上"]


def metrics(**others: Any) -> dict[str, Any]:
    sound: dict[str, Any] = {
        "keys": ["one", "two"],
        "references": SAID,
        "hypotheses": SAID,
        "untrained_hypotheses": ["", "啊啊啊啊啊啊"],
        "error_rate_allowed": 0.25,
        "weights_differ_count": 0,
        "weights_differ": [],
        "weights_tensors": 80,
    }
    return {**sound, **others}


def test_text_that_comes_back_passes() -> None:
    verdict = judge_decode(metrics())
    assert (verdict.passed, verdict.proves, verdict.unmet, verdict.reasons) == (True, True, (), ())
    assert (verdict.error_rate, verdict.untrained_error_rate, verdict.allowed) == (0.0, 1.0, 0.25)
    assert [(one.key, one.reference, one.hypothesis, one.error_rate) for one in verdict.utterances] == [
        ("one", SAID[0], SAID[0], 0.0),
        ("two", SAID[1], SAID[1], 0.0),
    ]


@pytest.mark.parametrize(
    ("second", "rate", "passed"),
    [("请把窗户关", 1 / 12, True), ("请把啊", 4 / 12, False), ("请把窗", 3 / 12, True), ("", 6 / 12, False)],
)
def test_the_bound_is_met_on_one_side_and_missed_on_the_other(second: str, rate: float, passed: bool) -> None:
    verdict = judge_decode(metrics(hypotheses=[SAID[0], second]))
    assert verdict.error_rate == pytest.approx(rate)
    assert verdict.passed is passed
    assert verdict.unmet == (() if passed else ("error_rate",))


def test_the_rate_counts_characters_over_all_utterances_and_no_spaces() -> None:
    assert error_rate(["今 天", "好"], ["今天 ", "不好"]) == pytest.approx(1 / 3)
    assert error_rate(["a"], ["bcd"]) == 3.0


@pytest.mark.parametrize(
    ("references", "hypotheses"), [([], []), (SAID, SAID[:1]), (SAID[:1], SAID), (["", "a"], ["", "a"]), ([" "], ["a"])]
)
def test_texts_that_do_not_match_up_give_no_rate(references: list[str], hypotheses: list[str]) -> None:
    assert error_rate(references, hypotheses) is None
    verdict = judge_decode(metrics(references=references, hypotheses=hypotheses))
    assert "error_rate" in verdict.unmet


@pytest.mark.parametrize("nothing", [None, []])
def test_no_hypotheses_are_no_pass(nothing: Any) -> None:
    verdict = judge_decode(metrics(hypotheses=nothing))
    assert (verdict.passed, verdict.unmet, verdict.error_rate) == (False, ("error_rate",), None)


@pytest.mark.parametrize("allowed", [None, "nan", float("nan")])
def test_without_a_bound_nothing_passes(allowed: Any) -> None:
    assert judge_decode(metrics(error_rate_allowed=allowed)).unmet == ("error_rate",)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"hypotheses": "今天天气真好"}, "hypotheses"),
        ({"hypotheses": 3}, "hypotheses"),
        ({"error_rate_allowed": "0.2"}, "error_rate_allowed"),
        ({"error_rate_allowed": True}, "error_rate_allowed"),
        ({"weights_tensors": "80"}, "weights_tensors"),
    ],
)
def test_metrics_of_another_kind_are_a_mismatch(changed: dict[str, Any], key: str) -> None:
    with pytest.raises(EvidenceMismatch, match=key):
        judge_decode(metrics(**changed))


def test_an_untrained_model_that_knows_the_text_proves_nothing() -> None:
    verdict = judge_decode(metrics(untrained_hypotheses=SAID))
    assert (verdict.passed, verdict.proves, verdict.unmet) == (False, False, ("untrained",))
    assert judge_decode(metrics(untrained_hypotheses=None)).unmet == ("untrained",)


def test_the_untrained_bound_has_two_sides() -> None:
    said = ["一二三四五"]
    known = {"references": said, "hypotheses": said, "keys": ["one"]}
    assert judge_decode(metrics(**known, untrained_hypotheses=["一"])).proves  # 4 of 5 wrong
    assert not judge_decode(metrics(**known, untrained_hypotheses=["一二"])).proves
    assert UNTRAINED_LEAST == 0.8


def test_other_weights_than_the_trained_are_named() -> None:
    verdict = judge_decode(metrics(weights_differ_count=4, weights_differ=["a", "b", "c", "d"]))
    assert verdict.unmet == ("weights",)
    assert verdict.reasons == ("After loading, 4 of 80 tensors are not those that the training ended with: a, b, c.",)


@pytest.mark.parametrize("unknown", [{"weights_differ_count": None}, {"weights_tensors": 0}])
def test_weights_that_nobody_saw_are_no_pass(unknown: dict[str, Any]) -> None:
    assert judge_decode(metrics(**unknown)).unmet == ("weights",)


def test_an_empty_outcome_is_no_pass() -> None:
    verdict = judge_decode({})
    assert (verdict.passed, verdict.utterances) == (False, ())
    assert verdict.unmet == ("weights", "error_rate", "untrained")


def outcome(loaded_as: str = "folder", **changed: Any) -> Outcome:
    cell = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/decode@train/cpu-fp32")
    evidence = {"loaded_as": loaded_as}
    return Outcome(cell=cell, status=Status.PASSED, reason="", metrics=metrics(**changed), evidence=evidence)


def test_an_outcome_passes_with_what_was_decoded_in_it() -> None:
    settled = apply_decode_rule(outcome())
    assert (settled.status, settled.reason, settled.failure) == (Status.PASSED, "", None)
    assert settled.evidence["loaded_as"] == "folder"
    assert settled.evidence[DECODING]["error_rate"] == 0.0
    assert settled.cell == outcome().cell


@pytest.mark.parametrize(("loaded_as", "place"), [("folder", "folder"), ("config and checkpoint", "config")])
def test_other_weights_are_reported_by_how_they_were_loaded(loaded_as: str, place: str) -> None:
    settled = apply_decode_rule(
        outcome(loaded_as, weights_differ_count=1, weights_differ=["a"], hypotheses=["啊", "啊"])
    )
    assert settled.status is Status.FAILED
    assert settled.failure is not None
    assert (settled.failure.type, settled.failure.signature) == ("WeightsDiffer", f"WeightsDiffer@{place}")
    assert (
        settled.reason
        == settled.failure.message
        == (
            "After loading, 1 of 80 tensors are not those that the training ended with: a. "
            "The character error rate is 1.000; 0.250 is allowed."
        )
    )


def test_text_that_does_not_come_back_fails_and_what_proves_nothing_is_no_failure_of_the_release() -> None:
    settled = apply_decode_rule(outcome(hypotheses=["啊", "啊"]))
    assert settled.failure is not None
    assert (settled.status, settled.failure.signature) == (Status.FAILED, "NotDecoded@error_rate")
    assert (settled.failure.type, settled.failure.message) == ("NotDecoded", settled.reason)
    known = apply_decode_rule(outcome(untrained_hypotheses=SAID, hypotheses=["啊", "啊"]))
    assert known.failure is not None
    assert (known.status, known.failure.signature) == (Status.ERRORED, "NotDecoded@error_rate+untrained")
    assert known.evidence[DECODING]["proves"] is False


def test_what_is_not_known_is_said_so() -> None:
    assert judge_decode({}).reasons == (
        "It is not known which weights were in memory after loading.",
        "There is no text to compare.",
        "It is not known what the untrained model gives.",
    )


def test_utterances_without_keys_are_numbered_and_each_has_its_rate() -> None:
    verdict = judge_decode(metrics(keys=None, hypotheses=[SAID[0], "请把窗"]))
    assert [(one.key, one.error_rate) for one in verdict.utterances] == [("1", 0.0), ("2", 0.5)]


SCHEDULE = {"learning_rate": 0.001, "warmup_steps": 20}
LOST = {"hypotheses": ["错错错错错错错"] * 2}


@pytest.mark.parametrize(
    ("config", "excused"),
    [
        ({"optim": "adam", "frozen": 0}, False),
        ({}, False),
        ({"frozen": 12}, True),
        ({"optim": "sgd"}, True),
        ({"optim": "adamw", "scheduler": "noamlr"}, True),
    ],
)
def test_a_text_is_expected_back_where_the_configuration_trains_as_the_check_does(
    config: dict[str, Any], excused: bool
) -> None:
    seen = metrics(**LOST, config_in_force=config, schedule=SCHEDULE, steps=120)
    verdict = judge_decode(seen)
    assert verdict.unmet == (() if excused else ("error_rate",))
    assert bool(verdict.not_observed) is excused
    assert judge_decode({**seen, "hypotheses": SAID}).not_observed == "", "what comes back needs no excuse"
    assert judge_decode({**seen, "hypotheses": []}).unmet == ("error_rate",), "no text at all is no wrong text"
    if not excused:
        assert judge_decode({**seen, "schedule": None}).unmet == ("error_rate",)
    weights = judge_decode({**seen, "weights_differ_count": 1})
    assert "weights" in weights.unmet
