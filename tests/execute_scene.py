"""Scenes for the process tree: cells that commit faults of `inside_faults`, run for real, every process marked.

As a program it runs a scene and prints each outcome as a JSON line: `python execute_scene.py SCENE.json`.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Outcome, Precision
from harness.core.tree_events import Event
from harness.core.wire import ReleaseBatch
from harness.run import Plan, Settings, build_plan, execute

MARK = "FUNASR_HARNESS_TEST_MARK"
TIMEOUT = 300.0
"""Seconds for what does not hang: none of it takes one, and a busy machine must not fail it."""
MEMORY = 256 << 20


def make_cell(number: int, *, release: str = "1.0.0", check: Check = Check.CONSTRUCT, **others: Any) -> Cell:
    """A cell; those of one release and number are checks of one chain."""
    alone = check is Check.IMPORT
    values: dict[str, Any] = {
        "release": release,
        "variant": None if alone else "paraformer",
        "dimensions": None if alone else Dimensions(vocab_size=number + 1, hidden_size=64),
        "depth": None if alone else Depth.REDUCED,
        "check": check,
        "entry": Entry.TRAIN if check is Check.FINETUNE else None,
        "device": Device.CPU,
        "precision": Precision.FP32,
    }
    return Cell(**{**values, **others})


@dataclass
class Scene:
    """Cells and what they do; `run` runs them in a workspace."""

    workspace: Path
    jobs: int = 2
    gpus: int = 1
    own_gpus: dict[Cell, int] = field(default_factory=dict)
    """How many a cell has to itself, where that is not one for a cell on a GPU."""
    timeout: float = TIMEOUT
    limits: dict[Cell, float] = field(default_factory=dict)
    """Seconds that a cell has where they are not `timeout`: short for one that hangs, and for it alone, because on a
    busy machine any other may take long."""
    memory: int = MEMORY
    preload: tuple[str, ...] = ()
    enter_timeout: float = TIMEOUT
    preload_timeout: float = TIMEOUT
    checks_module: str = "inside_faults"
    requests: dict[Cell, dict[str, Any]] = field(default_factory=dict)
    on_enter: dict[str, list[str]] = field(default_factory=dict)
    """Faults that releases commit when they are entered."""
    isolated: bool = False
    """Whether the kernel keeps cells from what they do not need; most faults are planted where it does not."""
    events: list[Event] = field(default_factory=list)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    warnings: list[str] = field(default_factory=list)
    started: list[Cell] = field(default_factory=list)

    def add(self, fault: str, *, release: str = "1.0.0", check: Check = Check.CONSTRUCT, **request: Any) -> Cell:
        """Have a new chain's cell commit a fault."""
        cell = make_cell(len(self.requests), release=release, check=check)
        return self.put(cell, fault, **request)

    def put(self, cell: Cell, fault: str, **request: Any) -> Cell:
        """Have this cell commit a fault."""
        self.requests[cell] = {"fault": fault, **request}
        return cell

    def bystanders(self, count: int = 3, releases: Sequence[str] = ("1.0.0", "1.0.1")) -> list[Cell]:
        """Cells that pass, in each of these releases."""
        return [self.add("passes", release=release) for release in releases for _ in range(count)]

    def plan(self, prior: Sequence[Outcome] = ()) -> Plan:
        """The plan of the scene."""
        settings = Settings(
            workspace=self.workspace,
            isolated=self.isolated,
            jobs=self.jobs,
            gpus=self.gpus,
            memory_bytes=self.memory,
            timeout_seconds=dict.fromkeys(Check, self.timeout),
            preload=self.preload,
            sys_path=(str(Path(__file__).parent),),
            checks_module=self.checks_module,
            enter_timeout_seconds=self.enter_timeout,
            preload_timeout_seconds=self.preload_timeout,
        )
        plan = build_plan(
            list(self.requests),
            settings,
            release_for=lambda label: {"label": label, "on_enter": self.on_enter.get(label, [])},
            request_for=self.requests.__getitem__,
            gpus_for=lambda cell: self.own_gpus.get(cell, int(cell.device is Device.CUDA)),
            prior=prior,
        )
        return replace(plan, batches=tuple(self._limited(batch, plan.cells) for batch in plan.batches))

    def _limited(self, batch: ReleaseBatch, cells: Mapping[int, Cell]) -> ReleaseBatch:
        own = {number: self.limits[cell] for number, cell in cells.items() if cell in self.limits}
        limited = (replace(one, timeout_seconds=own.get(one.number, one.timeout_seconds)) for one in batch.cells)
        return replace(batch, cells=tuple(limited))

    def run(self, prior: Sequence[Outcome] = ()) -> dict[Cell, Outcome]:
        """Run the scene; each cell has one outcome, and no process is left."""
        seen: dict[Cell, Outcome] = {}

        def keep(outcome: Outcome) -> None:
            assert outcome.cell not in seen, f"two outcomes of {outcome.cell.id}"
            seen[outcome.cell] = outcome

        execute(
            self.plan(prior),
            keep,
            env={**os.environ, MARK: self.mark},
            on_started=self.started.append,
            on_warning=self.warnings.append,
            on_event=self.events.append,
        )
        assert marked(self.mark) == []
        return seen

    def save(self, path: Path) -> Path:
        """Write the scene for a process of its own."""
        data = {
            "workspace": str(self.workspace),
            "jobs": self.jobs,
            "memory": self.memory,
            "preload": self.preload,
            "on_enter": self.on_enter,
            "mark": self.mark,
            "requests": {cell.id: request for cell, request in self.requests.items()},
        }
        path.write_text(json.dumps(data))
        return path

    @classmethod
    def load(cls, path: Path) -> Scene:
        """Read what `save` wrote."""
        data: Mapping[str, Any] = json.loads(path.read_text())
        requests = {Cell.parse(name): request for name, request in data["requests"].items()}
        return cls(
            workspace=Path(data["workspace"]),
            jobs=data["jobs"],
            memory=data["memory"],
            preload=tuple(data["preload"]),
            on_enter=data["on_enter"],
            mark=data["mark"],
            requests=requests,
        )


def marked(mark: str) -> list[int]:
    """The running processes that carry the mark in their environment, this one apart."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment.split(b"\0") and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def main(path: str) -> None:
    """Run a scene and print its outcomes."""
    scene = Scene.load(Path(path))
    execute(
        scene.plan(),
        lambda outcome: print(json.dumps(outcome.to_json()), flush=True),
        env={**os.environ, MARK: scene.mark},
        on_started=lambda cell: print(json.dumps({"started": cell.id}), flush=True),
    )


if __name__ == "__main__":
    main(sys.argv[1])
