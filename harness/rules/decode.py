"""Does the model give back what it was trained on? The character error rate, and whether it proves anything.

The rate is jiwer's `cer`: insertions, deletions and substitutions of characters over the characters of the references
(Levenshtein distance), all utterances together. White space does not count: Mandarin is written without.

The proof has two sides. The trained model's rate must not lie above the stated bound, and the same model untrained, put
through the same inference, must be at `UNTRAINED_LEAST` or above. An inference that gave the text back without having
learned it would show there, and so would a bound that nothing can miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence.decode import DecodeEvidence, DecodeMetrics
from harness.core.evidence.verdicts import DecodedUtterance, DecodeVerdict
from harness.core.numbers import number
from harness.rules.recipe import PlannedTraining, departure

DECODING = "decoding"
"""The key in the evidence of a `decode` cell that holds the verdict's figures."""

UNTRAINED_LEAST = 0.8
"""A model that guesses among thousands of characters has nearly all of them wrong, or gives nothing: rates from 1 up.
Measured: untrained models of every release tried are at 1.0 and above."""


def judge_decode(metrics: DecodeMetrics) -> DecodeVerdict:
    """Apply the rule at the head of this module to the metrics of a `decode` cell."""
    references, allowed = metrics.references or (), number(metrics.error_rate_allowed)
    hypotheses, untrained = metrics.hypotheses or (), metrics.untrained_hypotheses or ()
    rate, idle = error_rate(references, hypotheses), error_rate(references, untrained)
    reason_by_condition = {
        "weights": _about_weights(metrics),
        "error_rate": _about_rate(rate, allowed),
        "untrained": _about_untrained(idle),
    }
    other = _departure(metrics) if reason_by_condition["error_rate"] and rate is not None else ""
    if other:
        reason_by_condition["error_rate"] = ""
    keys = metrics.keys or [str(place) for place, _ in enumerate(references, 1)]
    return DecodeVerdict(
        passed=not any(reason_by_condition.values()),
        proves=not reason_by_condition["untrained"],
        unmet=tuple(name for name, reason in reason_by_condition.items() if reason),
        reasons=tuple(reason for reason in reason_by_condition.values() if reason),
        error_rate=rate,
        untrained_error_rate=idle,
        allowed=allowed,
        utterances=tuple(
            DecodedUtterance(
                key=key,
                reference=reference,
                hypothesis=hypothesis,
                error_rate=error_rate([reference], [hypothesis]) or 0.0,
            )
            for key, reference, hypothesis in zip(keys, references, hypotheses, strict=False)
        ),
        not_observed=other,
    )


def _departure(metrics: DecodeMetrics) -> str:
    schedule = metrics.schedule
    if schedule is None:
        return ""
    # The schedule is the check's own whatever the configuration says, and without steps it is not compared.
    plan = PlannedTraining(
        learning_rate=schedule.learning_rate, warmup_steps=schedule.warmup_steps, steps=metrics.steps
    )
    return departure(metrics.config_in_force, plan, schedule)


def error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float | None:
    """The character error rate over all utterances; None where there is nothing to compare, or not as many."""
    import jiwer

    expected, decoded = ([_without_space(text) for text in texts] for texts in (references, hypotheses))
    if not expected or len(expected) != len(decoded) or not all(expected):
        return None
    return float(jiwer.cer(expected, decoded))


def _without_space(text: str) -> str:
    return "".join(text.split())


def _about_weights(metrics: DecodeMetrics) -> str:
    count, tensors = metrics.weights_differ_count, metrics.weights_tensors
    if count is None or not tensors:
        return "It is not known which weights were in memory after loading."
    if count:
        names = ", ".join((metrics.weights_differ or ())[:3])
        return f"After loading, {count} of {tensors} tensors are not those that the training ended with: {names}."
    return ""


def _about_rate(rate: float | None, allowed: float | None) -> str:
    if rate is None or allowed is None:
        return "There is no text to compare."
    if not rate <= allowed:
        return f"The character error rate is {rate:.3f}; {allowed:.3f} is allowed."
    return ""


def _about_untrained(rate: float | None) -> str:
    if rate is None:
        return "It is not known what the untrained model gives."
    if rate < UNTRAINED_LEAST:
        return (
            f"The untrained model already has a character error rate of {rate:.3f}, so the trained one proves nothing."
        )
    return ""


def apply_decode_rule(outcome: Outcome) -> Outcome:
    """The outcome with the verdict in it; it fails when the text did not come back, and proves nothing when the
    untrained model gives it too."""
    verdict = judge_decode(outcome.metrics_as(DecodeMetrics) or DecodeMetrics())
    evidence = {**outcome.evidence, DECODING: asdict(verdict)}
    if verdict.passed:
        return replace(outcome, evidence=evidence)
    reason = " ".join(verdict.reasons)
    if "weights" in verdict.unmet:
        loaded = outcome.common
        place = "folder" if isinstance(loaded, DecodeEvidence) and loaded.loaded_as == "folder" else "config"
        failure = Failure(type="WeightsDiffer", message=reason, signature=f"WeightsDiffer@{place}")
    else:
        failure = Failure(type="NotDecoded", message=reason, signature="NotDecoded@" + "+".join(verdict.unmet))
    status = Status.FAILED if verdict.proves else Status.ERRORED
    return replace(outcome, status=status, reason=reason, failure=failure, evidence=evidence)
