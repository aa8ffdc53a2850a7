"""What the process tree calls: `enter` once per release, `run` once per cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.inside import adaptations, contract, failures, finetune, importing, release

_entered: dict[str, BaseException | None] = {}

CHECKS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "import": importing.check,
    "construct": contract.construct,
    "loss_contract": contract.loss_contract,
    "finetune": finetune.check,
}


def enter(entering: Mapping[str, Any]) -> None:
    """Put a release on the path and import what its cells need, once for all of them.

    What goes wrong here is kept: each cell of the release then gives it as its own outcome.
    """
    overlay = entering["overlay"]
    error: BaseException | None = None
    try:
        release.enter_partly(overlay, entering["version"])
        release.import_components(overlay, [tuple(pair) for pair in entering["components"]])
        import funasr.auto.auto_model  # noqa: F401
    except Exception as caught:
        error = caught
    _entered[overlay] = error


def _raise_if_any(error: BaseException | None) -> None:
    if error is not None:
        raise error


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
            adaptations.note(release.PARTIAL_IMPORT)
            if overlay not in _entered:
                enter(request["release"])
            _raise_if_any(_entered[overlay])
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
