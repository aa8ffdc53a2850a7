"""The `properties` check: properties of a variant's models at any size, searched for counter-examples.

Each property and its limits: docs/checks.md#properties.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.worker.checks.properties import dependence, invariance, lengths, loss, targets
from harness.worker.checks.properties.examples import Example
from harness.worker.checks.properties.property import ModelUnderTest, Property, Violation
from harness.worker.checks.properties.searching import Findings, evaluate, never, replay, search
from harness.worker.process import failures
from harness.worker.release import model

EXAMPLES = 300
"""Number of examples of a cell over all its properties, unless the matrix sets another."""
SEARCHING = 0.9
"""The share of the cell's time limit after which no further example starts. The rest is for the current example and for
the result, which states the progress of each search."""
STOPPED = "stopped_by_the_time_limit"
"""Evidence: names of the properties whose search did not finish; the rules read it."""

DRAWN = frozenset({"speech", "speech_lengths", "text", "text_lengths"})
"""The model inputs that an example has."""

PROPERTIES: tuple[Property, ...] = (
    loss.CLASSES_FIT,
    loss.LOSS_IS_ITS_DEFINITION,
    loss.PADDING_IS_LEFT_OUT,
    loss.PARTS_ADD_UP,
    invariance.BATCH_PERMUTATION,
    invariance.VOCABULARY_PERMUTATION,
    invariance.PADDING_INVARIANCE,
    invariance.BATCH_INVARIANCE,
    invariance.PREDICTOR_BATCH_INVARIANCE,
    targets.LABELS_OUTSIDE,
    lengths.LENGTHS_AGREE,
    lengths.ONE_TARGET,
    lengths.PREDICTOR_FIRES,
    lengths.EVERY_TOKEN_SEES,
    targets.SAMPLER,
    dependence.GRADIENTS_REACH,
    dependence.FROZEN,
    dependence.ENCODER_CAUSAL,
    dependence.DECODER_CAUSAL,
    dependence.FULL_CONTEXT,
    invariance.SAME_SEED,
    invariance.EVALUATION_AS_TRAINING,
    invariance.EVALUATION_DRAWS_NOTHING,
    invariance.CTC_DRAWS_NOTHING,
)


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Search for a counter-example of each property that applies to the cell's variant.

    Of `request["settings"]`: `examples`, `seed`, `timeout_seconds` (the cell's own limit), and `known`, the saved
    counter-example of a property by its name. A property whose saved counter-example still fails is not searched.
    """
    settings = {"examples": EXAMPLES, "seed": request["seed"], **(request.get("settings") or {})}
    tested = model_under_test(request)
    if reason := _not_for(tested, request.get("contract", {}).get("inputs", ())):
        return {"status": "skipped", "reason": reason}
    findings = search_all(tested, settings, is_over=_limit(settings.get("timeout_seconds")))
    broken = sorted(
        (result for result in findings if result.status in ("fails", "known")), key=lambda result: result.name
    )
    metrics = {
        "examples": sum(result.examples for result in findings),
        "examples_by_property": {result.name: result.examples for result in findings if result.examples},
        "seconds_by_property": {result.name: result.seconds for result in findings if result.examples},
    }
    result: dict[str, Any] = {"status": "passed", "reason": "", "metrics": metrics, "evidence": _evidence(findings)}
    if stopped := [result for result in findings if result.stopped]:
        ending = _timed_out(stopped, broken, settings["timeout_seconds"])
        return {**result, **ending, "evidence": {**result["evidence"], STOPPED: [result.name for result in stopped]}}
    if not broken:
        return result
    message = f"{broken[0].name}: {broken[0].message}"
    failure = failures.finding("PropertyFails", "+".join(result.name for result in broken), message)
    return {**result, "status": "failed", "reason": message, "failure": failure}


