"""What the process tree calls: `enter` once per release, `run` once per cell."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core.checks import Check, named_object
from harness.worker.record import code_used
from harness.worker.release import findings, importer, registry, shims

FURTHER = {
    "properties.example": "checks.properties.check_example",
    "registrations": "checks.importing.registrations",
    "footprint": "record.memory_profile.measure",
    "trained_peak": "record.memory_profile.training_steps.trained_peak",
    "preflight.rows": "preflight.rows.measure",
    "preflight.dry_run": "preflight.dry_run.measure",
    "preflight.keys_read": "preflight.keys_read.measure",
    "preflight.tensors": "preflight.tensors.measure",
}
"""Functions of `harness.worker` that are not checks of a matrix: one example of a property, the order of a release's
registrations, and measurements for memory prediction (`harness.performance.prediction`)."""


def _on_the_model(check: str) -> bool:
    return check == "footprint" or (check not in FURTHER and Check(check).facts.on_the_model)


def enter(entering: Mapping[str, Any]) -> None:
    """Put a release on the path and import what its cells need, once for all of them.

    An import that fails here fails again in each cell that needs it, and decides that cell's outcome. `below` has the
    results of the cells that must pass first: if the `import` check is among them, its order of registrations is used.
    """
    install_dir = entering["install_dir"]
    if entering.get("records_code"):
        code_used.begin(install_dir)
    order = tuple(map(tuple, entering.get("order", ())))
    importer.remember(install_dir, importer.FullImport(order) if order else _full_import(entering.get("below", ())))
    if entering["whole"]:
        importer.import_all(install_dir)
        return
    importer.import_components_only(install_dir, entering["version"])
    importer.import_available_components(install_dir, [tuple(pair) for pair in entering["components"]])
    with contextlib.suppress(Exception):
        importlib.import_module("funasr.auto.auto_model")


def _full_import(results: Sequence[Mapping[str, Any]]) -> importer.FullImport:
    """What the `import` check saw, from the results of cells; empty if it has not run, or saw nothing."""
    for result in results:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            recorded = result["evidence"][registry.EVIDENCE]
            return importer.FullImport(
                tuple((table, name, module) for table, name, module, *_ in recorded["registrations"])
            )
    return importer.FullImport(())


def import_for(components: Sequence[tuple[str, str]], install_dir: str, version: str) -> None:
    """Import the modules of these components; import the release partially if that leaves a full import's classes."""
    if not importer.is_imported(install_dir):
        importer.import_components_only(install_dir, version)
    if importer.is_partial() and importer.depends_on_order(install_dir, components):
        try:
            importer.import_all(install_dir)
        except Exception:
            # A full import is not possible.
            importer.unload()
            importer.import_components_only(install_dir, version)
    if importer.is_partial():
        shims.note(shims.PARTIAL_IMPORT)
    importer.import_components(install_dir, components)


def _check_function(check: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    named = FURTHER[check] if check in FURTHER else Check(check).facts.measure
    answering: Callable[[Mapping[str, Any]], dict[str, Any]] = named_object("harness.worker", named)
    return answering


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run one cell's check.

    Returns:
        `status`, `reason`, `failure`, `metrics`, `evidence` and `shims` of the outcome.
    """
    install_dir = request["release"]["install_dir"]
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
            import_for(components, install_dir, request["release"]["version"])
        one_example = "property" in request.get("trace", {})
        answering = _check_function("properties.example" if one_example else check)
        if request.get("trace") and check != "import":
            from harness.worker.record import tracing

            result = tracing.run_traced(request, answering)
        else:
            result = answering(request)
    except importer.NotInRelease as absent:
        result = {"status": "skipped", "reason": str(absent), "evidence": {"absent": absent.name}}
    except Exception as error:
        result = findings.raised(error, install_dir)
    complete: dict[str, Any] = {"failure": None, "metrics": {}, "evidence": {}, **result}
    answer = {**complete, "evidence": _complete_evidence(complete), "shims": shims.used()}
    used = code_used.so_far()
    return answer if used is None else {**answer, code_used.RESULT: {**used, **_imported(components, request)}}


def _imported(components: Sequence[tuple[str, str]], request: Mapping[str, Any]) -> dict[str, Any]:
    """What a release's registrations decided: which modules are imported for which component, and in which order."""
    install_dir = request["release"]["install_dir"]
    entered = [tuple(pair) for pair in request["release"]["components"]]
    return {"registry": [importer.import_order(install_dir, pairs) for pairs in (entered, components)]}


def _complete_evidence(result: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence, with the classes of the model's components and all findings."""
    evidence = dict(result["evidence"])
    if classes := registry.chosen():
        evidence[registry.CHOSEN] = classes
    if result["status"] != "skipped":
        findings.add(evidence.get(findings.EVIDENCE, ()))
        evidence[findings.EVIDENCE] = findings.noted()
    return evidence
