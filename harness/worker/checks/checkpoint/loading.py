"""Loading what was trained as its user does: which of the checkpoints is in memory afterwards?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.worker.checks.checkpoint.resuming import OUTPUT
from harness.worker.release.loading import by_config, by_folder
from harness.worker.trainer.children import ChildContext, ChildResult
from harness.worker.trainer.training_run import ReleaseTrainer, weights

Ask = Callable[[str, Callable[[ChildContext], None]], ChildResult]


def cases(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    """The averaged model by its path, and the output folder alone, without a configuration.json."""
    output = here / "whole" / OUTPUT
    found: dict[str, Any] = {"base": {}}
    averages = sorted(output.glob("model.pt.avg*"))
    if averages:
        found["average"] = _ask(ask, "average", lambda: by_config(output, averages[0]))
    bare = here / "bare"
    bare.mkdir()
    for name in ("config.yaml", "model.pt"):
        shutil.copy(output / name, bare / name)
    found["bare"] = _ask(ask, "bare", lambda: by_folder(bare))
    found["folder"] = _ask(ask, "folder", lambda: by_folder(output))
    found["folder_has_configuration"] = (output / "configuration.json").exists()
    base = ask("base_weights", lambda room: room.answer.update(_base(trainer.folder / "model.pt")))
    found["base"] = base.value
    return found


def _ask(ask: Ask, name: str, load: Callable[[], Any]) -> dict[str, Any]:
    def work(room: ChildContext) -> None:
        room.answer = {"weights": weights(load().model)}

    answer = ask(f"load_{name}", work)
    said = [line[-300:] for line in answer.said.splitlines() if "error" in line.lower() or "miss" in line.lower()]
    return {"weights": answer.value.get("weights"), "failure": answer.failure, "said": said[:5]}


def _base(path: Path) -> dict[str, str]:
    import torch

    from harness.worker.trainer.training_run import fingerprint

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: fingerprint(tensor) for name, tensor in state.items()}
