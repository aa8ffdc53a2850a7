"""A stored run of small cells, resumed as `funasr-harness run` resumes its own: `python stored_run.py SCENE FOLDER`.

Store, process tree, channels, temporary folder and exit status are the real ones. The cells are those of
`inside_faults`, which need no FunASR: a run of them takes a second, so that hundreds can be killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# ruff: noqa: E402 - as a program it is below neither folder
sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from execute_scene import MARK, Scene, make_cell

from harness.commands.exit_status import FINE, guarded
from harness.core import wire
from harness.core.cells import Cell, Check
from harness.core.temporary import temporary_folder
from harness.run import execute
from harness.run.provenance import Provenance
from harness.run.store import RunStore

SCENE = "scene.json"
STORE = "run"


def provenance(cells: int) -> Provenance:
    """Of a run that nobody compares with another."""
    return Provenance(
        host="Linux",
        processor="some processor",
        cpu_count=2,
        memory_bytes=None,
        gpus=(),
        driver=None,
        python="3",
        torch="none",
        cuda=None,
        libraries={},
        matrix="campaign",
        matrix_sha256="0" * 64,
        cells=cells,
        selected=cells,
        selection=(),
        corpus_sha256=None,
        harness_version="0",
        harness_commit=None,
        harness_dirty=None,
        started=wire.now(),
    )


def small_scene(workspace: Path) -> Scene:
    """Three releases: cells that pass, fail, crash, print, leave processes and are blocked."""
    scene = Scene(workspace)
    for release in ("1.0.0", "1.0.1", "1.0.2"):
        # one import, which has an interpreter of its own: to start it costs more than all other cells
        checks = [Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE]
        for check in [Check.IMPORT, *checks] if release == "1.0.0" else checks:
            number = 0 if check is Check.IMPORT else 1
            crashes = check is Check.LOSS_CONTRACT and release == "1.0.1"
            scene.put(make_cell(number, release=release, check=check), "exits_with_three" if crashes else "works")
        for _ in range(6):
            scene.add("works", release=release)
        scene.add("says", release=release, answer={"status": "failed", "reason": "planted"})
    scene.add("leaves_a_daemon", release="1.0.2")
    return scene


def main(scene_file: Path, folder: Path) -> int:
    """Run what is missing."""
    scene = Scene.load(scene_file)
    scene.isolated = True
    cells: list[Cell] = list(scene.requests)
    with temporary_folder("campaign") as workspace, RunStore.open(folder) as store:
        scene.workspace = workspace
        where = store.begin(provenance(len(cells)))
        missing = set(store.remaining(cells))
        prior = [outcome for outcome in store.load() if outcome.cell not in missing]
        scene.requests = {cell: request for cell, request in scene.requests.items() if cell in missing}
        if missing:
            execute(scene.plan(prior), store.append, env={**os.environ, MARK: scene.mark})
        store.finish(where, wire.now())
    return FINE


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])), command="run", debug=False))
