"""What the process tree calls: `enter` once per release, `run` once per cell."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.checks import Check, named_object
from harness.worker.process import failures
from harness.worker.release import entry, findings, registry, shims

FURTHER = {
    "properties.example": "checks.properties.check_example",
    "footprint": "record.memory_profile.measure",
    "trained_peak": "record.memory_profile.trained.peak",
}
"""What is measured besides the checks of a matrix: one example of a property, and what a prediction of memory needs."""


def _on_the_model(check: str) -> bool:
    return check == "footprint" or (check not in FURTHER and Check(check).facts.on_the_model)


def enter(entering: Mapping[str, Any]) -> None:
    """Put a release on the path and import what its cells need, once for all of them.

    What does not import here fails again in each cell that asks for it, and is told as that cell's outcome.
    `below` names the results of the cells that have to pass first: where the `import` check is among them, its order of
    registrations is followed.
    """
    overlay = entering["overlay"]
    entry.remember(overlay, _full_import(entering.get("below", ())))
    if entering["whole"]:
        entry.import_all(overlay)
        return
    entry.import_components_only(overlay, entering["version"])
    entry.import_what_is_there(overlay, [tuple(pair) for pair in entering["components"]])
    with contextlib.suppress(Exception):
        importlib.import_module("funasr.auto.auto_model")


def _full_import(results: Sequence[str]) -> entry.FullImport:
    """What the `import` check saw, of the results of cells; empty where it has not run, or saw nothing."""
    for path in results:
        with contextlib.suppress(OSError, ValueError, KeyError):
            seen = json.loads(Path(path).read_text(encoding="utf-8"))["evidence"][registry.EVIDENCE]
            return entry.FullImport(tuple((table, name, module) for table, name, module, *_ in seen["registrations"]))
    return entry.FullImport(())


def _enter_for(components: Sequence[tuple[str, str]], overlay: str, version: str) -> None:
    """Have the modules of these components imported, in part if that leaves the classes of a full import."""
    if not entry.is_imported(overlay):
        entry.import_components_only(overlay, version)
    if entry.is_partial() and entry.depends_on_order(overlay, components):
        try:
            entry.import_all(overlay)
        except Exception:
            # There is no full import to be like.
            entry.leave()
            entry.import_components_only(overlay, version)
    if entry.is_partial():
        shims.note(shims.PARTIAL_IMPORT)
    entry.import_components(overlay, components)


def _answering(check: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    named = FURTHER[check] if check in FURTHER else Check(check).facts.measure
    answering: Callable[[Mapping[str, Any]], dict[str, Any]] = named_object("harness.worker", named)
    return answering


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one cell's question.

    Returns:
        `status`, `reason`, `failure`, `metrics`, `evidence`, `shims`, as an outcome holds them.
    """
    overlay = request["release"]["overlay"]
    check = request["check"]
    components = [tuple(pair) for pair in request.get("components", ())]
    registry.watch(components)
    findings.clear()
    for name in request.get("environment_shims", ()):
        shims.note(name)
    try:
        if check != "import":
            shims.apply(request["device"])
        if _on_the_model(check):
            _enter_for(components, overlay, request["release"]["version"])
        one_example = "property" in request.get("trace", {})
        answering = _answering("properties.example" if one_example else check)
        if request.get("trace") and check != "import":
            from harness.worker.record import tracing

            result = tracing.answer(request, answering)
        else:
            result = answering(request)
    except entry.NotInRelease as absent:
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
    return {**complete, "evidence": _with_what_was_seen(complete), "shims": shims.used()}


def _with_what_was_seen(result: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence, with the classes that the check ran on, and all that it found besides."""
    evidence = dict(result["evidence"])
    if classes := registry.chosen():
        evidence[registry.CHOSEN] = classes
    if result["status"] != "skipped":
        findings.add(evidence.get(findings.EVIDENCE, ()))
        evidence[findings.EVIDENCE] = findings.noted()
    return evidence
