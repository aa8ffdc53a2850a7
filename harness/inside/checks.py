"""What the process tree calls: `enter` once per release, `run` once per cell."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from harness.inside import adaptations, contract, failures, finetune, importing, release

CHECKS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "import": importing.check,
    "construct": contract.construct,
    "loss_contract": contract.loss_contract,
    "finetune": finetune.check,
}


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
        if check in ("construct", "loss_contract"):
            if not release.is_entered(overlay):
                release.enter_partly(overlay, request["release"]["version"])
            if release.is_partial():
                adaptations.note(release.PARTIAL_IMPORT)
            release.import_components(overlay, [tuple(pair) for pair in request["components"]])
        result = CHECKS[check](request)
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
