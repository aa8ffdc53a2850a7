"""Small trainings with something that the harness otherwise keeps from the trainer, and what becomes of them.

- `resume` under `train_conf`, where FunASR's templates have it;
- an `init_param` that does not exist;
- a file of which no row can be trained on.

Each is a fault of the release where it ends in an error that it should not, or in none where it should. None of them
decides the check: what is found is noted among the findings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.checks.checkpoint.condensing import differing
from harness.worker.release import findings
from harness.worker.trainer.children import ChildContext, ChildResult
from harness.worker.trainer.training_run import ReleaseTrainer, TrainingTrace, fingerprint, weights, write_jsonl

Ask = Callable[[str, Callable[[ChildContext], None]], ChildResult]

RESUME = "resume-in-train-conf"
MISSING = "init-param-missing"
NO_ROWS = "training-without-rows"
"""Codes of the findings."""

FAR_TOO_LONG = 10_000_000
"""As `source_len`, in frames of 10 ms: 28 hours, beyond every limit of the samplers."""


def cases(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    """What each of the trainings came to; their faults are noted."""
    return {
        "resume_in_train_conf": _resume(trainer, ask),
        "missing_init_param": _missing(trainer, here, ask),
        "no_rows": _no_rows(trainer, here, ask),
    }


def _resume(trainer: ReleaseTrainer, ask: Ask) -> dict[str, Any]:
    """The sound training, told under `train_conf` what is its default anyhow."""
    answer = ask("resume_in_train_conf", _up_to_first_forward(trainer, {"train_conf.resume": True}))
    if answer.failure:
        signature, message = answer.failure["signature"], answer.failure["message"]
        findings.note(
            RESUME,
            f"++train_conf.resume=true, as FunASR's templates have it, ends in {answer.failure['type']}: {message}",
            signature.partition("@")[2],
        )
    return {"began": bool(answer.value.get("began")), "failure": answer.failure}


def _missing(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    gone = here / "no-such-folder" / "model.pt"
    answer = ask("missing_init_param", _up_to_first_forward(trainer, {"init_param": str(gone)}))
    found = {
        "began": bool(answer.value.get("began")),
        "differs_from_base": answer.value.get("differs"),
        "failure": answer.failure,
        "said": [line[-300:] for line in answer.said.splitlines() if "not exist" in line][:3],
    }
    if found["began"]:
        start = "the parameters that it drew" if found["differs_from_base"] else "the model folder's checkpoint instead"
        said = "prints that it does not exist" if found["said"] else "says nothing of it"
        findings.note(
            MISSING,
            f"With an init_param that does not exist the release {said}, and trains from {start}.",
            "funasr/auto/auto_model.py:AutoModel",
            said=found["said"],
        )
    return found


def _up_to_first_forward(trainer: ReleaseTrainer, words: Mapping[str, Any]) -> Callable[[ChildContext], None]:
    """A training that ends before its first forward pass: whether it came so far, and what it would start from."""

    def run(room: ChildContext) -> None:
        watch = TrainingTrace()

        def stop() -> None:
            given = _base(trainer.folder / "model.pt")
            room.answer = {"began": True, "differs": differing(given, weights(watch.network))}
            room.leave()

        watch.before_forward = stop
        trainer.run(room.path / "exp", watch, **words)

    return run


def _no_rows(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    rows = [json.loads(line) for line in trainer.train.read_text(encoding="utf-8").splitlines() if line]
    file = here / "no_rows.jsonl"
    write_jsonl([{**row, "source_len": FAR_TOO_LONG} for row in rows], file)

    def run(room: ChildContext) -> None:
        watch = TrainingTrace()
        room.answer = watch.seen
        try:
            trainer.run(room.path / "exp", watch, train_data_set_list=str(file))
        finally:
            watch.seen["files"] = sorted(path.name for path in (room.path / "exp").glob("model.pt*"))

    answer = ask("no_rows", run)
    steps, files = len(answer.value.get("learning_rates", ())), answer.value.get("files", [])
    if not answer.failure and not steps:
        saved = f"saves {', '.join(files)}" if files else "saves nothing"
        findings.note(
            NO_ROWS,
            f"Where no row of the file can be trained on, the trainer takes no step, {saved}, and reports no error.",
            trainer.dialect.loop,
            files=files,
        )
    return {"steps": steps, "files": files, "failure": answer.failure}


def _base(path: Path) -> dict[str, str]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: fingerprint(tensor) for name, tensor in state.items()}
