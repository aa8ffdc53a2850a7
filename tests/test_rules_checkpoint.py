"""The questions on what was saved: each with the answer that a sound release gives, and with its fault planted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from parsed import judge_checkpoint

from harness.core.cells import Cell, Outcome, Status
from harness.core.evidence.questions import AnswerStatus, Question
from harness.rules.checkpoint import QUESTIONS, apply_checkpoint_rule

Metrics = dict[str, Any]
Plant = Callable[[Metrics], None]
RATES = [0.00025, 0.0005, 0.00075, 0.001, 0.0009, 0.0008]
LOSSES = [9.0, 8.0, 7.0, 6.0, 5.5, 5.2]
FILES = ["model.pt.ep0.2", "model.pt.ep1", "model.pt.ep1.2", "model.pt.ep2"]


def sound() -> Metrics:
    """Two epochs of three batches each, ranked by loss; the recipe's run has one."""
    saved = [
        {"name": name, "after_forward": step, "after_validation": number, "differs": []}
        for number, (name, step) in enumerate(zip(FILES, (2, 3, 5, 6), strict=True), 1)
    ]
    validations = [{"losses": [loss, loss], "accuracies": [0.1, 0.3]} for loss in (8.0, 7.0, 5.0, 6.0)]
    scores = {"loss": dict(zip(FILES, (8.0, 7.0, 5.0, 6.0), strict=True)), "acc": dict.fromkeys(FILES, 0.2)}
    whole = {"batches": list("abcdef"), "losses": LOSSES, "learning_rates": RATES, "failure": None}
    whole |= {"validations": validations, "saved": saved}
    resumed = {"batches": list("def"), "losses": LOSSES[3:], "learning_rates": RATES[3:], "failure": None}
    resumed |= {"left": {"forwards": 3}, "weights_differ": [], "moments_differ": [], "last_differs": []}
    loaded: Metrics = {"failure": None, "said": [], "differs": []}
    left_out = [{"name": "decoder.embed.0.weight", "model": [9, 4], "checkpoint": [7, 4]}]
    cases = [
        {"kind": kind, "ignore": ignore, "began": ignore, "failure": None if ignore else {"reason": "size mismatch"}}
        | ({"taken": 70, "left_out": left_out, "lost": [], "unsaid": []} if ignore else {"unsaid": []})
        for kind in ("vocabulary", "width")
        for ignore in (True, False)
    ]
    return {
        "whole": whole,
        "resumed": resumed,
        "within": {"batches": ["c"], "left": {"forwards": 2}, "failure": None},
        "recipe": {"batches": list("xyz"), "failure": None, "said_of_averaging": []},
        "recipe_files": ["model.pt", "model.pt.avg1", "model.pt.best", "model.pt.ep1"],
        "once": {"batches": ["y"], "left": {"forwards": 1}, "failure": None},
        "twice": {"batches": ["z"], "left": {"forwards": 1}, "failure": None},
        "files": {
            "names": ["model.pt", "model.pt.avg2", "model.pt.best", *FILES],
            "scores": {**scores, "criterion": "loss", "best": "model.pt.ep1.2"},
            "same_as": {"model.pt.best": ["model.pt.ep1.2"], "model.pt": ["model.pt.ep2"]},
            "averages": {"model.pt.avg2": {"members": [["model.pt.ep1.2", "model.pt.ep2"]], "missing": []}},
        },
        "mismatch": cases,
        "loading": {
            "average": {**loaded, "equals": ["model.pt.avg2"]},
            "folder": {**loaded, "equals": ["model.pt", "model.pt.ep2"]},
            "bare": {**loaded, "equals": ["model.pt", "model.pt.ep2"]},
            "folder_has_configuration": True,
        },
    }


def ask(metrics: Metrics) -> dict[str, Question]:
    return {question.name: question for question in judge_checkpoint(metrics)}


def test_everything_holds_for_a_sound_release() -> None:
    questions = ask(sound())
    assert {name: question.status for name, question in questions.items()} == dict.fromkeys(
        questions, AnswerStatus.HOLDS
    )
    assert len(questions) == 18


def forgets_the_optimizer(metrics: Metrics) -> None:
    metrics["resumed"] |= {"moments_differ": ["encoder.weight:exp_avg"], "losses": [6.0, 5.8, 5.6]}


def forgets_the_epoch(metrics: Metrics) -> None:
    metrics["resumed"] |= {"batches": list("abcdef"), "losses": [6.0] * 6, "learning_rates": RATES}


def loses_a_tensor_on_the_way(metrics: Metrics) -> None:
    metrics["whole"]["saved"][1]["differs"] = ["encoder.weight"]


