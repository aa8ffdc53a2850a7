"""The `properties` check: what is true of a variant's models whatever their shape, searched for a counter-example.

Each property, its source and its limits: docs/checks.md#properties.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.worker.checks.properties import (
    causality,
    gradients,
    labels,
    lengths,
    loss,
    padding,
    repeatability,
    sampler,
    symmetry,
)
from harness.worker.checks.properties.drawing import Example
from harness.worker.checks.properties.running import Violation
from harness.worker.checks.properties.searching import Findings, judge, never, replay, search
from harness.worker.checks.properties.subject import Property, Subject
from harness.worker.process import failures

EXAMPLES = 300
"""Drawn examples of a cell, over all its properties, unless the matrix says otherwise."""
SEARCHING = 0.9
"""The share of the cell's time limit after which no further example is begun: the rest is for the one in progress and
for the answer, which says how far each search came."""
STOPPED = "stopped_by_the_time_limit"
"""The evidence that names the properties whose search came to no end; the judge reads it."""

DRAWN = frozenset({"speech", "speech_lengths", "text", "text_lengths"})
"""What an example has of a model's inputs."""

PROPERTIES: tuple[Property, ...] = (
    loss.CLASSES_FIT,
    loss.LOSS_IS_ITS_DEFINITION,
    loss.PADDING_IS_LEFT_OUT,
    loss.PARTS_ADD_UP,
    symmetry.BATCH_ORDER,
    symmetry.VOCABULARY_ORDER,
    padding.PADDED_FRAMES,
    padding.COMPANY,
    padding.PREDICTOR_ALONE,
    labels.LABELS_OUTSIDE,
    lengths.LENGTHS_AGREE,
    lengths.ONE_TARGET,
    lengths.PREDICTOR_FIRES,
    lengths.EVERY_TOKEN_SEES,
    sampler.SAMPLER,
    gradients.GRADIENTS_REACH,
    gradients.FROZEN,
    causality.ENCODER_CAUSAL,
    causality.DECODER_CAUSAL,
    causality.FULL_CONTEXT,
    repeatability.SAME_SEED,
    repeatability.EVALUATION_AS_TRAINING,
    repeatability.EVALUATION_DRAWS_NOTHING,
    repeatability.CTC_DRAWS_NOTHING,
)


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Search every property of the cell's variant in its release.

    Of `request["settings"]`: `examples`, `seed`, `timeout_seconds` (the cell's own limit), and `known`, the stored
    counter-example of a property by its name. A property whose stored counter-example still fails is not searched.
    """
    settings = {"examples": EXAMPLES, "seed": request["seed"], **(request.get("settings") or {})}
    subject = _subject(request)
    if reason := _not_for(subject, request.get("contract", {}).get("inputs", ())):
        return {"status": "skipped", "reason": reason}
    findings = search_all(subject, settings, is_over=_limit(settings.get("timeout_seconds")))
    broken = sorted((each for each in findings if each.status in ("fails", "known")), key=lambda each: each.name)
    metrics = {
        "examples": sum(each.examples for each in findings),
        "examples_by_property": {each.name: each.examples for each in findings if each.examples},
        "seconds_by_property": {each.name: each.seconds for each in findings if each.examples},
    }
    result: dict[str, Any] = {"status": "passed", "reason": "", "metrics": metrics, "evidence": _evidence(findings)}
    if stopped := [each for each in findings if each.stopped]:
        told = _timed_out(stopped, broken, settings["timeout_seconds"])
        return {**result, **told, "evidence": {**result["evidence"], STOPPED: [each.name for each in stopped]}}
    if not broken:
        return result
    message = f"{broken[0].name}: {broken[0].message}"
    failure = failures.finding("PropertyFails", "+".join(each.name for each in broken), message)
    return {**result, "status": "failed", "reason": message, "failure": failure}


def _not_for(subject: Subject, inputs: Iterable[str]) -> str:
    """Why the examples say nothing of an architecture: a sound model would fail on them. Empty when they do."""
    model = subject.base["model"]
    if not subject.has_predictor:
        return f"the examples are drawn for models with a CIF predictor, and {model} has none"
    beyond = sorted(set(inputs) - DRAWN)
    return f"the examples have no {' and '.join(beyond)}, which {model} takes" if beyond else ""


def _subject(request: Mapping[str, Any]) -> Subject:
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load(f"{request['model_folder']}/config.yaml"), resolve=True)
    return Subject(
        base=config,
        overlay=request["release"]["overlay"],
        groups=request["groups"],
        vocab_size=request["vocab_size"],
        hidden_size=request["hidden_size"],
    )


def _limit(seconds: float | None) -> Callable[[], bool]:
    """Whether the cell's time limit is about to be met."""
    if seconds is None:
        return never
    ends = time.monotonic() + SEARCHING * seconds
    return lambda: time.monotonic() > ends


def search_all(subject: Subject, settings: Mapping[str, Any], *, is_over: Callable[[], bool] = never) -> list[Findings]:
    """The findings of each property, in the order of `PROPERTIES`.

    How many examples a property draws follows from its share alone, not from what the others found or how long they
    took. Stored counter-examples come first, so that no limit hides what is known to fail.
    """
    reasons = {each.name: each.applies(subject) for each in PROPERTIES}
    asked = [each for each in PROPERTIES if not reasons[each.name]]
    parts = sum(each.share for each in asked)
    known = settings.get("known") or {}
    found = {each.name: replay(each, subject, known[each.name]) for each in asked if each.name in known}
    return [
        Findings(name=each.name, status="does_not_apply", message=reasons[each.name])
        if reasons[each.name]
        else found.get(each.name)
        or search(
            each,
            subject,
            examples=-(-settings["examples"] * each.share // parts),
            seed=settings["seed"],
            is_over=is_over,
        )
        for each in PROPERTIES
    ]


def _timed_out(stopped: Sequence[Findings], broken: Sequence[Findings], limit: float) -> dict[str, Any]:
    """An incomplete search is no answer, whatever it found: what fails might be more than this."""
    first, *later = stopped
    drawn = f"{first.name} drew {first.examples} of {first.planned} examples"
    reason = f"the time limit of {limit:g} s stopped the search: {drawn}"
    if later:
        reason += "".join(f", {each.name} {each.examples} of {each.planned}" for each in later)
    if broken:
        reason += f"; failed by then: {', '.join(each.name for each in broken)}"
    return {"status": "timed_out", "reason": reason, "failure": failures.finding("Timeout", first.name, reason)}


def _evidence(findings: list[Findings]) -> dict[str, Any]:
    shown = ("name", "status", "examples", "planned", "message")
    evidence: dict[str, Any] = {
        "properties": [{key: value for key, value in asdict(each).items() if key in shown} for each in findings],
        "counterexamples": [
            {"property": each.name, "config": each.counterexample, "message": each.message}
            for each in findings
            if each.counterexample
        ],
    }
    accepted = [label for each in findings for label in each.labels]
    return {**evidence, "accepted_labels": accepted} if accepted else evidence


def check_example(request: Mapping[str, Any]) -> dict[str, Any]:
    """One property, which `trace` names, with the example beside it."""
    wish = request["trace"]
    asked = next((one for one in PROPERTIES if one.name == wish["property"]), None)
    if asked is None:
        return {"status": "errored", "reason": f"there is no property {wish['property']!r}"}
    subject = _subject(request)
    verdict = judge(asked, Example.parse(wish["example"]), subject)
    if not isinstance(verdict, Violation):
        return {"status": "passed", "reason": ""}
    message = f"{asked.name}: {verdict}"
    return {
        "status": "failed",
        "reason": message,
        "failure": failures.finding("PropertyFails", asked.name, message),
    }
