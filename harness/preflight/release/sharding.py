"""FSDP: what this release's trainer cannot do with it."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Severity
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs


def fsdp(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    """FSDP, which most releases cannot train with."""
    path = _switch(inputs, "use_fsdp")
    if not path:
        return
    top_level = path == "use_fsdp"
    message = ""
    if trainer.fsdp_policy_undefined and top_level:
        message = "what divides the model for FSDP in this release reads a name that is defined nowhere: a NameError"
    elif trainer.fsdp_saves == "raises":
        message = (
            "this release cannot save under FSDP: the training ends with a NotImplementedError at its first checkpoint"
        )
    elif trainer.fsdp_saves == "nothing":
        message = "this release saves nothing under FSDP: the training ends without a checkpoint"
    if message:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="fsdp-does-not-work",
            message=message,
            place=inputs.settings.place(path),
            remedy=f"++{path}=false",
        )
    elif top_level and inputs.command.launcher == "python" and inputs.processes == 1:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="fsdp-without-launcher",
            message="FSDP is switched on, and no launcher sets RANK and WORLD_SIZE: the start ends with a ValueError",
            place=inputs.settings.place(path),
            remedy=f"start it with torchrun, or ++{path}=false",
        )


def _switch(inputs: Inputs, name: str) -> str:
    """The path at which a switch is on; the top level wins; empty where it is off."""
    for path in (name, f"train_conf.{name}"):
        setting = inputs.settings.by_path.get(path)
        if setting is not None:
            return path if setting.value else ""
    return ""