def loads_without_a_tensor(metrics: Metrics) -> None:
    metrics["resumed"]["weights_differ"] = ["encoder.weight"]


def forgets_the_schedule(metrics: Metrics) -> None:
    metrics["resumed"] |= {"learning_rates": RATES[:3]}


def repeats_the_epoch(metrics: Metrics) -> None:
    metrics["within"]["batches"] = ["a"]


def skips_the_rest(metrics: Metrics) -> None:
    metrics["once"]["batches"] = ["z"]


def forgets_the_first_stop(metrics: Metrics) -> None:
    metrics["twice"]["batches"] = ["y"]


def averages_nothing(metrics: Metrics) -> None:
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep1.2"]]


def averages_the_worst(metrics: Metrics) -> None:
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep0.2", "model.pt.ep1"]]


def averages_what_is_no_mean(metrics: Metrics) -> None:
    metrics["files"]["averages"]["model.pt.avg2"] = {"members": [], "missing": [], "differs": ["encoder.weight"]}


def averages_without_a_tensor(metrics: Metrics) -> None:
    metrics["files"]["averages"]["model.pt.avg2"]["missing"] = ["encoder.weight"]


def saves_no_average(metrics: Metrics) -> None:
    metrics["files"]["averages"] = {}


def prunes_what_it_averages(metrics: Metrics) -> None:
    metrics["recipe_files"] = ["model.pt", "model.pt.best", "model.pt.ep1"]


def keeps_the_first_as_best(metrics: Metrics) -> None:
    metrics["files"]["same_as"]["model.pt.best"] = ["model.pt.ep0.2"]


def keeps_no_best(metrics: Metrics) -> None:
    metrics["files"]["names"].remove("model.pt.best")


def ranks_by_a_default(metrics: Metrics) -> None:
    metrics["files"]["scores"]["acc"] = dict.fromkeys(FILES, 0.0)


def ranks_by_what_nobody_computed(metrics: Metrics) -> None:
    for validation in metrics["whole"]["validations"]:
        validation["accuracies"] = [None, None]


def loads_the_base(metrics: Metrics) -> None:
    metrics["loading"]["folder"]["equals"] = ["the base"]


def loads_the_base_when_bare(metrics: Metrics) -> None:
    metrics["loading"]["bare"]["equals"] = ["the base"]


def loads_no_average(metrics: Metrics) -> None:
    metrics["loading"]["average"]["equals"] = []


def drops_silently(metrics: Metrics) -> None:
    metrics["mismatch"][0]["unsaid"] = ["decoder.embed.0.weight"]


def drops_what_fits(metrics: Metrics) -> None:
    metrics["mismatch"][0]["lost"] = ["encoder.weight"]


def drops_though_told_not_to(metrics: Metrics) -> None:
    metrics["mismatch"][1] |= {"began": True, "left_out": metrics["mismatch"][0]["left_out"], "lost": []}


FAULTS: tuple[tuple[Plant, set[str]], ...] = (
    (forgets_the_optimizer, {"resumes_optimizer", "resumes_losses"}),
    (forgets_the_epoch, {"resumes_at_epoch", "resumes_schedule"}),
    (loses_a_tensor_on_the_way, {"saved_whole"}),
    (loads_without_a_tensor, {"resumes_weights"}),
    (forgets_the_schedule, {"resumes_schedule"}),
    (repeats_the_epoch, {"resumes_within_epoch"}),
    (skips_the_rest, {"resumes_within_sorted_epoch"}),
    (forgets_the_first_stop, {"resumes_twice_within_epoch"}),
    (averages_nothing, {"average_is_mean"}),
    (averages_the_worst, {"average_is_mean"}),
    (averages_what_is_no_mean, {"average_is_mean"}),
    (averages_without_a_tensor, {"average_is_mean"}),
    (saves_no_average, {"average_is_mean"}),
    (prunes_what_it_averages, {"average_survives_pruning"}),
    (keeps_the_first_as_best, {"best_is_best"}),
    (keeps_no_best, {"best_is_best"}),
    (ranks_by_a_default, {"criterion_is_measured"}),
    (ranks_by_what_nobody_computed, {"criterion_is_measured"}),
    (loads_the_base, {"folder_loads"}),
    (loads_the_base_when_bare, {"bare_folder_loads"}),
    (loads_no_average, {"average_loads"}),
    (drops_silently, {"mismatch_said"}),
    (drops_what_fits, {"mismatch_said"}),
    (drops_though_told_not_to, {"mismatch_refused"}),
)