def _not_for(tested: ModelUnderTest, inputs: Iterable[str]) -> str:
    """Why the examples do not fit an architecture, so that a sound model would fail on them; empty if they fit."""
    name = tested.base["model"]
    if not tested.has_predictor:
        return f"the examples are drawn for models with a CIF predictor, and {name} has none"
    beyond = sorted(set(inputs) - DRAWN)
    return f"the examples have no {' and '.join(beyond)}, which {name} takes" if beyond else ""


def model_under_test(request: Mapping[str, Any]) -> ModelUnderTest:
    return ModelUnderTest(
        base=model.read_config(request["model_folder"]),
        install_dir=request["release"]["install_dir"],
        groups=request["groups"],
        vocab_size=request["vocab_size"],
        hidden_size=request["hidden_size"],
    )


def _limit(seconds: float | None) -> Callable[[], bool]:
    """A function that returns whether the cell's time limit is close."""
    if seconds is None:
        return never
    ends = time.monotonic() + SEARCHING * seconds
    return lambda: time.monotonic() > ends


def search_all(
    tested: ModelUnderTest, settings: Mapping[str, Any], *, is_over: Callable[[], bool] = never
) -> list[Findings]:
    """The findings of each property, in the order of `PROPERTIES`.

    The number of examples of a property follows from its share alone, not from other findings or from durations. Saved
    counter-examples come first, so that no time limit hides a known failure.
    """
    reasons = {prop.name: prop.applies(tested) for prop in PROPERTIES}
    chosen = [prop for prop in PROPERTIES if not reasons[prop.name]]
    parts = sum(prop.share for prop in chosen)
    known = settings.get("known") or {}
    replayed = {prop.name: replay(prop, tested, known[prop.name]) for prop in chosen if prop.name in known}
    return [
        Findings(name=prop.name, status="does_not_apply", message=reasons[prop.name])
        if reasons[prop.name]
        else replayed.get(prop.name)
        or search(
            prop,
            tested,
            examples=-(-settings["examples"] * prop.share // parts),
            seed=settings["seed"],
            is_over=is_over,
        )
        for prop in PROPERTIES
    ]


def _timed_out(stopped: Sequence[Findings], broken: Sequence[Findings], limit: float) -> dict[str, Any]:
    """An incomplete search decides nothing, whatever it found: more properties might fail."""
    first, *later = stopped
    drawn = f"{first.name} drew {first.examples} of {first.planned} examples"
    reason = f"the time limit of {limit:g} s stopped the search: {drawn}"
    if later:
        reason += "".join(f", {result.name} {result.examples} of {result.planned}" for result in later)
    if broken:
        reason += f"; failed by then: {', '.join(result.name for result in broken)}"
    return {"status": "timed_out", "reason": reason, "failure": failures.finding("Timeout", first.name, reason)}


def _evidence(findings: list[Findings]) -> dict[str, Any]:
    shown = ("name", "status", "examples", "planned", "message")
    evidence: dict[str, Any] = {
        "properties": [{key: value for key, value in asdict(result).items() if key in shown} for result in findings],
        "counterexamples": [
            {"property": result.name, "config": result.counterexample, "message": result.message}
            for result in findings
            if result.counterexample
        ],
    }
    accepted = [label for result in findings for label in result.labels]
    return {**evidence, "accepted_labels": accepted} if accepted else evidence


def check_example(request: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate the one property and example that `trace` names."""
    trace_options = request["trace"]
    chosen = next((prop for prop in PROPERTIES if prop.name == trace_options["property"]), None)
    if chosen is None:
        return {"status": "errored", "reason": f"there is no property {trace_options['property']!r}"}
    tested = model_under_test(request)
    verdict = evaluate(chosen, Example.parse(trace_options["example"]), tested)
    if not isinstance(verdict, Violation):
        return {"status": "passed", "reason": ""}
    message = f"{chosen.name}: {verdict}"
    return {
        "status": "failed",
        "reason": message,
        "failure": failures.finding("PropertyFails", chosen.name, message),
    }
