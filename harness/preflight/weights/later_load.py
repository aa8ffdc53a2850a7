"""What a later load of the fine-tuned folder will take up: the trainer copies only a part of what the model needs."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.folder.model_files import CONFIGURATION, START, configuration_of, folder_rules, metas_of
from harness.preflight.inputs import Inputs
from harness.preflight.weights.tensor_fates import TensorFates


def check_later_load(inputs: Inputs, fates: TensorFates) -> Iterator[PreflightFinding]:
    """The finding where `AutoModel(model=OUTPUT_DIR)` will load the base's weights, and not the trained ones."""
    base = fates.saved_paths.get(START, "")
    if not base:
        return
    if CONFIGURATION not in fates.saved_files:
        if not folder_rules(inputs.install_dir).keeps_start:
            return
        reason = f"the output folder gets no {CONFIGURATION}, and its config.yaml names the base as `{START}`"
    else:
        try:
            named = dict(metas_of(configuration_of(inputs.model))).get(START, "")
        except (OSError, ValueError, RecursionError):
            return
        if named == "model.pt":
            return
        reason = f"the output folder's {CONFIGURATION} names `{named}`, and the trainer writes model.pt"
    yield PreflightFinding(
        severity=Severity.MINOR,
        rule="later-load-takes-base",
        message=f"after the training, AutoModel(model=OUTPUT_DIR) loads {base}, and not the result: {reason}",
        place=inputs.settings.place("output_dir"),
        evidence=(f"the trainer puts into the output folder: {', '.join(fates.saved_files)}",),
        remedy=f'AutoModel(model=OUTPUT_DIR, {START}="OUTPUT_DIR/model.pt")',
    )
