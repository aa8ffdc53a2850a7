"""A small release in a folder, a cell of it that records what it used, and copies of the release with one change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.cells import Cell, Check, Failure, Frame, Outcome, Release, Status
from harness.run import Settings, build_plan
from harness.run.plan import Plan
from harness.run.reuse.fingerprint import CodeUsed, Fingerprint, ReleaseSeen, fingerprint
from harness.run.reuse.release_files import ReleaseFiles
from harness.worker.release.importer import FullImport

ROOT = Path(__file__).parents[1]
VERSION = "1.4.16"
COMPONENTS = (("model_classes", "Model"), ("encoder_classes", "Encoder"))
CELL = Cell.parse(f"{VERSION}/paraformer/v8404-h320/reduced/construct/cpu-fp32")

FILES: Mapping[str, str] = {
    "funasr/__init__.py": "",
    "funasr/version.txt": f"{VERSION}\n",
    "funasr/register.py": """\
import inspect


class RegisterTables:
    def __init__(self):
        self.model_classes = {}
        self.encoder_classes = {}

    def register(self, table, key=None):
        def decorator(target):
            line = inspect.getsourcelines(target)[1]
            getattr(self, table)[key or target.__name__] = target
            return target

        return decorator


tables = RegisterTables()
""",
    "funasr/models/__init__.py": "",
    "funasr/models/layers.py": '''\
"""Layers."""

SCALE = 2


def twice(function):
    def called(*arguments):
        return 2 * function(*arguments)

    return called


class Base:
    """The base of all encoders."""

    offset = 1

    def shift(self, value):
        """Shift a value."""
        # by the offset
        return value + self.offset


def unused(value):
    return value
''',
    "funasr/models/encoder.py": """\
from funasr.models.layers import Base, SCALE
from funasr.register import tables


@tables.register("encoder_classes", "Encoder")
class Encoder(Base):
    def encode(self, value, gain=3):
        return self.shift(value) * gain * SCALE
""",
    "funasr/models/other_encoder.py": """\
from funasr.register import tables


@tables.register("encoder_classes", "Encoder")
class Encoder:
    def encode(self, value):
        return -value
""",
    "funasr/models/patches.py": """\
import math

math.harness_trial = lambda value: value
""",
    "funasr/models/compiled.py": """\
class jit:
    script = staticmethod(lambda target: target)


@jit.script
def export(value):
    return value + 1


@jit.script
class Exported:
    def forward(self, value):
        return value + 3
""",
    "funasr/models/lazy.py": """\
STEP = 5


def step(value):
    return value + STEP
""",
    "funasr/models/defaults.yaml": "gain: 7\n",
    "funasr/models/model.py": """\
import math
import os

import funasr.models.compiled
import funasr.models.patches
from funasr.models.layers import twice
from funasr.register import tables


def rare(value):
    return value + 100


@tables.register("model_classes", "Model")
class Model:
    @twice
    def forward(self, value):
        with open(os.path.join(os.path.dirname(__file__), "defaults.yaml")) as file:
            gain = int(file.read().partition(":")[2])
        encoder = tables.encoder_classes["Encoder"]()
        if value > 10:
            value = rare(value)
        from funasr.models.lazy import step

        try:
            import funasr.models.extension
        except ImportError:
            pass
        return math.harness_trial(step(encoder.encode(value)) + gain)
""",
}

_CELL = """\
import json, sys
from harness.worker.record import code_used
from harness.worker.release import importer
folder, components, order, value = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
code_used.begin(folder)
importer.remember(folder, importer.FullImport(tuple(map(tuple, order))))
importer.import_components_only(folder, "1.4.16")
components = [tuple(pair) for pair in components]
importer.import_components(folder, components)
from funasr.register import tables
answer = tables.model_classes["Model"]().forward(value)
used = {**code_used.so_far(), "registry": [importer.import_order(folder, components)]}
print(json.dumps({"answer": answer, "used": used}))
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A cell that ran."""

    answer: int
    used: Mapping[str, Any]


def lay_out(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """A release of these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def changed(folder: Path, name: str, before: str, after: str, *, to: Path) -> Path:
    """A copy of a release in which one text stands in place of another; an empty `before` stands for the end."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("__pycache__"))
    path = to / name
    text = path.read_text("utf-8") if path.exists() else ""
    assert before in text, f"{name} does not hold {before!r}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.replace(before, after, 1) if before else text + after, encoding="utf-8")
    return to


def published(folders: Mapping[str, Path]) -> dict[str, Release]:
    """The releases that lie in these folders."""
    return {label: Release(label=label, version=label, kind="wheel", filename="", sha256="") for label in folders}


def plan_of(
    cells: Sequence[Cell],
    folders: Mapping[str, Path],
    workspace: Path,
    request_for: Callable[[Cell], Mapping[str, object]],
    *,
    jobs: int = 1,
    order_for: Callable[[str], Mapping[str, object] | None] = lambda _: None,
) -> Plan:
    """A plan of cells of these releases, by the checks of `inside_reuse`."""

    def release_for(label: str) -> dict[str, object]:
        return {"label": label, "version": label, "install_dir": str(folders[label]), "components": []}

    return build_plan(
        cells,
        Settings(
            workspace=workspace,
            isolated=False,
            jobs=jobs,
            memory_bytes=1 << 30,
            timeout_seconds=dict.fromkeys(Check, 300.0),
            sys_path=(str(Path(__file__).parent),),
            checks_module="inside_reuse",
        ),
        release_for=release_for,
        request_for=lambda cell: {
            "check": cell.check,
            "release": release_for(cell.release),
            "components": COMPONENTS,
            **request_for(cell),
        },
        order_for=order_for,
        imports_first=True,
    )


def run_cell(
    folder: Path, value: int = 1, order: tuple[tuple[str, str, str], ...] = (), python: str = sys.executable
) -> Ran:
    """Run the cell in a process of its own."""
    arguments = [str(folder), json.dumps(COMPONENTS), json.dumps(order), str(value)]
    done = subprocess.run(
        [python, "-B", "-c", _CELL, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Ran(**json.loads(done.stdout.splitlines()[-1]))


def release(folder: Path, order: tuple[tuple[str, str, str], ...] = (), version: str = VERSION) -> ReleaseSeen:
    """A release as the decision sees it."""
    return ReleaseSeen(files=ReleaseFiles(folder, version), order=FullImport(order))


def outcome(ran: Ran, status: Status = Status.PASSED, frames: tuple[Frame, ...] = ()) -> Outcome:
    """The outcome of a cell that ran."""
    failed = Failure(
        type="ValueError", message="", frames=frames, signature="ValueError@funasr/models/model.py:forward"
    )
    return Outcome(
        cell=CELL,
        status=status,
        reason="" if status is Status.PASSED else "it failed",
        failure=failed if frames else None,
        metrics={"parameters": ran.answer},
    )


def fingerprint_of(
    ran: Ran, folder: Path, order: tuple[tuple[str, str, str], ...] = (), made: Callable[[Ran], Outcome] = outcome
) -> Fingerprint:
    """The fingerprint of a cell that ran."""
    return fingerprint(CodeUsed.from_json(ran.used), made(ran), release(folder, order))