@pytest.mark.parametrize(("plant", "failing"), FAULTS)
def test_each_fault_fails_its_question(plant: Plant, failing: set[str]) -> None:
    metrics = sound()
    plant(metrics)
    assert {name for name, question in ask(metrics).items() if question.status is AnswerStatus.FAILS} == failing


@pytest.mark.parametrize(("loss", "status"), [(6.000003, AnswerStatus.HOLDS), (6.00003, AnswerStatus.FAILS)])
def test_the_bound_on_losses_has_two_sides(loss: float, status: AnswerStatus) -> None:
    metrics = sound()
    metrics["resumed"]["losses"] = [loss, *LOSSES[4:]]
    assert ask(metrics)["resumes_losses"].status is status


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("apart", "status"), [(0.9e-6, AnswerStatus.HOLDS), (1.1e-6, AnswerStatus.FAILS)])
def test_the_bound_on_rates_has_two_sides(sign: int, apart: float, status: AnswerStatus) -> None:
    metrics = sound()
    metrics["resumed"]["learning_rates"] = [RATES[3] * (1 + sign * apart), *RATES[4:]]
    assert ask(metrics)["resumes_schedule"].status is status


@pytest.mark.parametrize(("noise", "status"), [(1.1e-4, AnswerStatus.HOLDS), (0.9e-4, AnswerStatus.FAILS)])
def test_ten_times_the_noise_of_the_device_is_allowed(noise: float, status: AnswerStatus) -> None:
    metrics = sound()
    metrics["resumed"]["losses"] = [6.0 * (1 + 1e-3), *LOSSES[4:]]
    metrics["again"] = {"losses": [LOSSES[0] * (1 + noise), *LOSSES[1:]]}
    assert ask(metrics)["resumes_losses"].status is status
    # A second run without losses, or with the same, allows no more than rounding.
    for again in ([], LOSSES):
        assert ask({**metrics, "again": {"losses": again}})["resumes_losses"].status is AnswerStatus.FAILS


@pytest.mark.parametrize(("apart", "status"), [(0.9e-4, AnswerStatus.HOLDS), (1.1e-4, AnswerStatus.FAILS)])
def test_the_bounds_on_scores_have_two_sides(apart: float, status: AnswerStatus) -> None:
    """Relative of losses, absolute of accuracies; of what is ranked, of the best and of what is averaged."""
    for sign in (1, -1):
        ranked = sound()
        ranked["files"]["scores"]["loss"][FILES[0]] = 8.0 * (1 + sign * apart)
        assert ask(ranked)["criterion_is_measured"].status is status
        ranked = sound()
        ranked["files"]["scores"]["acc"][FILES[0]] = 0.2 + sign * apart
        assert ask(ranked)["criterion_is_measured"].status is status
    best = sound()
    best["whole"]["validations"][3]["losses"] = [5.0 * (1 + apart)]
    best["files"]["same_as"]["model.pt.best"] = ["model.pt.ep2"]
    assert ask(best)["best_is_best"].status is status
    averaged = sound()
    averaged["whole"]["validations"][1]["losses"] = [6.0 + apart]
    averaged["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep1", "model.pt.ep1.2"]]
    assert ask(averaged)["average_is_mean"].status is status


@pytest.mark.parametrize(("apart", "status"), [(0.9e-4, AnswerStatus.NOT_TESTED), (1.1e-4, AnswerStatus.HOLDS)])
def test_scores_are_the_same_up_to_rounding(apart: float, status: AnswerStatus) -> None:
    metrics = sound()
    for validation in metrics["whole"]["validations"]:
        validation["losses"] = [7.0 * (1 + apart)]
    metrics["whole"]["validations"][2]["losses"] = [7.0]
    assert ask(metrics)["best_is_best"].status is status


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), "nan", None])
def test_a_loss_that_is_no_number_is_no_equal(loss: Any) -> None:
    metrics = sound()
    metrics["resumed"]["losses"] = [loss, *LOSSES[4:]]
    assert ask(metrics)["resumes_losses"].status is AnswerStatus.FAILS


def test_equal_losses_do_not_excuse_other_weights_at_the_end() -> None:
    metrics = sound()
    metrics["resumed"]["last_differs"] = ["encoder.weight"]
    question = ask(metrics)["resumes_losses"]
    assert question.status is AnswerStatus.FAILS
    assert "encoder.weight" in question.message


def test_a_device_that_does_not_repeat_itself_is_allowed_its_noise() -> None:
    metrics = sound()
    metrics["resumed"]["losses"] = [6.005, *LOSSES[4:]]
    metrics["resumed"]["last_differs"] = ["encoder.weight"]
    metrics["again"] = {"losses": [9.001, *LOSSES[1:]]}
    assert ask(metrics)["resumes_losses"].status is AnswerStatus.HOLDS
    metrics["resumed"]["losses"] = [6.05, *LOSSES[4:]]
    assert ask(metrics)["resumes_losses"].status is AnswerStatus.FAILS


