"""The `properties` check: what is true of a variant's models whatever their shape, searched for a counter-example.

What each property says, where it comes from and what it does not say is told in docs/properties.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.inside import failures
from harness.inside.properties import (
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
from harness.inside.properties.searching import Findings, replay, search
from harness.inside.properties.subject import Property, Subject

EXAMPLES = 240
"""Drawn examples of a cell, over all its properties, unless the matrix says otherwise."""
SECONDS = 20.0
"""Of the cell's own processor time for all of them, unless the matrix says otherwise."""

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
    """Ask every property of the cell's variant in its release.

    Of `request["settings"]`: `examples`, `seconds`, `seed`, and `known`, the stored counter-example of a property by
    its name. A property whose stored counter-example still fails is not searched.
    """
    settings = {"examples": EXAMPLES, "seconds": SECONDS, "seed": request["seed"], **(request.get("settings") or {})}
    subject = _subject(request)
    findings = _ask_all(subject, settings)
    broken = sorted((each for each in findings if each.status in ("fails", "known")), key=lambda each: each.name)
    metrics = {
        "examples": sum(each.examples for each in findings),
        "examples_by_property": {each.name: each.examples for each in findings if each.examples},
        "seconds_by_property": {each.name: each.seconds for each in findings if each.examples},
    }
    result = {"status": "passed", "reason": "", "metrics": metrics, "evidence": _evidence(findings)}
    if not broken:
        return result
    message = f"{broken[0].name}: {broken[0].message}"
    failure = failures.finding("PropertyFails", "+".join(each.name for each in broken), message)
    return {**result, "status": "failed", "reason": message, "failure": failure}


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


def _ask_all(subject: Subject, settings: Mapping[str, Any]) -> list[Findings]:
    asked = [each for each in PROPERTIES if not each.applies(subject)]
    known = settings.get("known") or {}
    begun, examples, parts = time.process_time(), settings["examples"], sum(each.share for each in asked)
    findings = []
    for each in PROPERTIES:
        reason = each.applies(subject)
        if reason:
            findings.append(Findings(name=each.name, status="does_not_apply", message=reason))
            continue
        # What one property leaves of its examples and of its time is there for those after it.
        count = max(1, -(-examples * each.share // parts))
        left = begun + settings["seconds"] - time.process_time()
        ends = time.process_time() + left * each.share / parts
        found = replay(each, subject, known[each.name]) if each.name in known else None
        found = found or search(each, subject, examples=count, ends=ends, seed=settings["seed"])
        findings.append(found)
        examples, parts = max(0, examples - found.examples), parts - each.share
    return findings


def _evidence(findings: list[Findings]) -> dict[str, Any]:
    shown = ("name", "status", "examples", "message")
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
