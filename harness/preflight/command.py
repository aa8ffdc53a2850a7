"""The command that starts the training: what `finetune.sh` or the command line passes to FunASR's trainer."""

from __future__ import annotations

from dataclasses import dataclass

from harness.preflight.findings import Finding
from harness.preflight.settings import Setting


@dataclass(frozen=True, kw_only=True)
class TrainingCommand:
    """What is known of the command without running it."""

    overrides: tuple[Setting, ...] = ()
    """In their order; `++key=value` with the value as hydra reads it."""
    entry: str | None = None
    """`train` or `train_ds`; None where no trainer is called, or none is known."""
    processes: int | None = None
    """`--nproc_per_node`, where it is known."""
    devices: tuple[str, ...] | None = None
    """`CUDA_VISIBLE_DEVICES`, where it is known."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with the command itself: the shell, hydra, the launcher."""