def test_a_trainer_that_raises_when_it_resumes_fails() -> None:
    metrics = sound()
    metrics["resumed"] = {"failure": {"reason": "KeyError in funasr"}, "left": {"forwards": 3}}
    questions = ask(metrics)
    assert questions["resumes_at_epoch"].status is AnswerStatus.FAILS
    assert "KeyError" in questions["resumes_at_epoch"].message
    assert questions["resumes_losses"].status is AnswerStatus.NOT_TESTED


def test_what_a_release_does_not_offer_is_not_asked() -> None:
    metrics = sound()
    for name in ("within", "recipe", "recipe_files", "once", "twice"):
        del metrics[name]
    metrics["files"] |= {"scores": {"criterion": None}, "names": ["model.pt", "model.pt.avg2", *FILES]}
    metrics["loading"]["folder_has_configuration"] = False
    not_asked = {name for name, question in ask(metrics).items() if question.status is AnswerStatus.NOT_TESTED}
    assert not_asked == {
        *("resumes_within_epoch", "resumes_within_sorted_epoch", "resumes_twice_within_epoch"),
        *("criterion_is_measured", "best_is_best", "average_survives_pruning", "folder_loads"),
    }
    assert {question.status for question in ask(metrics).values()} == {AnswerStatus.HOLDS, AnswerStatus.NOT_TESTED}


def test_without_a_ranking_the_latest_are_averaged() -> None:
    metrics = sound()
    metrics["files"]["scores"] = {"criterion": None}
    assert ask(metrics)["average_is_mean"].message.endswith("the latest")
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep0.2", "model.pt.ep1"]]
    assert ask(metrics)["average_is_mean"].status is AnswerStatus.FAILS


def test_alike_scores_excuse_any_average_and_say_nothing_of_the_best() -> None:
    metrics = sound()
    for validation in metrics["whole"]["validations"]:
        validation["losses"] = [7.0, 7.0]
    metrics["files"]["scores"]["loss"] = dict.fromkeys(FILES, 7.0)
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep0.2", "model.pt.ep1"]]
    metrics["files"]["same_as"]["model.pt.best"] = ["model.pt.ep0.2"]
    answers = ask(metrics)
    assert answers.pop("best_is_best").status is AnswerStatus.NOT_TESTED
    assert {question.status for question in answers.values()} == {AnswerStatus.HOLDS}


def test_equal_checkpoints_say_nothing_of_their_average() -> None:
    metrics = sound()
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [FILES[:2], FILES[2:]]
    assert ask(metrics)["average_is_mean"].status is AnswerStatus.NOT_TESTED


def test_an_optimizer_that_remembers_nothing_can_lose_nothing() -> None:
    metrics = sound()
    assert (
        ask({**metrics, "resumed": {**metrics["resumed"], "moments_kept": 0}})["resumes_optimizer"].status
        is AnswerStatus.NOT_TESTED
    )
    forgets_the_optimizer(metrics)
    metrics["resumed"]["moments_kept"] = 4
    assert ask(metrics)["resumes_optimizer"].status is AnswerStatus.FAILS


def test_a_schedule_that_stands_still_cannot_be_seen_to_resume() -> None:
    metrics = sound()
    metrics["whole"]["learning_rates"] = [0.001] * 6
    metrics["resumed"]["learning_rates"] = [0.001] * 3
    assert ask(metrics)["resumes_schedule"].status is AnswerStatus.NOT_TESTED


def test_saving_that_could_not_be_watched_accuses_nobody() -> None:
    metrics = sound()
    metrics["whole"]["saved"] = []
    answers = ask(metrics)
    unseen = {"saved_whole", "criterion_is_measured", "best_is_best", "average_is_mean"}
    assert {name for name, question in answers.items() if question.status is not AnswerStatus.HOLDS} == unseen
    assert {answers[name].status for name in unseen} == {AnswerStatus.NOT_TESTED}
    metrics["files"]["names"] = []
    assert ask(metrics)["saved_whole"].status is AnswerStatus.FAILS


def test_what_is_refused_or_said_aloud_is_listed() -> None:
    metrics = sound()
    metrics["loading"]["bare"] |= {"equals": [], "said": ["error, init_param does not exist"]}
    metrics["mismatch"][0] |= {"began": False, "failure": {"reason": "size mismatch"}, "left_out": []}
    questions = ask(metrics)
    assert questions["bare_folder_loads"].status is AnswerStatus.LISTED
    assert questions["mismatch_said"].status is AnswerStatus.LISTED
    metrics["loading"]["bare"] |= {"equals": None, "failure": {"reason": "no such file"}}
    assert ask(metrics)["bare_folder_loads"].status is AnswerStatus.LISTED


