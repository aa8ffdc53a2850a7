"""What is known of the training command without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.preflight.findings import PreflightFinding
from harness.preflight.settings import Setting


@dataclass(frozen=True, kw_only=True)
class TrainingCommand:
    """What `finetune.sh` or the command line passes to FunASR's trainer."""

    overrides: tuple[Setting, ...] = ()
    """In their order; `++key=value` with the value as hydra reads it. Of a dict its leaves, which hydra merges."""
    entry: str | None = None
    """`train` or `train_ds`; None where no trainer is called, or none is known."""
    processes: int | None = None
    """`--nproc_per_node`, where it is known."""
    devices: tuple[str, ...] | None = None
    """`CUDA_VISIBLE_DEVICES`, where it is known."""
    findings: tuple[PreflightFinding, ...] = ()
    """What is wrong with the command itself: the shell, hydra, the launcher."""
    unvalued: tuple[Setting, ...] = ()
    """Overrides whose value is known at run time only, such as `++seed=$1`, or which hydra cannot read: the key is
    given, and the value here, None, stands for nothing."""
    deleted: tuple[str, ...] = ()
    """Keys that `~key` removes."""
    script: Path | None = None
    """As the user named it; None where the words were given directly."""
    called: bool = False
    """Whether the script calls a trainer, or words were given."""
    trainer: str = ""
    """As it is called: `../../funasr/bin/train_ds.py`, `-m funasr.bin.train`, `funasr-train`; empty where unknown."""
    trainer_line: int | None = None
    launcher: str = ""
    """`torchrun`, `python`, `deepspeed`, `accelerate`; empty where the trainer is called directly or none is."""
    directory: Path | None = None
    """The working directory of the trainer, after each `cd` of the script; None where it is not known."""
    config_file: str | None = None
    """`--config-path` with `--config-name`: the training's own config in place of the model folder's."""
    calls: tuple[int, ...] = ()
    """The lines of all trainer calls; the first that certainly runs is the one that is described here."""
    nodes: int | None = None
    """`--nnodes`, where it is known."""

    def value(self, path: str) -> str | None:
        """The text of the last override of a key; None where there is none or its value is no text."""
        values = [override.value for override in self.overrides if override.path == path]
        return values[-1] if values and isinstance(values[-1], str) else None

    @property
    def train(self) -> str | None:
        """`++train_data_set_list`, as written."""
        return self.value("train_data_set_list")

    @property
    def valid(self) -> str | None:
        """`++valid_data_set_list`, as written."""
        return self.value("valid_data_set_list")

    @property
    def model(self) -> str | None:
        """`++model`: a folder, or a name of a hub."""
        return self.value("model")
