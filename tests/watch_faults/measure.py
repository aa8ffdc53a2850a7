"""Running the trainings of the catalogue under `funasr-harness watch`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from user_folders import environment as stack
from watched_scene import ROOT, TrainingScene

from harness.core.cells import Severity
from harness.releases import default_cache
from watch_faults.catalogue import Change, Training

LIMIT_SECONDS = 400
_METRICS = "funasr/train_utils/checkpoint_metrics.py"
WITHOUT_GPU = (
    Change(file=_METRICS, old=", device=device)", new=")", every=True),
    Change(file=_METRICS, old=", device=trainer.device)", new=")", every=True),
)
"""For several processes without a GPU: the trainer's device is the number of one."""
RANDOM = "random.pt"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What `watch` said of one training."""

    training: Training
    found: Mapping[str, Severity]
    status: int
    """Of `watch`."""
    seconds: float
    record: Mapping[str, Any]

    @property
    def caught(self) -> bool:
        """Whether an expected rule was named with its severity; of a sound one, whether nothing above minor was."""
        if not self.training.expected:
            return all(one is Severity.MINOR for one in self.found.values()) and self.status == 0
        return any(self.found.get(rule) is severity for rule, severity in self.training.expected)


def write_rows(room: Path) -> None:
    """The faulty row files, made of the sound one."""
    rows = [json.loads(line) for line in (room / "train.jsonl").read_text("utf-8").splitlines()]
    faulty = {
        "unknown.jsonl": [{**row, "target": "☃" * len(row["target"])} for row in rows],
        "long.jsonl": [{**row, "source_len": 10**6} for row in rows],
        "missing.jsonl": [*rows[:3], {**rows[3], "source": str(room / "no-such.wav")}, *rows[4:]],
    }
    for name, content in faulty.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (room / name).write_text(text, encoding="utf-8")


def pretrain(scene: TrainingScene) -> None:
    """Train the scene's model until it knows its rows, and make that its checkpoint; the random one is kept beside."""
    shutil.copy(scene.folder / "model.pt", scene.room / RANDOM)
    training = Training(
        name="pretraining",
        overrides=("++train_conf.max_epoch=60", "++optim_conf.lr=0.003", "++scheduler_conf.warmup_steps=50"),
    )
    outcome = run(scene, training)
    assert outcome.record["ranks"][0]["last_loss"] < 1.0, outcome.record
    shutil.copy(scene.room / "pretraining" / "exp" / "model.pt", scene.folder / "model.pt")


def changed_release(scene: TrainingScene, changes: Sequence[Change], place: Path) -> Path:
    """A copy of the release in which files are changed."""
    if not changes:
        return scene.install_dir
    shutil.copytree(scene.install_dir, place)
    for change in changes:
        path = place / change.file
        text = path.read_text("utf-8")
        assert change.old in text, f"{change.file} has no {change.old!r}"
        assert change.every or text.count(change.old) == 1, f"{change.file}: {text.count(change.old)} × {change.old!r}"
        path.unlink()
        path.write_text(text.replace(change.old, change.new), encoding="utf-8")
    return place


def folder_of(room: Path, training: Training) -> Path:
    """The training's own folder."""
    return room / training.name.replace(" ", "-").replace("/", "-").replace(",", "").replace("'", "")


def run(scene: TrainingScene, training: Training) -> Outcome:
    """Watch one training in a folder of its own below the scene's room."""
    here = folder_of(scene.room, training)
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    changes = (*training.changes, *WITHOUT_GPU) if training.ranks > 1 else training.changes
    install_dir = changed_release(scene, changes, here / "release")
    if (scene.room / RANDOM).exists():
        shutil.copy(scene.room / RANDOM, here / RANDOM)
    (here / "finetune.sh").write_text(script(scene, training), encoding="utf-8")
    paths = [scene.room / "site", *stack().extra_paths, install_dir, ROOT]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "harness", "watch", "-o", "watched", *training.options, "--", "bash", "finetune.sh"],
        cwd=here,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": "1",
            "PYTHONPYCACHEPREFIX": str(default_cache() / "bytecode"),
        },
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_SECONDS,
        check=False,
    )
    (here / "said.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    record = json.loads((here / "watched" / "report.json").read_text("utf-8"))
    return Outcome(
        training=training,
        found={one["rule"]: Severity(one["severity"]) for one in record["findings"]},
        status=done.returncode,
        seconds=time.monotonic() - began,
        record=record,
    )


def script(scene: TrainingScene, training: Training) -> str:
    """A `finetune.sh`: what comes before, the trainer with its arguments, what comes after."""
    settings: dict[str, Any] = {"train_data_set_list": str(scene.room / training.rows)}
    words = [*scene.command(training.entry, **settings)[1:], *training.overrides]
    start = '"$PYTHON" ' + shlex.join(training.python)
    if training.ranks > 1:
        start += f" -m torch.distributed.run --standalone --nproc_per_node {training.ranks}"
        # There is no GPU, and so no NCCL.
        words.append("++backend=gloo")
    call = f'{start} -m funasr.bin.{training.entry} "$@"'
    lines = [f"set -- {shlex.join(words)}", training.before, f"{call} &\n{training.after}" if training.after else call]
    return "\n".join(filter(None, lines)) + "\n"