def test_an_average_that_raises_at_the_end_fails_and_another_failure_does_not_count_as_that() -> None:
    metrics = sound()
    prunes_what_it_averages(metrics)
    place = "funasr/train_utils/average_nbest_models.py:average_checkpoints"
    metrics["recipe"]["failure"] = {"reason": "RuntimeError", "signature": f"RuntimeError@{place}"}
    assert ask(metrics)["average_survives_pruning"].status is AnswerStatus.FAILS
    metrics["recipe"]["failure"] = {"reason": "KeyError", "signature": "KeyError@funasr/bin/train.py:main"}
    assert ask(metrics)["average_survives_pruning"].status is AnswerStatus.NOT_TESTED


def test_a_second_stop_is_not_asked_of_a_release_that_fails_at_the_first() -> None:
    metrics = sound()
    metrics["once"]["batches"] = ["x"]
    assert ask(metrics)["resumes_twice_within_epoch"].status is AnswerStatus.NOT_TESTED


@pytest.mark.parametrize("nothing", [{}, {"whole": None, "resumed": None}, {"whole": {}, "resumed": {}}])
def test_an_empty_outcome_holds_nothing(nothing: Metrics) -> None:
    assert AnswerStatus.HOLDS not in {question.status for question in judge_checkpoint(nothing)}


def test_the_metrics_are_left_as_they_are() -> None:
    metrics = sound()
    before = copy.deepcopy(metrics)
    judge_checkpoint(metrics)
    assert metrics == before


# What a person reads: every answer of the sound release, and of each fault those that it changes.


def resumes_with_an_error(metrics: Metrics) -> None:
    metrics["resumed"] = {"failure": {"reason": "KeyError in funasr"}, "left": {"forwards": 3}}


def resumes_within_with_an_error(metrics: Metrics) -> None:
    for name in ("within", "once", "twice"):
        metrics[name] = {"failure": {"reason": "KeyError in funasr"}, "left": {"forwards": 2}}


def goes_on_with_other_batches(metrics: Metrics) -> None:
    metrics["resumed"]["batches"] = list("fed")


def goes_on_with_batches_that_nobody_saw(metrics: Metrics) -> None:
    metrics["resumed"]["batches"] = list("d?f")


def takes_no_step_after_resuming(metrics: Metrics) -> None:
    metrics["resumed"] |= {"batches": [], "losses": [], "learning_rates": []}


def tells_no_losses(metrics: Metrics) -> None:
    metrics["resumed"] |= {"losses": [], "learning_rates": []}


def breaks_off_before_it_saves(metrics: Metrics) -> None:
    metrics["whole"] |= {"failure": {"reason": "OSError in funasr"}, "saved": []}


def ends_with_other_weights(metrics: Metrics) -> None:
    metrics["resumed"]["last_differs"] = [f"encoder.{number}" for number in range(5)]


def is_noisy(metrics: Metrics) -> None:
    metrics["resumed"]["losses"] = [6.005, *LOSSES[4:]]
    metrics["again"] = {"losses": [9.001, *LOSSES[1:]]}


def is_beyond_its_noise(metrics: Metrics) -> None:
    is_noisy(metrics)
    metrics["resumed"]["losses"] = [6.05, *LOSSES[4:]]


def offers_little(metrics: Metrics) -> None:
    for name in ("within", "recipe", "recipe_files", "once", "twice"):
        del metrics[name]
    metrics["files"] |= {"scores": {"criterion": None}, "names": ["model.pt", *FILES], "averages": {}}
    metrics["loading"] |= {"folder_has_configuration": False, "average": {}}


def ranks_not_at_all(metrics: Metrics) -> None:
    metrics["files"]["scores"] = {"criterion": None}


def does_not_rank_and_one_validation_gave_no_accuracy(metrics: Metrics) -> None:
    ranks_by_accuracy(metrics)
    ranks_not_at_all(metrics)
    metrics["whole"]["validations"][1]["accuracies"] = []


def averages_the_first_without_ranking(metrics: Metrics) -> None:
    ranks_not_at_all(metrics)
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep0.2", "model.pt.ep1"]]


def scores_are_alike(metrics: Metrics) -> None:
    for validation in metrics["whole"]["validations"]:
        validation["losses"] = [7.0, 7.0]
    metrics["files"]["scores"]["loss"] = dict.fromkeys(FILES, 7.0)


