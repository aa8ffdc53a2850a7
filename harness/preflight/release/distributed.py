"""DeepSpeed and FSDP: what has to be there, and what this release's trainer cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.release.libraries import has_library

_LARGEST_CONFIG = 1 << 20


def deepspeed(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    """DeepSpeed without its library or its config, or together with FSDP."""
    path = _switch(inputs, "use_deepspeed")
    if not path or "deepspeed" not in trainer.trainer_text:
        return
    place = inputs.settings.place(path)
    if not has_library(inputs, "deepspeed"):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="deepspeed-not-installed",
            message="DeepSpeed is switched on and not installed: the training ends with AttributeError: 'NoneType' "
            "object has no attribute 'init_distributed', or with an ImportError",
            place=place,
            evidence=(f"looked for in {inputs.environment.python}",),
            remedy="pip install deepspeed, or ++train_conf.use_deepspeed=false",
        )
    yield from _deepspeed_config(inputs, place)
    if "use_deepspeed and use_fsdp" in trainer.main_text and (other := _switch(inputs, "use_fsdp")):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="deepspeed-with-fsdp",
            message="DeepSpeed and FSDP are both switched on: the trainer ends with a ValueError",
            place=inputs.settings.place(other),
            remedy="++train_conf.use_fsdp=false",
        )


def _deepspeed_config(inputs: Inputs, place: Place) -> Iterator[PreflightFinding]:
    given = inputs.settings.get("deepspeed_config") or inputs.settings.get("train_conf.deepspeed_config")
    problem = "no `deepspeed_config` is named" if not given else ""
    if given:
        path = Path(str(given)) if Path(str(given)).is_absolute() else inputs.root / str(given)
        if not path.is_file():
            problem = f"`deepspeed_config` {given} does not exist"
        elif path.stat().st_size < _LARGEST_CONFIG:
            try:
                json.loads(path.read_text("utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                problem = f"`deepspeed_config` {given} is no JSON: {error}"
    if problem:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="deepspeed-without-config",
            message=f"DeepSpeed is switched on, and {problem}: the trainer cannot open it",
            place=place,
            evidence=(f"relative paths start at {inputs.root}",) if given else (),
            remedy="++train_conf.deepspeed_config=ds_stage1.json, from examples/deepspeed_conf of FunASR's repository",
        )


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
