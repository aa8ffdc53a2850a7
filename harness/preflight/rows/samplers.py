"""Findings about the classes that the release reads the rows with: those that it lacks, and a sampler that ends it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from harness.config.toml_tables import did_you_mean
from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.measured import Arrivals

_SAMPLER = "dataset_conf.batch_sampler"
_SETTINGS = {
    "dataset": "dataset_classes",
    "dataset_conf.index_ds": "index_ds_classes",
    _SAMPLER: "batch_sampler_classes",
}
_REPLACED = "batch_list_all_rank = [idx]"
"""In 1.0.6 to 1.0.17: the list of all ranks' batches becomes a list of one row's number."""


def unknown_classes(inputs: Inputs) -> Iterator[PreflightFinding]:
    """Datasets, indexes and samplers that this release does not have."""
    for path, table in _SETTINGS.items():
        name = inputs.settings.get(path)
        names = inputs.code.names(table)
        if isinstance(name, str) and names and name.lower() not in {registered.lower() for registered in names}:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="data-class-unknown",
                message=f"this release has no {path.rpartition('.')[2]} `{name}`: its table gives None, and the call "
                "raises TypeError",
                place=inputs.settings.place(path),
                evidence=(f"it has {', '.join(names)}",),
                remedy=did_you_mean(name, names) or f"++{path}={names[0]}",
            )


def ended_by_a_row(arrivals: Arrivals, inputs: Inputs) -> PreflightFinding:
    """A sampler that gives the number of a row in place of a batch, measured."""
    where = arrivals.ended
    after = where.batches if where is not None else arrivals.valid_batches or 0
    batches = f"{after} batch{'' if after == 1 else 'es'}"
    phase = "training" if where is not None else "first validation"
    return _row_for_a_batch(
        inputs, f"the {phase} ends", batches, f"what it gave, asked for batches: {batches}, then a row"
    )


def sampler_that_ends(inputs: Inputs) -> Iterator[PreflightFinding]:
    """The same by the release's code, without its rows: with fewer than three rows more than a batch it takes no step,
    or one in an epoch."""
    name = inputs.settings.get(_SAMPLER)
    definition = inputs.code.definition("batch_sampler_classes", name) if isinstance(name, str) else None
    for _, node in inputs.code.lineage(definition) if definition is not None else ():
        if _REPLACED in ast.unparse(node):
            yield _row_for_a_batch(inputs, "the training ends", "a batch", f"its code: {_REPLACED}")
            return


def _row_for_a_batch(inputs: Inputs, ending: str, after: str, evidence: str) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="batch-is-a-row",
        message=f"the sampler {inputs.settings.get(_SAMPLER)} gives the number of a row in place of a batch: {ending} "
        f"with TypeError: 'int' object is not iterable after {after}",
        place=inputs.settings.place(_SAMPLER),
        evidence=(evidence,),
        remedy=f"++{_SAMPLER}=BatchSampler",
    )