def ranks_by_accuracy(metrics: Metrics) -> None:
    """The losses say otherwise: by them it would be model.pt.ep1.2."""
    accuracies = (0.3, 0.1, 0.2, 0.4)
    for validation, accuracy in zip(metrics["whole"]["validations"], accuracies, strict=True):
        validation["accuracies"] = [accuracy]
    metrics["files"]["scores"] |= {"criterion": "acc", "acc": dict(zip(FILES, accuracies, strict=True))}
    metrics["files"]["same_as"]["model.pt.best"] = ["model.pt.ep2"]
    metrics["files"]["scores"]["best"] = "model.pt.ep2"
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep0.2", "model.pt.ep2"]]


def takes_the_lowest_accuracy(metrics: Metrics) -> None:
    ranks_by_accuracy(metrics)
    metrics["files"]["same_as"]["model.pt.best"] = ["model.pt.ep1"]


def one_validation_gave_no_accuracy(metrics: Metrics) -> None:
    """What was not scored is the last choice."""
    ranks_by_accuracy(metrics)
    metrics["whole"]["validations"][1]["accuracies"] = []
    metrics["files"]["same_as"]["model.pt.best"] = ["model.pt.ep1"]


def one_checkpoint_was_not_compared(metrics: Metrics) -> None:
    metrics["whole"]["saved"][0]["differs"] = None


def saves_before_any_validation(metrics: Metrics) -> None:
    metrics["whole"]["saved"][0]["after_validation"] = 0


def keeps_scores_of_files_that_are_gone(metrics: Metrics) -> None:
    metrics["files"]["scores"] |= {"loss": {"model.pt.ep9": 0.5, "model.pt.ep1": None}, "acc": None}


def one_score_of_a_validation_is_missing(metrics: Metrics) -> None:
    metrics["whole"]["validations"][0]["losses"] = [8.0, None]


def has_one_step_without_a_rate(metrics: Metrics) -> None:
    """A rate of 0 is equal to one of 0."""
    metrics["whole"]["learning_rates"] = [*RATES[:3], 0.0, *RATES[4:]]
    metrics["resumed"]["learning_rates"] = [0.0, *RATES[4:]]


def has_an_optimizer_that_remembers_nothing(metrics: Metrics) -> None:
    metrics["resumed"]["moments_kept"] = 0


def shows_no_weights_after_resuming(metrics: Metrics) -> None:
    metrics["resumed"] |= {"weights_differ": None, "moments_differ": None}


def saves_where_nobody_can_watch(metrics: Metrics) -> None:
    metrics["whole"]["saved"] = []


def ranks_by_a_file_that_is_gone_and_by_a_default(metrics: Metrics) -> None:
    metrics["files"]["scores"]["loss"] = {"model.pt.ep9": 0.5, FILES[0]: None, FILES[1]: 7.5}


def validates_without_a_loss(metrics: Metrics) -> None:
    for validation in metrics["whole"]["validations"]:
        validation["losses"] = [None, None]


def keeps_a_best_that_was_not_compared(metrics: Metrics) -> None:
    del metrics["files"]["same_as"]["model.pt.best"]


def averages_equal_checkpoints(metrics: Metrics) -> None:
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [FILES[:2], FILES[2:]]


def averages_a_file_that_nobody_saw(metrics: Metrics) -> None:
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [["model.pt.ep1.2", "model.pt.ep9"]]


def was_stopped_before_the_first_batch(metrics: Metrics) -> None:
    """All of the uninterrupted run is due, and its schedule begun again looks alike."""
    metrics["resumed"] |= {"left": {"forwards": 0}}
    metrics["resumed"] |= {name: metrics["whole"][name] for name in ("batches", "losses", "learning_rates")}


def takes_no_step_within(metrics: Metrics) -> None:
    metrics["within"]["batches"] = []


def takes_several_steps_within(metrics: Metrics) -> None:
    metrics["within"]["batches"] = list("cde")


def takes_a_step_too_many_within(metrics: Metrics) -> None:
    metrics["within"]["batches"] = list("cdf")


def was_stopped_again_after_two_batches(metrics: Metrics) -> None:
    metrics["recipe"]["batches"] = list("vwxyz")
    metrics["once"] = {"batches": list("wx"), "left": {"forwards": 1}, "failure": None}
    metrics["twice"] = {"batches": ["y"], "left": {"forwards": 2}, "failure": None}


def forgets_the_first_stop_after_two_batches(metrics: Metrics) -> None:
    was_stopped_again_after_two_batches(metrics)
    metrics["twice"]["batches"] = ["x"]


def resumes_once_with_other_batches(metrics: Metrics) -> None:
    was_stopped_again_after_two_batches(metrics)
    metrics["once"]["batches"] = list("wz")


