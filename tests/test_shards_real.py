"""Shards of real releases, merged, have the outcomes of the whole matrix, cell by cell."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.commands import common
from harness.core.cells import Outcome
from harness.environments.environment import probe
from harness.run.runner import CellRunner
from harness.run.store import load_run

pytestmark = [pytest.mark.release, pytest.mark.long]

MATRIX = """
schema = 1
name = "both_sides"
description = "Both sides of the streaming bug, narrow."

[axes]
release = ["1.0.12", "1.0.18"]
variant = ["paraformer_streaming"]
vocab_size = [1200]
hidden_size = [64]
depth = ["reduced"]
check = ["construct", "loss_contract"]
device = ["cpu"]
precision = ["fp32"]
"""
OF_THE_MOMENT = {"seconds", "started", "peak_resident_bytes", "resident_bytes", "leftovers_killed"}
"""Keys of what differs between two runs of one cell."""


def lasting(outcome: Outcome) -> dict[str, Any]:
    """An outcome without times and resident memory."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: kept(one)
                for key, one in value.items()
                if key not in OF_THE_MOMENT and not key.endswith(("_seconds", "_time"))
            }
        return [kept(one) for one in value] if isinstance(value, list) else value

    told: dict[str, Any] = kept(json.loads(json.dumps(outcome.to_json())))
    return told


def test_merged_shards_of_real_releases_have_the_outcomes_of_the_whole_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "both_sides.toml").write_text(MATRIX)
    monkeypatch.chdir(tmp_path)
    # Three runs in one process need one look at the interpreter, and import what these cells need.
    monkeypatch.setattr(common, "probe", functools.cache(probe))
    monkeypatch.setattr(CellRunner, "_preload", lambda *_: ("numpy", "torch"))
    whole = cli.main(["run", "both_sides.toml", "-o", "whole"])
    parts = [cli.main(["run", "both_sides.toml", "--shard", f"{number}/2"]) for number in (1, 2)]
    folders = [Path(f"runs/both_sides-shard-{number}-of-2") for number in (1, 2)]
    merged = cli.main(["merge", *map(str, folders), "-o", "merged"])
    assert merged == whole
    assert max(parts) == whole
    mine, theirs = ({one.cell.id: lasting(one) for one in load_run(Path(f)).outcomes} for f in ("merged", "whole"))
    assert {name: one["status"] for name, one in mine.items()} == {name: one["status"] for name, one in theirs.items()}
    assert {one["status"] for one in mine.values()} == {"passed", "failed"}
    assert mine == theirs
    assert sorted(len({one.cell.release for one in load_run(folder).outcomes}) for folder in folders) == [1, 1]
