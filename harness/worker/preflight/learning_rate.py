"""Optimizer steps and learning rates of a training, by the release's trainer and its own schedulers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.trainer.options import TrainerOptions, trainer_file

MOST_STEPS = 200_000
"""Steps that a scheduler is moved on one by one; FunASR's own are set to the step at once."""

MOST_EPOCHS = 1_000_000_000

_EVERY = re.compile(r"\(batch_idx \+ 1\) % (?:self\.)?accum_grad == 0")
_TAIL = re.compile(r"\(batch_idx \+ 1\) == len\(")
_SCHEDULER = re.compile(r"^(?!\s*#).*\bscheduler\.step\(\)", re.MULTILINE)


def measure(request: Mapping[str, Any], trainer: TrainerOptions, train: Mapping[str, Any] | None) -> dict[str, Any]:
    """Steps per epoch of rank 0, the learning rates, and the checkpoint that a resume would take up."""
    config, install_dir, entry = request["config"], request["release"]["install_dir"], request["entry"]
    accumulation = max(1, integer_setting(config, "accum_grad", 1))
    text = trainer_file(install_dir, entry).read_text(encoding="utf-8", errors="replace")
    main = (Path(install_dir) / f"funasr/bin/{entry}.py").read_text(encoding="utf-8", errors="replace")
    tail = bool(_EVERY.search(text)) and bool(_TAIL.search(text))
    further = max(0, len(_SCHEDULER.findall(text)) + len(_SCHEDULER.findall(main)) - 1)
    schedule: dict[str, Any] = {
        "accumulation": accumulation,
        "tail": tail,
        "scheduler_steps_per_epoch": further,
        "epochs_run": trainer.epochs_run(integer_setting(config, "max_epoch", 100)),
        "finished": _finished_epoch(request.get("output_dir")),
    }
    epochs = (train or {}).get("epochs")
    if train is not None and schedule["epochs_run"] <= 0:
        return {**schedule, "steps": [], "total": 0, "exact": True}
    if not epochs:
        return schedule
    steps = [sum(_steps(slice_, accumulation, tail) for slice_ in ranks[0]["slices"]) for ranks in epochs]
    epochs_wanted = schedule["epochs_run"]
    mean = sum(steps[1:] or steps) / len(steps[1:] or steps)
    total = sum(steps) if len(steps) >= epochs_wanted else round(sum(steps) + mean * (epochs_wanted - len(steps)))
    schedule |= {"steps": steps, "total": total, "exact": len(steps) >= epochs_wanted}
    if total:
        steps_of_epoch = max(1, round(mean))
        sampled_steps = [1, (total + 1) // 2, total]
        # Where an epoch steps the scheduler once more, a step's rate is that of its number and of the epochs before.
        moved = [
            step - 1 + further * min((step - 1) // steps_of_epoch, max(0, epochs_wanted - 1)) for step in sampled_steps
        ]
        last = moved[-1]
        try:
            schedule["rates"], schedule["rates_at"] = rates(config, moved), sampled_steps
            schedule["highest"] = max(rates(config, [round(last * part / 20) for part in range(21)]), default=None)
        except Exception as error:
            # Such as a scheduler whose step needs a metric: the number of steps is known nevertheless.
            schedule |= {"rates": [], "rates_at": [], "rates_failure": f"{type(error).__name__}: {error}"[:200]}
    return schedule


def integer_setting(config: Mapping[str, Any], name: str, default: int) -> int:
    """A setting of `train_conf`; the default where it is none, or no number: the trainer then stops of itself."""
    value = (config.get("train_conf") or {}).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return default
    return int(min(value, MOST_EPOCHS))


def _steps(slice_: Sequence[int | None], accumulation: int, tail: bool) -> int:
    """Optimizer steps of a pass over a loader of some batches."""
    batches, length = slice_[0] or 0, slice_[1]
    complete_steps = batches // accumulation
    return complete_steps + (tail and length is not None and 0 < length <= batches and length % accumulation != 0)


def rates(config: Mapping[str, Any], steps: Sequence[int]) -> list[float]:
    """The learning rate after so many scheduler steps, for each of them in rising order.

    Raises:
        whatever the release or torch raises for these settings.
    """
    from funasr.schedulers import scheduler_classes

    optimizer = _rates_only(config)
    scheduler_class = scheduler_classes[config.get("scheduler", "warmuplr")]
    scheduler = scheduler_class(optimizer, **dict(config.get("scheduler_conf") or {}))
    # FunASR's own are functions of the step's number; torch's continue from the rate before.
    jumps = scheduler_class.__module__.startswith("funasr.")
    values, steps_done = [], 0
    optimizer.step()
    for step in steps:
        if jumps and step > steps_done:
            scheduler.last_epoch, steps_done = step - 1, step
            scheduler.step()
        while steps_done < min(step, MOST_STEPS):
            scheduler.step()
            steps_done += 1
        values.append(float(optimizer.param_groups[0]["lr"]))
    return values


def _rates_only(config: Mapping[str, Any]) -> Any:
    """What a scheduler needs of an optimizer; making a real one takes as long as importing torch."""
    import torch
    from funasr.optimizers import optim_classes

    optimizer_class = optim_classes[config.get("optim", "adam")]
    default = inspect.signature(optimizer_class).parameters.get("lr")
    conf = dict(config.get("optim_conf") or {})
    rate = conf.get("lr", getattr(default, "default", 0.001))
    group = {
        "params": [torch.nn.Parameter(torch.zeros(1))],
        "betas": (0.9, 0.999),
        "momentum": 0.9,
        **conf,
        "lr": rate,
    }

    class RatesOnly(torch.optim.Optimizer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.defaults = {name: value for name, value in group.items() if name != "params"}
            self.param_groups: list[Any] = [group]
            self.state: dict[Any, Any] = {}

        def step(self, closure: Any = None) -> None:
            pass

    return RatesOnly()


def _finished_epoch(folder: str | None) -> dict[str, Any] | None:
    """The epoch of the checkpoint that a resume would load; None where there is none."""
    path = Path(folder or "") / "model.pt"
    if not folder or not path.is_file():
        return None
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        epoch = state.get("epoch") if isinstance(state, dict) else None
    except Exception as error:
        return {"epoch": None, "unreadable": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
    return {"epoch": epoch if isinstance(epoch, int) else None, "optimizer": "optimizer" in state}
