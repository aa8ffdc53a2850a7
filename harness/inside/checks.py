"""What the process tree calls: `enter` once per release, `run` once per cell."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.inside import adaptations, failures, findings, registry, release

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
    `below` names the results of the cells that have to pass first: where the `import` check is among them, its order of
    registrations is followed.
    """
    overlay = entering["overlay"]
    release.remember(overlay, _full_import(entering.get("below", ())))
    if entering["whole"]:
        release.enter_wholly(overlay)
        return
    release.enter_partly(overlay, entering["version"])
    release.import_what_is_there(overlay, [tuple(pair) for pair in entering["components"]])
    with contextlib.suppress(Exception):
        importlib.import_module("funasr.auto.auto_model")


def _full_import(results: Sequence[str]) -> release.FullImport:
    """What the `import` check saw, of the results of cells; empty where it has not run, or saw nothing."""
    for path in results:
        with contextlib.suppress(OSError, ValueError, KeyError):
            seen = json.loads(Path(path).read_text(encoding="utf-8"))["evidence"][registry.EVIDENCE]
            return release.FullImport(tuple((table, name, module) for table, name, module, *_ in seen["registrations"]))
    return release.FullImport(())


def _enter_for(components: Sequence[tuple[str, str]], overlay: str, version: str) -> None:
    """Have the modules of these components imported, in part if that leaves the classes of a full import."""
    if not release.is_entered(overlay):
        release.enter_partly(overlay, version)
    if release.is_partial() and release.depends_on_order(overlay, components):
        try:
            release.enter_wholly(overlay)
        except Exception:
            # There is no full import to be like.
            release.leave()
            release.enter_partly(overlay, version)
    if release.is_partial():
        adaptations.note(adaptations.PARTIAL_IMPORT)
    release.import_components(overlay, components)


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
    components = [tuple(pair) for pair in request.get("components", ())]
    registry.watch(components)
    findings.clear()
    for name in request.get("stack_adaptations", ()):
        adaptations.note(name)
    try:
        if check != "import":
            adaptations.apply(request["device"])
        if check in ON_THE_MODEL:
            _enter_for(components, overlay, request["release"]["version"])
        answering = _answering(check)
        if request.get("trace") and check != "import":
            from harness.inside import tracing

            result = tracing.answer(request, answering)
        else:
            result = answering(request)
    except release.NotInRelease as absent:
        result = {"status": "skipped", "reason": str(absent), "evidence": {"absent": absent.name}}
    except Exception as error:
        failure = failures.describe(error, overlay)
        kind, _, place = failure["signature"].partition("@")
        message = failure["message"] or "no message"
        result = {
            "status": failures.status_of(error, overlay),
            "reason": f"{kind} in {place}: {message}",
            "failure": failure,
        }
    complete: dict[str, Any] = {"failure": None, "metrics": {}, "evidence": {}, **result}
    return {**complete, "evidence": _with_what_was_seen(complete), "adaptations": adaptations.used()}


def _with_what_was_seen(result: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence, with the classes that the check ran on, and all that it found besides."""
    evidence = dict(result["evidence"])
    if classes := registry.chosen():
        evidence[registry.CHOSEN] = classes
    if result["status"] != "skipped":
        findings.add(evidence.get(findings.EVIDENCE, ()))
        evidence[findings.EVIDENCE] = findings.noted()
    return evidence
