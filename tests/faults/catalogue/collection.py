"""Faults in the use of the harness: what was not measured must not look like success."""

from __future__ import annotations

from harness.core.cells import Check, Status

from ..records import Edit, Expected, Family, Fault

_REFUSED = Expected(check=None)

FAULTS = (
    Fault(
        name="selection-matches-nothing",
        family=Family.NO_CELLS,
        title="The selection of cells matches none.",
        command=("run", "{matrix}", "--only", "9.9.9/*"),
        expected=_REFUSED,
    ),
    Fault(
        name="everything-excluded",
        family=Family.NO_CELLS,
        title="The matrix excludes every cell that it names.",
        command=("run", "{empty_matrix}"),
        expected=_REFUSED,
    ),
    Fault(
        name="model-not-registered",
        family=Family.NO_CELLS,
        title="The release no longer registers the model, so that there is nothing to ask.",
        edits=(
            Edit(
                files=("models/paraformer_streaming/model.py",),
                old='@tables.register("model_classes", "ParaformerStreaming")',
                new="",
            ),
        ),
        expected=Expected(check=Check.CONSTRUCT, status=Status.SKIPPED),
    ),
)
