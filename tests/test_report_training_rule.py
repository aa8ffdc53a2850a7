"""The training rule's findings in words, read from what the judge itself left."""

from __future__ import annotations

import json

from training_scene import heard, invariants, metrics, seed_training

from harness.core.cells import Cell, Outcome, Status
from harness.core.evidence.training import TrainingEvidence
from harness.core.evidence.verdicts import TrainingVerdict
from harness.report.training_rule import Judgement
from harness.rules.apply import apply_rules
from harness.rules.convergence import apply_convergence


def judged(release: str = "1.4.16", **changed: object) -> Outcome:
    cell = Cell.parse(f"{release}/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")
    trainings = [seed_training(seed) for seed in range(2)]
    settled = apply_rules(Outcome(cell=cell, status=Status.PASSED, reason="", metrics=metrics(trainings) | changed))
    return Outcome.from_json(json.loads(json.dumps(settled.to_json())))


def judgement_of(outcome: Outcome) -> Judgement:
    assert outcome.training_evidence is not None
    return Judgement.of(outcome.training_evidence)


def test_each_seed_is_reported_against_the_constant_prediction() -> None:
    judgement = judgement_of(judged(trainings=[seed_training(0), seed_training(1, hearing=heard())]))
    assert judgement.learned == (
        "seed 0: loss 0.20 of a constant prediction's, 80% right (27% without hearing), "
        "hearing not observed (the harness that recorded this training did not look); "
        "seed 1: loss 0.20 of a constant prediction's, 80% right (27% without hearing), "
        "evaluation mode: 100% right with its own speech, 17% with another's, "
        "training mode: 83% right with its own speech, 17% with another's"
    )
    assert judgement.trend == "Page's trend test over the seeds: p = 1.9e-06"


def test_invariants_are_listed_by_name() -> None:
    given = judged(invariants=invariants(not_in_optimizer=["a"], log_lines=0))
    judgement = judgement_of(given)
    assert judgement.broken == ("optimizer",)
    assert judgement.unobserved == ("log", "accumulation", "ranks", "configuration", "frozen")
    assert judgement.invariants.startswith("kept: start, epochs, batches, schedule, moving, clipping")
    assert "; broken: optimizer; not observed: log, accumulation, ranks" in judgement.invariants


def test_a_comparison_is_reported_with_its_noise() -> None:
    _, after = apply_convergence([judged("1.4.15"), judged("1.4.16")])
    assert judgement_of(after).convergence == "bit-identical curves with 1.4.15"
    other = judged(
        "1.4.16", trainings=[seed_training(seed, (2.4, 1.3, 0.6, 0.4, 0.3, 0.1 + seed / 5)) for seed in (0, 1)]
    )
    _, after = apply_convergence([judged("1.4.15"), other])
    assert judgement_of(after).convergence.startswith(
        "+0.000 of a constant prediction's loss compared with 1.4.15, where ±"
    )


def test_what_was_not_judged_is_empty() -> None:
    judgement = Judgement.of(TrainingEvidence())
    assert (judgement.learned, judgement.trend, judgement.invariants, judgement.convergence) == ("", "", "", "")


def test_what_the_configuration_excuses_is_reported_with_its_reason() -> None:
    why = "the configuration freezes 30 tensors at random values"
    verdict = TrainingVerdict(not_observed={"unigram": why, "hearing": why, "steps": "too few"})
    assert Judgement.of(TrainingEvidence(training=verdict)).not_observed == f"unigram, hearing: {why}; steps: too few"
    assert Judgement.of(TrainingEvidence(training=TrainingVerdict())).not_observed == ""
