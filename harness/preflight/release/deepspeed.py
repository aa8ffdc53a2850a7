"""DeepSpeed: what has to be there, what its config and FunASR's settings cannot do together, and what it ignores.

A missing launcher, config or batch size, and FSDP beside it, were run with DeepSpeed 0.19 on a CPU with gloo, in
1.4.16. What is said of DeepSpeed's optimizer, of ignored settings and of earlier releases is read from their code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.core.cells import Severity
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.release.libraries import has_library
from harness.preflight.settings import Setting

_LARGEST_CONFIG = 1 << 20
_PASSED_ON = "use_deepspeed=use_deepspeed,"
"""Since 1.4.2 `train_ds.py` takes both places, the top level first; before, its trainer sees `train_conf` alone."""
_BATCHES = ("train_batch_size", "train_micro_batch_size_per_gpu")
_ACCUMULATION = "gradient_accumulation_steps"


@dataclass(frozen=True)
class DeepSpeedUse:
    """How a training would use DeepSpeed."""

    inputs: Inputs
    trainer: TrainerCode

    @cached_property
    def switch(self) -> Setting | None:
        """The setting that decides; None where there is none that this release's trainer looks at."""
        return self._setting("use_deepspeed")

    @property
    def on(self) -> bool:
        """Whether the trainer wraps the model with DeepSpeed."""
        known = "deepspeed" in self.trainer.trainer_text
        return known and self.switch is not None and bool(self.switch.value)

    @property
    def config_setting(self) -> Setting | None:
        """Where DeepSpeed's config is named."""
        return self._setting("deepspeed_config")

    @cached_property
    def config_file(self) -> Path | None:
        """DeepSpeed's config; None where none is named."""
        setting = self.config_setting
        return self.inputs.root / str(setting.value) if setting is not None and setting.value else None

    @cached_property
    def config(self) -> Mapping[str, Any] | str:
        """What it says, or why it cannot be read."""
        setting, path = self.config_setting, self.config_file
        if setting is None or path is None:
            return "no `deepspeed_config` is named"
        if not path.is_file():
            return f"`deepspeed_config` {setting.value} does not exist"
        try:
            if path.stat().st_size > _LARGEST_CONFIG:
                return f"`deepspeed_config` {setting.value} is larger than 1 MiB"
            document = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            return f"`deepspeed_config` {setting.value} is no JSON: {error}"
        return document if isinstance(document, Mapping) else f"`deepspeed_config` {setting.value} is no JSON object"

    @property
    def reads_top_level(self) -> bool:
        """Whether the settings at the top level reach the trainer."""
        return _PASSED_ON in self.trainer.main_text

    def _setting(self, name: str) -> Setting | None:
        places = (name, f"train_conf.{name}") if self.reads_top_level else (f"train_conf.{name}",)
        settings_found = (self.inputs.settings.by_path.get(path) for path in places)
        return next((setting for setting in settings_found if setting is not None), None)


