"""A release's own trainer on a user's files, in a child: how many steps it takes and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def train(
    install_dir: str, version: str, entry: str, overrides: Mapping[str, Any], root: str, paths: list[str]
) -> dict[str, Any]:
    """In a child with torch: steps, learning rates, losses, and the exception that ended the training, if one did."""
    sys.path[:0] = paths
    import torch

    from harness.worker.release import importer, shims
    from harness.worker.trainer import launch

    importer.import_all(install_dir)
    shims.apply("cpu")
    rates: list[float] = []
    original = torch.optim.Adam.step

    def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        rates.append(float(optimizer.param_groups[0]["lr"]))
        return original(optimizer, *args, **kwargs)

    torch.optim.Adam.step = step
    try:
        launch.run_trainer(entry, {"device": "cpu", "seed": 0, **overrides}, root=root)
    except SystemExit as error:
        return {"steps": len(rates), "rates": rates, "error": f"exit {error.code}"}
    except BaseException as error:
        return {"steps": len(rates), "rates": rates, "error": f"{type(error).__name__}: {error}"}
    return {"steps": len(rates), "rates": rates, "error": ""}
