"""Whether a model hears, with scores planted on both sides of each bound."""

from __future__ import annotations

import itertools
import math
from typing import Any

import parsed
import pytest
from parsed import judge_hearing
from training_scene import heard

from harness.core.evidence.verdicts import HearingVerdict
from harness.rules.hearing import LEAST_SHARE, MODES, exact_p


def judged(hearing: object) -> HearingVerdict:
    return judge_hearing(hearing, 0)


def test_a_model_that_hears_is_not_accused() -> None:
    verdict = judged(heard())
    assert (verdict.reasons, verdict.not_observed, verdict.of, verdict.texts) == ((), "", "held_out", 12)
    evaluation, training = verdict.modes
    assert (evaluation.own, evaluation.other, evaluation.silence) == (1.0, pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert evaluation.share == pytest.approx(1.0)
    assert training.share == pytest.approx((5 / 6 - 1 / 6) / (5 / 6))


@pytest.mark.parametrize("mode", MODES)
def test_a_model_whose_output_is_the_same_for_all_speech_is_deaf(mode: str) -> None:
    same = {"own": [[2, 2]] * 12, "others": [[[2, 2]] * 12] * 3, "silence": [[2, 2]] * 12}
    scores = heard()
    verdict = judged({**scores, "modes": {**scores["modes"], mode: same}})
    assert [reason.partition(" mode")[0] for reason in verdict.reasons] == [f"In {mode}"] * 4
    (deaf,) = (one for one in verdict.modes if one.mode == mode)
    assert (deaf.p_parts, deaf.p_silence, deaf.share) == ((1.0, 1.0), 1.0, 0.0)


def test_a_model_that_hears_the_beginning_only_is_found_by_the_end() -> None:
    verdict = judged(heard(own=(3, 1)))
    assert len(verdict.reasons) == 1
    assert "for the second half does not depend on the speech" in verdict.reasons[0]


def test_a_model_that_is_as_good_with_silence_is_found() -> None:
    scores = heard()
    sound = scores["modes"]["training"]
    quiet = {**sound, "silence": sound["own"]}
    assert judged({**scores, "modes": {**scores["modes"], "training": quiet}}).reasons == (
        "In training mode the output is as good with silence (p = 1).",
    )


@pytest.mark.parametrize(
    ("texts", "missing"),
    [
        (10, ()),
        (9, ("silence: its p is 0.002 at least",)),
        (5, ("silence: its p is 0.031 at least",)),
        (4, ("other speech: its p is 0.0039 at least", "silence: its p is 0.062 at least")),
    ],
)
def test_of_few_texts_no_more_is_required_than_they_can_show(texts: int, missing: tuple[str, ...]) -> None:
    verdict = judged(heard(texts=texts))
    assert verdict.reasons == ()
    told = [f"{texts} texts are too few for the test against {one}" for one in missing]
    assert verdict.not_observed == "; ".join(told)


@pytest.mark.parametrize("texts", [4, 9])
def test_a_deaf_model_is_found_by_few_texts_too(texts: int) -> None:
    same = {"own": [[2, 2]] * texts, "others": [[[2, 2]] * texts] * 3, "silence": [[2, 2]] * texts}
    verdict = judged({**heard(texts=texts), "modes": dict.fromkeys(MODES, same)})
    assert any("of what can only be heard is heard" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("better", "reasons", "missing"), [(60, 0, 1), (40, 1, 0), (0, 4, 0)])
def test_a_users_rows_of_which_little_was_learned_are_no_deaf_model(better: int, reasons: int, missing: int) -> None:
    """Ten epochs of sentences of which each is another: the share is small, and every test says that speech matters."""
    texts = 400
    own = [[2, 2]] * better + [[1, 1]] * (texts - better)
    mode = {"own": own, "others": [[[1, 1]] * texts] * 3, "silence": [[1, 1]] * texts}
    scores = heard(texts=texts)
    verdict = judged({**scores, "of": "training", "modes": {**scores["modes"], "training": mode}})
    # 60 of 400 texts are 0.075 of what can only be heard, and 40 are 0.05; deaf models had up to 0.06.
    assert len(verdict.reasons) == reasons
    assert verdict.not_observed.count("too little to judge the share") == missing


def test_hearing_a_little_is_not_enough() -> None:
    """Beyond chance, and far below what sound trainings hear."""
    texts = 400
    others, silence = [[[1, 1]] * texts] * 3, [[0, 0]] * texts
    scores = heard(texts=texts)

    def share(better: int) -> HearingVerdict:
        own = [[2, 2]] * better + [[1, 1]] * (texts - better)
        mode = {"own": own, "others": others, "silence": silence}
        return judged({**scores, "modes": {**scores["modes"], "evaluation": mode}})

    enough = math.ceil(LEAST_SHARE * 2 * texts)
    assert share(enough).reasons == ()
    (reason,) = share(enough - 1).reasons
    assert "of what can only be heard is heard" in reason


def test_the_probability_is_that_of_all_choices() -> None:
    """Counted over every choice of which score is the own one."""
    rows = [[3, 1, 1], [2, 2, 0], [0, 1, 2]]
    ranks = [[sum((b < a) + 0.5 * (a == b) for b in row) for a in row] for row in rows]
    seen = sum(row[0] for row in ranks)
    sums = [sum(choice) for choice in itertools.product(*ranks)]
    assert exact_p(rows) == pytest.approx(sum(one >= seen for one in sums) / len(sums))
    assert exact_p([[1.5, 1.5]] * 9) == 1.0
    assert exact_p([[2.0, 1.0]] * 9) == pytest.approx(2**-9)


def test_models_that_hear_nothing_pass_as_rarely_as_stated() -> None:
    import numpy

    random = numpy.random.default_rng(0)
    found = sum(exact_p(random.binomial(3, 0.3, (12, 4)).tolist()) <= 0.01 for _ in range(2000))
    # The binomial's 99.9 % at one in a hundred: 20 expected of 2000.
    assert found <= 35


def test_losses_are_compared_where_there_are_no_tokens_to_count() -> None:
    own, others, silence = [[-0.5]] * 12, [[[-1.0]] * 12] * 3, [[-2.0]] * 12
    sound = {"own": own, "others": others, "silence": silence}
    deaf = {"own": own, "others": [own] * 3, "silence": own}
    scores = heard(score="loss")
    verdict = judged({**scores, "modes": dict.fromkeys(MODES, sound)})
    assert (verdict.reasons, [one.share for one in verdict.modes]) == ((), [None, None])
    assert judged({**scores, "modes": {"evaluation": sound, "training": deaf}}).reasons == (
        "In training mode the output does not depend on the speech (p = 1).",
        "In training mode the output is as good with silence (p = 1).",
    )


def test_of_texts_of_one_token_there_is_no_second_half() -> None:
    mode = {"own": [[1, 0]] * 12, "others": [[[0, 0]] * 12] * 3, "silence": [[0, 0]] * 12}
    verdict = judged({"of": "training", "tokens": [[1, 0]] * 12, "modes": dict.fromkeys(MODES, mode)})
    assert verdict.reasons == ()
    assert [len(one.p_parts) for one in verdict.modes] == [1, 1]


@pytest.mark.parametrize(
    ("hearing", "why"),
    [
        (None, "did not look"),
        ({"not_observed": "the model's forward takes hotword_pad"}, "hotword_pad"),
        ({**heard(), "modes": {}}, "evaluation mode: its scores are not whole; training mode"),
        (
            {**heard(), "modes": {mode: {"raised": "TypeError@x"} for mode in MODES}},
            "training mode the forward pass ended in",
        ),
    ],
)
def test_what_was_not_observed_accuses_nobody_and_is_named(hearing: object, why: str) -> None:
    verdict = judged(hearing)
    assert verdict.reasons == ()
    assert why in verdict.not_observed


@pytest.mark.parametrize("name", ["of", "score", "tokens", "modes", "own", "others", "silence"])
@pytest.mark.parametrize(
    "value", [None, True, -1, math.nan, "x", [], [None], [[[]]], [[]], {}, [["a", 1]], [[1], [2, 3]]]
)
def test_whatever_is_reported_is_judged_or_a_mismatch(name: str, value: Any) -> None:
    scores = heard()
    modes = {mode: {**told, name: value} for mode, told in scores["modes"].items()}
    given = {**scores, name: value} if name in scores else {**scores, "modes": modes}
    verdict, mismatch = parsed.judged(judge_hearing, given)
    assert name in mismatch if verdict is None else name in ("of", "score") or verdict.not_observed


def test_a_decoder_that_is_shown_the_tokens_before_is_not_accused_of_deafness() -> None:
    """It is as good as they allow: 41 % of the places of six words in unknown order."""
    rows = [[1, 1], [0, 2], [1, 2], [0, 2]] * 9
    same = {"own": rows, "others": [rows] * 3, "silence": rows}
    scores = heard(texts=36, modes=dict.fromkeys(MODES, same))
    assert judged({**scores, "first_pass": True}).reasons
    shown = judged({**scores, "first_pass": False})
    assert shown.reasons == ()
    assert "the decoder is shown the tokens before each, and these steps taught it no more" in shown.not_observed
    assert judged({**heard(), "first_pass": False}).not_observed == ""


@pytest.mark.parametrize("first_pass", [True, False])
def test_a_decoder_that_sees_what_it_is_to_say_is_found(first_pass: bool) -> None:
    reading = {"own": [[3, 3]] * 36, "others": [[[3, 2]] * 36] * 3, "silence": [[3, 3]] * 36}
    scores = heard(texts=36, first_pass=first_pass, modes=dict.fromkeys(MODES, reading))
    reasons = judged(scores).reasons
    assert "83.3% of the tokens are right with another's speech" in reasons[0]
    assert "can be right at 40.8%: the decoder sees the tokens that it is to say" in reasons[0]
    # Texts that were trained on may be known by heart.
    assert not any("sees the tokens" in reason for reason in judged({**scores, "of": "training"}).reasons)


def test_a_mode_that_raises_where_the_other_does_not_is_the_models_fault() -> None:
    scores = heard()
    verdict = judged({**scores, "modes": {**scores["modes"], "evaluation": {"raised": "RuntimeError@funasr/x.py:f"}}})
    assert verdict.reasons == ("In evaluation mode the forward pass ended in RuntimeError@funasr/x.py:f.",)
    assert [one.mode for one in verdict.modes] == ["training"]