def deepspeed(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    """DeepSpeed without its library, its launcher or its config, or with settings that do not go with it."""
    use = DeepSpeedUse(inputs, trainer)
    yield from _switched_elsewhere(use)
    if not use.on or use.switch is None:
        return
    place = use.switch.place
    if not has_library(inputs, "deepspeed"):
        yield _broken(
            "deepspeed-not-installed",
            "DeepSpeed is switched on and not installed: the training ends with AttributeError: 'NoneType' object has "
            "no attribute 'init_distributed', or with an ImportError",
            place,
            "pip install deepspeed, or ++train_conf.use_deepspeed=false",
            f"looked for in {inputs.environment.python}",
        )
    if inputs.command.launcher == "python" and inputs.processes == 1 and not has_library(inputs, "mpi4py"):
        yield _broken(
            "deepspeed-without-launcher",
            "DeepSpeed is switched on, and no launcher sets RANK and WORLD_SIZE: DeepSpeed then looks for MPI, and the "
            "start ends with ModuleNotFoundError: No module named 'mpi4py'",
            place,
            "start it with torchrun --nproc_per_node 1",
        )
    both = inputs.settings.by_path.get("use_fsdp") or inputs.settings.by_path.get("train_conf.use_fsdp")
    if "use_deepspeed and use_fsdp" in trainer.main_text and both is not None and both.value:
        message = "DeepSpeed and FSDP are both switched on: the trainer ends with a ValueError"
        yield _broken("deepspeed-with-fsdp", message, both.place, "++train_conf.use_fsdp=false")
    yield from _config(use, place)


def accumulation(inputs: Inputs, trainer: TrainerCode) -> int | None:
    """Batches of one optimizer step by DeepSpeed's config, which `accum_grad` does not change; None without it."""
    use = DeepSpeedUse(inputs, trainer)
    if not use.on or isinstance(use.config, str):
        return None
    steps = use.config.get(_ACCUMULATION, 1)
    return steps if isinstance(steps, int) and steps > 0 else None


def _switched_elsewhere(use: DeepSpeedUse) -> Iterator[PreflightFinding]:
    """A switch at the top level, where this release's trainer does not look."""
    top = use.inputs.settings.by_path.get("use_deepspeed")
    known = "deepspeed" in use.trainer.trainer_text
    if known and top is not None and top.value and not use.reads_top_level and not use.on:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="deepspeed-switch-ignored",
            message="this release's trainer looks for `use_deepspeed` in train_conf only: the process group is made by "
            "DeepSpeed, and the model is trained without it",
            place=top.place,
            remedy="++train_conf.use_deepspeed=true",
        )


def _config(use: DeepSpeedUse, place: Place) -> Iterator[PreflightFinding]:
    """What is wrong with DeepSpeed's own config."""
    if isinstance(use.config, str):
        yield _broken(
            "deepspeed-without-config",
            f"DeepSpeed is switched on, and {use.config}: the trainer cannot open it",
            place,
            "++train_conf.deepspeed_config=ds_stage1.json, from examples/deepspeed_conf of FunASR's repository",
            f"relative paths start at {use.inputs.root}" if use.config_setting else "",
        )
        return
    file = str(use.config_file)
    if not any(use.config.get(name) for name in _BATCHES):
        message = f"DeepSpeed's config has neither {' nor '.join(_BATCHES)}: its start ends with an AssertionError"
        where = Place(file=file, key=_BATCHES[1])
        yield _broken("deepspeed-batch-size", message, where, f'"{_BATCHES[1]}": 1, as in FunASR\'s own')
    if "optimizer" in use.config and "optim = None" in use.trainer.trainer_text:
        yield _broken(
            "deepspeed-optimizer",
            "DeepSpeed's config has an optimizer: the trainer then drops its own, calls it nevertheless, and ends with "
            "AttributeError: 'NoneType' object has no attribute 'zero_grad'",
            Place(file=file, key="optimizer"),
            "take `optimizer` out of it; optim and optim_conf of FunASR are used",
        )
    yield from _ignored(use, use.config)


def _ignored(use: DeepSpeedUse, config: Mapping[str, Any]) -> Iterator[PreflightFinding]:
    """Settings of train_conf in whose place DeepSpeed's config decides."""
    for name, deepspeed_key, default in (("accum_grad", _ACCUMULATION, 1), ("grad_clip", "gradient_clipping", 0.0)):
        setting = use.inputs.settings.by_path.get(f"train_conf.{name}")
        deepspeed_value = config.get(deepspeed_key, default)
        # Without a word of the user's, a value of the model's config is what FunASR's recipe has.
        if setting is None or not setting.from_command or setting.value == deepspeed_value:
            continue
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="deepspeed-ignores",
            message=f"with DeepSpeed `train_conf.{name}` has no effect: `{deepspeed_key}` of its config decides, "
            "and is "
            f"{deepspeed_value!r}",
            place=setting.place,
            evidence=(setting.text or f"{setting.path}: {setting.value}",),
            remedy=f'"{deepspeed_key}": {setting.value} in {use.config_file.name if use.config_file else "its config"}',
        )


def _broken(rule: str, message: str, place: Place, remedy: str, evidence: str = "") -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule=rule,
        message=message,
        place=place,
        evidence=(evidence,) if evidence else (),
        remedy=remedy,
    )