def has_equal_batches(metrics: Metrics) -> None:
    metrics["whole"]["batches"] = list("abcabc")
    metrics["resumed"]["batches"] = list("abc")


def averages_all_that_there_are(metrics: Metrics) -> None:
    averages = metrics["files"]["averages"]
    averages["model.pt.avg10"] = {**averages.pop("model.pt.avg2"), "members": [FILES]}


def averages_too_few(metrics: Metrics) -> None:
    averages = metrics["files"]["averages"]
    averages["model.pt.avg3"] = averages.pop("model.pt.avg2")


def averages_a_file_that_was_not_scored(metrics: Metrics) -> None:
    saves_before_any_validation(metrics)
    metrics["files"]["scores"]["loss"].pop(FILES[0])
    metrics["files"]["scores"]["acc"].pop(FILES[0])
    metrics["files"]["averages"]["model.pt.avg2"]["members"] = [[FILES[0], FILES[2]]]


def keeps_a_best_that_is_none(metrics: Metrics) -> None:
    metrics["files"]["same_as"]["model.pt.best"] = ["model.pt.ep9"]


def refuses_one_shape_alone(metrics: Metrics) -> None:
    """Of the width, and without saying why."""
    metrics["mismatch"][2] |= {"began": False, "failure": None, "left_out": []}


def drops_of_both_shapes(metrics: Metrics) -> None:
    for case in metrics["mismatch"]:
        case |= {"began": True, "left_out": metrics["mismatch"][0]["left_out"], "lost": ["encoder.weight"]}


def has_much_to_drop(metrics: Metrics) -> None:
    left_out = [{"name": f"encoder.{number}", "model": [2], "checkpoint": None} for number in range(25)]
    metrics["mismatch"][0] |= {"left_out": left_out, "line": "missing key: encoder.0"}


def tried_the_vocabulary_alone(metrics: Metrics) -> None:
    metrics["mismatch"] = metrics["mismatch"][:1]


def loads_an_average_of_another_name(metrics: Metrics) -> None:
    metrics["loading"]["average"]["equals"] = ["model.pt.ep2", "model.pt.avg10"]


def knows_no_tensor_of_what_it_loaded(metrics: Metrics) -> None:
    metrics["loading"]["folder"] |= {"equals": None, "differs": None}


def says_that_it_loads_the_base(metrics: Metrics) -> None:
    for name in ("average", "folder", "bare"):
        metrics["loading"][name] |= {"equals": ["the base"], "said": ["missing keys", "another line"]}


def says_that_it_loads_nothing(metrics: Metrics) -> None:
    for name in ("average", "folder", "bare"):
        metrics["loading"][name] |= {"equals": [], "said": ["error, init_param does not exist"], "differs": ["a", "b"]}


def loads_another_of_its_files(metrics: Metrics) -> None:
    """That its name begins alike does not make it the one that was saved last."""
    for name in ("folder", "bare"):
        metrics["loading"][name]["equals"] = ["model.pt.best", "model.pt.ep1"]


def loading_raises(metrics: Metrics) -> None:
    for name in ("average", "folder", "bare"):
        metrics["loading"][name] |= {"equals": None, "failure": {"reason": "no such file"}}


def refuses_what_it_should_drop(metrics: Metrics) -> None:
    metrics["mismatch"][0] |= {"began": False, "failure": {"reason": "size mismatch"}, "left_out": []}


def averaging_raises(metrics: Metrics) -> None:
    prunes_what_it_averages(metrics)
    place = "funasr/train_utils/average_nbest_models.py:average_checkpoints"
    metrics["recipe"]["failure"] = {"reason": "RuntimeError", "signature": f"RuntimeError@{place}"}


def the_recipe_breaks_off(metrics: Metrics) -> None:
    prunes_what_it_averages(metrics)
    metrics["recipe"]["failure"] = {"reason": "KeyError", "signature": "KeyError@funasr/bin/train.py:main"}


def says_that_it_cannot_average(metrics: Metrics) -> None:
    prunes_what_it_averages(metrics)
    metrics["recipe"]["said_of_averaging"] = ["No checkpoints found for averaging."]


def fails_at_the_first_stop(metrics: Metrics) -> None:
    metrics["once"]["batches"] = ["x"]


def nothing_was_seen(metrics: Metrics) -> None:
    metrics.clear()


