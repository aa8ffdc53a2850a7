"""Trainings by real releases in processes of their own, started as a user starts them, with observers and without.

On a machine without a GPU the releases need compatibility shims: a `sitecustomize` stands for one of the user's own.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import Forked
from user_folders import environment as stack
from user_folders import model_folder, speech, write_jsonl

from harness.core.cells import Dimensions
from harness.releases import default_cache
from harness.watch.launch_environment import environment
from harness.watch.reading import RecordFolder
from harness.watch.records import Record
from harness.worker.trainer.launch import quoted
from harness.worker.trainer.options import trainer_options

ROOT = Path(__file__).parent.parent
TINY = Dimensions.parse("v1200-h64")

USERS_OWN = """\
import sys
if not any("torch/bin" in one or "torchrun" in one for one in sys.argv[:1]):
    from harness.worker.release import shims
    shims.apply("cpu")
    from harness.worker.checks.ranks import _allow_missing_gpus
    _allow_missing_gpus()
"""


@dataclass(frozen=True)
class Watched:
    """One training in a process of its own."""

    status: int
    said: str
    records: tuple[Record, ...]
    """Of all processes, those of a process in their order."""
    files: Mapping[str, tuple[Record, ...]]

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.records if isinstance(one, kind)]


@dataclass(frozen=True)
class TrainingScene:
    """A model folder, rows, and a release."""

    room: Path
    install_dir: Path
    folder: Path

    def command(self, entry: str, *overrides: str, **settings: Any) -> list[str]:
        """The arguments behind `python -m`, as in the release's own script."""
        options = trainer_options(str(self.install_dir), self.install_dir.name.partition("-")[0], entry)
        training = {
            "model_folder": str(self.folder),
            "train": str(self.room / "train.jsonl"),
            "valid": str(self.room / "valid.jsonl"),
            "batch_size": 2,
            "epochs": 1,
            "learning_rate": 0.001,
            "warmup_steps": 4,
            "seed": 1,
            "device": "cpu",
            "output_dir": "exp",
            "in_order": True,
        }
        given = {**options.overrides(training), **settings}
        return [f"funasr.bin.{entry}", *(f"++{name}={quoted(value)}" for name, value in given.items()), *overrides]


def scene(
    forked: Forked, room: Path, install_dir: Path, *, rows: int = 8, variant: str = "paraformer"
) -> TrainingScene:
    """Files in `room` for trainings by the release in `install_dir`."""
    folder = model_folder(forked, install_dir, room / "model", variant=variant, dimensions=TINY)
    write_jsonl(room / "train.jsonl", speech(rows))
    # The corpus may have no more rows: then those of the training validate it.
    write_jsonl(room / "valid.jsonl", speech(4, first=rows) or speech(4))
    site = room / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(USERS_OWN, encoding="utf-8")
    return TrainingScene(room=room, install_dir=install_dir, folder=folder)


def train(
    place: TrainingScene,
    name: str,
    command: Sequence[str],
    *,
    watched: bool = True,
    ranks: int = 1,
    script: bool = False,
) -> Watched:
    """Run `python -m …`, or torchrun with several ranks, in a folder of its own; as a bash script on demand."""
    here = place.room / name
    records = here / "records"
    records.mkdir(parents=True)
    paths = [place.room / "site", *stack().extra_paths, place.install_dir, ROOT]
    base = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
        "PYTHONPYCACHEPREFIX": str(default_cache() / "bytecode"),
    }
    start = [sys.executable, "-m"]
    if ranks > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), "-m"]
    words = [*start, *command]
    if script:
        (here / "finetune.sh").write_text(f"{shlex.join(words)} 2>&1 | tee log.txt\nexit ${{PIPESTATUS[0]}}\n", "utf-8")
        words = ["bash", "finetune.sh"]
    done = subprocess.run(
        words,
        cwd=here,
        env=environment(records, base) if watched else base,
        capture_output=True,
        timeout=300,
        text=True,
        errors="replace",
        check=False,
    )
    files = read_records(records)
    return Watched(
        status=done.returncode,
        said=done.stdout + done.stderr,
        records=tuple(one for records in files.values() for one in records),
        files=files,
    )


def read_records(folder: Path) -> Mapping[str, tuple[Record, ...]]:
    """The records of all processes, by file; no line is damaged."""
    found: dict[str, list[Record]] = {}
    reader = RecordFolder(folder)
    for file, record in reader.read():
        found.setdefault(file, []).append(record)
    assert not any(one.damaged for one in reader.files.values()), [one.first_damage for one in reader.files.values()]
    return {file: tuple(records) for file, records in found.items()}
