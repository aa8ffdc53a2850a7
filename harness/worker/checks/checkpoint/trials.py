"""Small trainings with settings that the other trainings avoid.

- `resume` under `train_conf`, where FunASR's templates have it;
- an `init_param` that does not exist;
- a file without a row that can be trained on.

It is a fault of the release if the first raises, or if the others do not. None of them decides the check: each fault is
noted as a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.checks.checkpoint.files import differing
from harness.worker.release import findings
from harness.worker.trainer import launch
from harness.worker.trainer.children import ChildContext, RunChild
from harness.worker.trainer.training_trace import ReleaseTrainer, TrainingTrace, checkpoint_hashes, parameter_hashes

RESUME = "resume-in-train-conf"
MISSING = "init-param-missing"
NO_ROWS = "training-without-rows"
"""Codes of the findings."""

FAR_TOO_LONG = 10_000_000
"""As `source_len`, in frames of 10 ms: 28 hours, beyond every limit of the samplers."""


def trial_cases(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    """The result of each of the trainings; notes a finding for each fault."""
    return {
        "resume_in_train_conf": _resume(trainer, run_child),
        "missing_init_param": _missing(trainer, work_folder, run_child),
        "no_rows": _no_rows(trainer, work_folder, run_child),
    }


def _resume(trainer: ReleaseTrainer, run_child: RunChild) -> dict[str, Any]:
    """The ordinary training, with its default of `resume` stated under `train_conf`."""
    answer = run_child("resume_in_train_conf", _up_to_first_forward(trainer, {"train_conf.resume": True}))
    if answer.failure:
        signature, message = answer.failure["signature"], answer.failure["message"]
        findings.note(
            RESUME,
            f"++train_conf.resume=true, as FunASR's templates have it, ends in {answer.failure['type']}: {message}",
            signature.partition("@")[2],
        )
    return {"began": bool(answer.value.get("began")), "failure": answer.failure}


def _missing(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    missing_file = work_folder / "no-such-folder" / "model.pt"
    answer = run_child("missing_init_param", _up_to_first_forward(trainer, {"init_param": str(missing_file)}))
    observed = {
        "began": bool(answer.value.get("began")),
        "differs_from_base": answer.value.get("differs"),
        "failure": answer.failure,
        "said": [line[-300:] for line in answer.output.splitlines() if "not exist" in line][:3],
    }
    if observed["began"]:
        start = (
            "the parameters that it drew" if observed["differs_from_base"] else "the model folder's checkpoint instead"
        )
        message = "prints that it does not exist" if observed["said"] else "says nothing of it"
        findings.note(
            MISSING,
            f"With an init_param that does not exist the release {message}, and trains from {start}.",
            "funasr/auto/auto_model.py:AutoModel",
            said=observed["said"],
        )
    return observed


def _up_to_first_forward(trainer: ReleaseTrainer, overrides: Mapping[str, Any]) -> Callable[[ChildContext], None]:
    """A training that ends before its first forward pass and records which weights it would start from."""

    def run(context: ChildContext) -> None:
        trace = TrainingTrace()

        def stop() -> None:
            base_hashes = checkpoint_hashes(trainer.folder / "model.pt")
            context.answer = {"began": True, "differs": differing(base_hashes, parameter_hashes(trace.network))}
            context.leave()

        trace.before_forward = stop
        trainer.run(context.path / "exp", trace, **overrides)

    return run


def _no_rows(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    rows = launch.read_rows(str(trainer.train))
    file = work_folder / "no_rows.jsonl"
    launch.write_rows([{**row, "source_len": FAR_TOO_LONG} for row in rows], file)

    def run(context: ChildContext) -> None:
        trace = TrainingTrace()
        context.answer = trace.seen
        try:
            trainer.run(context.path / "exp", trace, train_data_set_list=str(file))
        finally:
            trace.seen["files"] = sorted(path.name for path in (context.path / "exp").glob("model.pt*"))

    answer = run_child("no_rows", run)
    steps, files = len(answer.value.get("learning_rates", ())), answer.value.get("files", [])
    if not answer.failure and not steps:
        saved = f"saves {', '.join(files)}" if files else "saves nothing"
        findings.note(
            NO_ROWS,
            f"Where no row of the file can be trained on, the trainer takes no step, {saved}, and reports no error.",
            trainer.trainer_options.loop,
            files=files,
        )
    return {"steps": steps, "files": files, "failure": answer.failure}