SCENES: tuple[Plant, ...] = (
    *(has_an_optimizer_that_remembers_nothing, shows_no_weights_after_resuming, saves_where_nobody_can_watch),
    *(ranks_by_a_file_that_is_gone_and_by_a_default, validates_without_a_loss, keeps_a_best_that_was_not_compared),
    *(averages_equal_checkpoints, averages_a_file_that_nobody_saw),
    *(plant for plant, _ in FAULTS),
    *(resumes_with_an_error, resumes_within_with_an_error, goes_on_with_other_batches, breaks_off_before_it_saves),
    *(goes_on_with_batches_that_nobody_saw, takes_no_step_after_resuming, tells_no_losses),
    *(ends_with_other_weights, is_noisy, is_beyond_its_noise, offers_little, ranks_not_at_all),
    *(ranks_by_accuracy, takes_the_lowest_accuracy, one_validation_gave_no_accuracy),
    *(
        averages_the_first_without_ranking,
        scores_are_alike,
        says_that_it_loads_nothing,
        loading_raises,
        loads_another_of_its_files,
    ),
    *(refuses_what_it_should_drop, averaging_raises, the_recipe_breaks_off, says_that_it_cannot_average),
    *(
        was_stopped_before_the_first_batch,
        fails_at_the_first_stop,
        nothing_was_seen,
        does_not_rank_and_one_validation_gave_no_accuracy,
    ),
    *(one_checkpoint_was_not_compared, saves_before_any_validation, keeps_scores_of_files_that_are_gone),
    *(one_score_of_a_validation_is_missing, has_one_step_without_a_rate, takes_no_step_within),
    *(takes_several_steps_within, takes_a_step_too_many_within, was_stopped_again_after_two_batches),
    *(forgets_the_first_stop_after_two_batches, resumes_once_with_other_batches, has_equal_batches),
    *(averages_all_that_there_are, averages_too_few, averages_a_file_that_was_not_scored, keeps_a_best_that_is_none),
    *(refuses_one_shape_alone, drops_of_both_shapes, has_much_to_drop, tried_the_vocabulary_alone),
    *(loads_an_average_of_another_name, knows_no_tensor_of_what_it_loaded, says_that_it_loads_the_base),
)
ANSWERS = Path(__file__).with_name("checkpoint_answers.json")
"""Written by `python tests/test_rules_checkpoint.py`, and read by a person before it is committed."""


def told(plant: Plant | None = None) -> dict[str, Any]:
    """Every answer as JSON; of a fault those that differ from the sound release's."""
    metrics = sound()
    if plant is not None:
        plant(metrics)
    answers = {
        name: [question.status, question.message, *([question.example] if question.example else [])]
        for name, question in ask(metrics).items()
    }
    read: dict[str, Any] = json.loads(json.dumps(answers))
    return read if plant is None else {name: one for name, one in read.items() if one != told()[name]}


def test_the_answers_of_a_sound_release_say_what_was_seen() -> None:
    assert told() == json.loads(ANSWERS.read_text("utf-8"))["sound"]


@pytest.mark.parametrize("plant", SCENES, ids=lambda plant: plant.__name__)
def test_what_a_fault_changes_is_reported_in_these_words(plant: Plant) -> None:
    assert told(plant) == json.loads(ANSWERS.read_text("utf-8"))[plant.__name__]


def outcome_of(metrics: Metrics) -> Outcome:
    cell = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/checkpoint@train/cpu-fp32")
    return Outcome(cell=cell, status=Status.PASSED, reason="", metrics=metrics, evidence={"of": "the check"})


def test_an_outcome_passes_with_every_answer_in_it() -> None:
    settled = apply_checkpoint_rule(outcome_of(sound()))
    assert (settled.status, settled.failure, settled.evidence["of"]) == (Status.PASSED, None, "the check")
    assert len(settled.evidence[QUESTIONS]) == 18
    assert settled.evidence[QUESTIONS][0]["status"] is AnswerStatus.HOLDS


def test_an_outcome_fails_with_the_names_and_sentences_of_what_fails() -> None:
    metrics = sound()
    forgets_the_optimizer(metrics)
    settled = apply_checkpoint_rule(outcome_of(metrics))
    questions = ask(metrics)
    assert settled.status is Status.FAILED
    assert settled.failure is not None
    assert settled.failure.type == "CheckpointBroken"
    assert settled.failure.signature == "CheckpointBroken@resumes_optimizer+resumes_losses"
    assert (
        settled.reason
        == settled.failure.message
        == "; ".join(f"{name}: {questions[name].message}" for name in ("resumes_optimizer", "resumes_losses"))
    )
    assert settled.evidence["of"] == "the check"
    assert len(settled.evidence[QUESTIONS]) == 18


if __name__ == "__main__":
    answers = {"sound": told(), **{plant.__name__: told(plant) for plant in SCENES}}
    ANSWERS.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", "utf-8")
