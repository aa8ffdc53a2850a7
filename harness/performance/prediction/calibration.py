"""What was measured once on a GPU and holds for every training there: its context and the libraries' workspaces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.documents import LARGEST_JSON, parse_json, read_bytes
from harness.core.durable import write_json
from harness.core.errors import InputError

FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Bytes that a GPU's driver and libraries take besides tensors."""

    key: str
    """The folder's name: GPU, driver, torch and precision."""
    context_bytes: int
    """Of the process, outside torch's allocator."""
    workspace_bytes: int
    """Of libraries such as cuBLAS, within torch's allocator."""
    origin: dict[str, Any]
    """The GPU, driver, torch and precision; from which runs, of how many trainings, and the least and most of each."""


def write_calibration(calibration: Calibration, baselines: Path) -> Path:
    """Write a calibration in the place of an older one, whole or not at all.

    Raises:
        StoreError: it could not be written; the older one is still there.
    """
    path = baselines / calibration.key / FILE
    fields = {name: value for name, value in asdict(calibration).items() if name != "key"}
    write_json(path, fields, indent=2)
    return path


def read_calibration(baselines: Path, key: str) -> Calibration:
    """The calibration of a baseline.

    Raises:
        InputError: there is none, or it is no calibration.
    """
    known = sorted(path.parent.name for path in baselines.glob(f"*/{FILE}"))
    if key not in known:
        raise InputError(
            f'there is no calibration of a GPU "{key}" under {baselines}',
            cause=f"there are {', '.join(known)}" if known else "none was measured yet",
            next_step="leave --gpu out: what only a GPU can tell is then left open",
        )
    path = baselines / key / FILE
    values = _read(path)
    if values is None:
        raise InputError(f"{path} is no calibration", next_step="mend the file, or leave --gpu out")
    context, workspace, origin = values
    return Calibration(key=key, context_bytes=context, workspace_bytes=workspace, origin=origin)


def _read(path: Path) -> tuple[int, int, dict[str, Any]] | None:
    try:
        data = parse_json(read_bytes(path, LARGEST_JSON))
        context, workspace, origin = data["context_bytes"], data["workspace_bytes"], data["origin"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    legal = isinstance(context, int) and isinstance(workspace, int) and isinstance(origin, dict)
    return (context, workspace, origin) if legal else None
