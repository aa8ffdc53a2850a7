"""Whether a model hears, with scores planted on both sides of each bound."""

from __future__ import annotations

import itertools
import math
from typing import Any

import parsed
import pytest
from golden_files import assert_golden
from parsed import judge_hearing
from training_scene import heard

from harness.core.evidence.verdicts import HearingVerdict
from harness.rules.hearing import LEAST_SHARE, MODES, MOST_DEAF, exact_p


def judged(hearing: object) -> HearingVerdict:
    return judge_hearing(hearing, 0)


def with_mode(scores: dict[str, Any], mode: str, **changed: Any) -> dict[str, Any]:
    """The scores with one mode's changed."""
    return {**scores, "modes": {**scores["modes"], mode: {**scores["modes"][mode], **changed}}}


def of_modes(verdict: HearingVerdict) -> list[str]:
    return [one.mode for one in verdict.modes]


def test_a_model_that_hears_is_not_accused() -> None:
    verdict = judge_hearing(heard(), 7)
    assert (verdict.reasons, verdict.not_observed, verdict.of, verdict.texts) == ((), "", "held_out", 12)
    assert (verdict.seed, verdict.first_pass, of_modes(verdict)) == (7, True, list(MODES))
    evaluation, training = verdict.modes
    assert (evaluation.own, evaluation.other, evaluation.silence) == (1.0, pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert evaluation.share == pytest.approx(1.0)
    assert training.share == pytest.approx((5 / 6 - 1 / 6) / (5 / 6))


@pytest.mark.parametrize("mode", MODES)
def test_a_model_whose_output_is_the_same_for_all_speech_is_deaf(mode: str) -> None:
    same = {"own": [[2, 2]] * 12, "others": [[[2, 2]] * 12] * 3, "silence": [[2, 2]] * 12}
    scores = heard()
    verdict = judged({**scores, "modes": {**scores["modes"], mode: same}})
    assert len(verdict.reasons) == 4
    (deaf,) = (one for one in verdict.modes if one.mode == mode)
    assert (deaf.p_parts, deaf.p_silence, deaf.share) == ((1.0, 1.0), 1.0, 0.0)


def test_a_model_that_hears_the_beginning_only_is_found_by_the_end() -> None:
    verdict = judged(heard(own=(3, 1)))
    assert len(verdict.reasons) == 1
    first, second = verdict.modes[0].p_parts
    assert first < 1e-3 < second


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_is_as_good_with_silence_is_found(mode: str) -> None:
    scores = heard()
    verdict = judged(with_mode(scores, mode, silence=scores["modes"][mode]["own"]))
    assert len(verdict.reasons) == 1
    assert [(one.mode, one.p_silence == 1.0) for one in verdict.modes] == [(one, one == mode) for one in MODES]


@pytest.mark.parametrize(
    ("texts", "others", "tests"),
    [
        *((10, 3, 0), (9, 3, 1), (5, 3, 1), (4, 3, 2)),
        # Of two speeches the own one is the better by chance in half of the texts, as with silence.
        *((10, 1, 0), (9, 1, 2)),
    ],
)
def test_of_few_texts_no_more_is_required_than_they_can_show(texts: int, others: int, tests: int) -> None:
    scores = heard(texts=texts)
    for mode in MODES:
        scores = with_mode(scores, mode, others=[[[0, 1]] * texts] * others)
    verdict = judged(scores)
    assert verdict.reasons == ()
    assert verdict.not_observed.count("texts are too few") == tests


def test_the_mode_with_the_fewest_other_speeches_decides_what_can_be_shown() -> None:
    scores = heard(texts=9)
    for mode in MODES:
        assert judged(with_mode(scores, mode, others=[[[0, 1]] * 9])).not_observed.count("too few") == 2


@pytest.mark.parametrize(("texts", "reasons"), [(4, 1), (9, 3), (10, 4)])
def test_a_deaf_model_is_found_by_few_texts_too(texts: int, reasons: int) -> None:
    """The share needs no test; four texts allow neither test, nine that against other speech."""
    same = {"own": [[2, 2]] * texts, "others": [[[2, 2]] * texts] * 3, "silence": [[2, 2]] * texts}
    verdict = judged({**heard(texts=texts), "modes": dict.fromkeys(MODES, same)})
    assert len(verdict.reasons) == 2 * reasons


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


def one_right_in(first: int, second: int, *, of: str, quiet: bool = False) -> HearingVerdict:
    """Of 100 texts of two tokens, so many first and so many second tokens are right, with the own speech alone.

    With `quiet`, with silence too.
    """
    own = [[1, 0]] * first + [[0, 1]] * second + [[0, 0]] * (100 - first - second)
    nothing = [[0, 0]] * 100
    mode = {"own": own, "others": [nothing] * 3, "silence": own if quiet else nothing}
    return judged({"of": of, "score": "tokens", "tokens": [[1, 1]] * 100, "modes": dict.fromkeys(MODES, mode)})


@pytest.mark.parametrize(
    ("first", "second", "quiet", "reasons", "excused"),
    [
        *((6, 6, False, 1, False), (7, 6, False, 0, True), (20, 19, False, 0, True), (20, 20, False, 0, False)),
        # Of the second half four are too few for the test; with silence nothing is less right.
        *((30, 4, False, 2, False), (7, 6, True, 2, False)),
    ],
)
def test_between_a_deaf_models_share_and_the_required_one_few_epochs_are_no_finding(
    first: int, second: int, quiet: bool, reasons: int, excused: bool
) -> None:
    """12 of 200 are the share that deaf models have had, and 40 the one that is required; both are borders."""
    verdict = one_right_in(first, second, of="training", quiet=quiet)
    assert [one.share for one in verdict.modes] == [(first + second) / 200] * 2
    assert (MOST_DEAF, LEAST_SHARE) == (12 / 200, 40 / 200)
    assert (len(verdict.reasons), bool(verdict.not_observed)) == (2 * reasons, excused)
    held_out = one_right_in(first, second, of="held_out", quiet=quiet)
    assert (len(held_out.reasons), held_out.not_observed) == (2 * (reasons + excused), "")


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
    verdict = share(enough - 1)
    assert len(verdict.reasons) == 1
    assert max(*verdict.modes[0].p_parts, verdict.modes[0].p_silence) < 1e-3


def test_where_every_token_is_right_with_anothers_speech_nothing_is_left_to_hear() -> None:
    everything = [[3, 3]] * 12
    mode = {"own": everything, "others": [everything] * 3, "silence": [[1, 0]] * 12}
    verdict = judged({**heard(of="training"), "modes": {"evaluation": mode}})
    assert (verdict.modes[0].other, verdict.modes[0].share) == (1.0, 0.0)
    assert len(verdict.reasons) == 3


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
    assert (verdict.reasons, verdict.not_observed) == ((), "")
    assert [(one.own, one.other, one.silence, one.share, one.by_loss) for one in verdict.modes] == [
        (-0.5, -1.0, -2.0, None, True)
    ] * 2
    assert not judged(heard()).modes[0].by_loss
    assert len(judged({**scores, "modes": {"evaluation": sound, "training": deaf}}).reasons) == 2
    # A loss below that of no speech shows no tokens that were seen.
    reading = {"own": own, "others": [[[0.9]] * 12] * 3, "silence": silence}
    assert len(judged({**scores, "modes": dict.fromkeys(MODES, reading)}).reasons) == 2


def test_of_texts_of_one_token_there_is_no_second_half() -> None:
    mode = {"own": [[1, 0]] * 12, "others": [[[0, 0]] * 12] * 3, "silence": [[0, 0]] * 12}
    verdict = judged({"of": "training", "tokens": [[1, 0]] * 12, "modes": dict.fromkeys(MODES, mode)})
    assert verdict.reasons == ()
    assert [len(one.p_parts) for one in verdict.modes] == [1, 1]
    of_one = {**mode, "others": [[[1, 0]] * 12] * 3}
    assert len(judged({"of": "training", "tokens": [[1, 0]] * 12, "modes": {"training": of_one}}).reasons) == 2
    one_longer = {"of": "training", "tokens": [[1, 1], *[[1, 0]] * 11], "modes": dict.fromkeys(MODES, mode)}
    assert [len(one.p_parts) for one in judged(one_longer).modes] == [2, 2]


RAISED = {"raised": "TypeError@x"}
UNSEEN: dict[str, Any] = {
    "an earlier record": None,
    "another forward": {**heard(), "not_observed": "the model's forward takes hotword_pad"},
    "no mode": {**heard(), "modes": {}},
    "both modes raise": {**heard(), "modes": dict.fromkeys(MODES, RAISED)},
    "one mode raises, and the other is not whole": {**heard(), "modes": {"training": RAISED}},
    "no tokens": {**heard(), "tokens": []},
    "texts of no token": {**heard(), "tokens": [[0, 0]] * 12},
    "tokens of another number of parts": {**heard(), "tokens": [[3]] * 12},
    "a text too few": with_mode(with_mode(heard(), "training", own=[[3, 3]] * 11), "evaluation", own=[[3, 3]] * 11),
}


@pytest.mark.parametrize("scene", UNSEEN)
def test_what_was_not_observed_accuses_nobody_and_is_reported(scene: str) -> None:
    verdict = judge_hearing(UNSEEN[scene], 3)
    assert (verdict.seed, verdict.reasons, verdict.modes) == (3, (), ())
    assert verdict.not_observed
    recorded = scene not in ("an earlier record", "another forward")
    assert (verdict.of, verdict.texts) == (("held_out", len(UNSEEN[scene]["tokens"])) if recorded else ("", 0))


@pytest.mark.parametrize(
    "changed",
    [
        {"own": [[3, 3]] * 11},
        {"own": [[3, 3]] * 11 + [[3]]},
        {"own": [[3, 3]] * 11 + [[]]},
        {"silence": [[1, 0]] * 13},
        {"silence": [[1, 0]] * 11 + [[1, 0, 1]]},
        {"others": []},
        {"others": [[[0, 1]] * 12, [[0, 1]] * 11]},
        {"others": [[[0, 1]] * 12, [[0, 1]] * 11 + [[0]]]},
    ],
)
def test_a_mode_whose_scores_are_not_whole_is_left_out_and_hides_no_other(changed: dict[str, Any]) -> None:
    scores = heard()
    verdict = judged(with_mode(scores, "evaluation", **changed))
    assert (of_modes(verdict), verdict.reasons) == (["training"], ())
    assert verdict.not_observed
    # What the other mode can show does not depend on it.
    deaf = with_mode(scores, "training", own=[[0, 1]] * 12)
    assert len(judged(with_mode(deaf, "evaluation", **changed)).reasons) == len(judged(deaf).reasons) == 4


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
    assert (shown.reasons, shown.first_pass) == ((), False)
    assert shown.not_observed
    assert judged({**heard(), "first_pass": False}).not_observed == ""


def with_others_right(right: int, tokens: list[list[int]]) -> HearingVerdict:
    """A model that knows all tokens with their own speech, and so many of them with another's, evenly spread."""
    others = [[0, 0] for _ in tokens]
    while right:
        for row, most in zip(others, tokens, strict=True):
            for part in (0, 1):
                if right and row[part] < most[part]:
                    row[part] += 1
                    right -= 1
    mode = {"own": tokens, "others": [others], "silence": [[0, 0]] * len(tokens)}
    return judged({**heard(), "tokens": tokens, "modes": {"evaluation": mode}})


@pytest.mark.parametrize(("right", "reads"), [(124, False), (125, True)])
def test_with_anothers_speech_no_more_is_right_than_the_tokens_before_allow(right: int, reads: bool) -> None:
    """Six tokens: 1/6 + 1/5 + ... + 1 of six, 88.2 of 216, and five standard deviations, 36.1, above."""
    verdict = with_others_right(right, [[3, 3]] * 36)
    assert verdict.modes[0].other == pytest.approx(right / 216)
    assert len(verdict.reasons) == reads


@pytest.mark.parametrize(("right", "reads"), [(101, False), (102, True)])
def test_the_allowance_is_that_of_the_texts_own_lengths(right: int, reads: bool) -> None:
    """Half of the texts have two tokens and half six: 27 + 44.1 of 144, and five standard deviations, 30.0, above."""
    assert len(with_others_right(right, [[1, 1], [3, 3]] * 18).reasons) == reads


@pytest.mark.parametrize("first_pass", [True, False])
def test_a_decoder_that_sees_what_it_is_to_say_is_found(first_pass: bool) -> None:
    reading = {"own": [[3, 3]] * 36, "others": [[[3, 2]] * 36] * 3, "silence": [[3, 3]] * 36}
    scores = heard(texts=36, first_pass=first_pass, modes=dict.fromkeys(MODES, reading))
    by_heart = judged({**scores, "of": "training"}).reasons
    # Texts that were trained on may be known by heart; of others it is one reason more for each mode.
    assert len(judged(scores).reasons) == len(by_heart) + 2


def test_a_mode_that_raises_where_the_other_does_not_is_the_models_fault() -> None:
    scores = heard()
    verdict = judged({**scores, "modes": {**scores["modes"], "evaluation": RAISED}})
    assert (of_modes(verdict), len(verdict.reasons), verdict.not_observed) == (["training"], 1, "")
    deaf = with_mode(scores, "training", own=scores["modes"]["training"]["silence"])
    both = judged({**deaf, "modes": {**deaf["modes"], "evaluation": RAISED}})
    assert len(both.reasons) > 1


def reported() -> dict[str, object]:
    """Scenes, one for each sentence of the rule."""
    scores = heard()
    same = {"own": [[2, 2]] * 12, "others": [[[2, 2]] * 12] * 3, "silence": [[2, 2]] * 12}
    losses = {"own": [[-0.5]] * 12, "others": [[[-0.5]] * 12] * 3, "silence": [[-0.5]] * 12}
    few = [[1, 0]] * 7 + [[0, 1]] * 6 + [[0, 0]] * 87
    nothing = [[0, 0]] * 100
    little = {"own": few, "others": [nothing] * 3, "silence": nothing}
    reading = {"own": [[3, 3]] * 36, "others": [[[3, 2]] * 36] * 3, "silence": [[0, 0]] * 36}
    return {
        **UNSEEN,
        "deaf in evaluation mode": with_mode(scores, "evaluation", **same),
        "deaf by its loss": {**heard(score="loss"), "modes": dict.fromkeys(MODES, losses)},
        "a decoder that is shown the tokens before": {**with_mode(scores, "training", **same), "first_pass": False},
        "four texts": heard(texts=4),
        "a user's rows": {"of": "training", "tokens": [[1, 1]] * 100, "modes": dict.fromkeys(MODES, little)},
        "a decoder that reads": heard(texts=36, modes=dict.fromkeys(MODES, reading)),
        "one mode raises": {**scores, "modes": {**scores["modes"], "evaluation": RAISED}},
    }


def test_the_wording_of_what_is_heard() -> None:
    text = ""
    for scene, hearing in reported().items():
        verdict = judged(hearing)
        text += f"{scene}\n" + "".join(f"  {reason}\n" for reason in verdict.reasons)
        text += f"  not observed: {verdict.not_observed}\n" if verdict.not_observed else ""
    assert_golden("hearing.txt", text)
