"""What the process tree calls: `enter` once per release, `run` once per cell."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from harness.inside import adaptations, failures, release

CHECKS = {
    "import": "importing.check",
    "construct": "contract.construct",
    "loss_contract": "contract.loss_contract",
    "properties": "properties.check",
    "data": "data.check",
    "finetune": "finetune.check",
    "checkpoint": "checkpoint.check",
    "decode": "decode.check",
    "footprint": "footprint.measure",
    "trained_peak": "footprint.trained.peak",
}
"""Which function of `harness.inside` answers which check; its module is imported when it is asked.

`footprint` and `trained_peak` are no rungs of the ladder: `harness.estimate` asks for them."""

ON_THE_MODEL = ("construct", "loss_contract", "properties", "footprint")
"""Checks that need the model's own modules only; the others import the release whole."""


def enter(entering: Mapping[str, Any]) -> None:
    """Put a release on the path and import what its cells need, once for all of them.

    What does not import here fails again in each cell that asks for it, and is told as that cell's outcome.
    """
    overlay = entering["overlay"]
    if entering["whole"]:
        release.enter_wholly(overlay)
        return
    release.enter_partly(overlay, entering["version"])
    for pair in entering["components"]:
        with contextlib.suppress(Exception):
            release.import_components(overlay, [tuple(pair)])
    with contextlib.suppress(Exception):
        importlib.import_module("funasr.auto.auto_model")


def _answering(check: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    module, _, function = CHECKS[check].rpartition(".")
    answering: Callable[[Mapping[str, Any]], dict[str, Any]] = getattr(
        importlib.import_module(f"harness.inside.{module}"), function
    )
    return answering


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one cell's question.

    Returns:
        `status`, `reason`, `failure`, `metrics`, `evidence`, `adaptations`, as an outcome holds them.
    """
    overlay = request["release"]["overlay"]
    check = request["check"]
    for name in request.get("stack_adaptations", ()):
        adaptations.note(name)
    try:
        if check != "import":
            adaptations.apply(request["device"])
        if check in ON_THE_MODEL:
            if not release.is_entered(overlay):
                release.enter_partly(overlay, request["release"]["version"])
            if release.is_partial():
                adaptations.note(release.PARTIAL_IMPORT)
            release.import_components(overlay, [tuple(pair) for pair in request["components"]])
        answering = _answering(check)
        if request.get("trace") and check != "import":
            from harness.inside import tracing

            result = tracing.answer(request, answering)
        else:
            result = answering(request)
    except release.NotInRelease as absent:
        result = {"status": "skipped", "reason": str(absent)}
    except Exception as error:
        failure = failures.describe(error, overlay)
        kind, _, place = failure["signature"].partition("@")
        message = failure["message"] or "no message"
        result = {
            "status": failures.status_of(error, overlay),
            "reason": f"{kind} in {place}: {message}",
            "failure": failure,
        }
    complete: dict[str, Any] = {"failure": None, "metrics": {}, "evidence": {}}
    return {**complete, **result, "adaptations": adaptations.used()}
