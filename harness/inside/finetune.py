"""The `finetune` check: the release's own trainer, driven by the command line that its finetune.sh gives it."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.inside import dialects, failures, memory, model, release
from harness.inside.observe import Observer


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tune a seeded checkpoint for a few epochs and report what was seen; whether it learned is judged outside."""
    overlay, entry = request["release"]["overlay"], request["entry"]
    if not (Path(overlay) / "funasr" / "bin" / f"{entry}.py").exists():
        return {"status": "skipped", "reason": f"the release ships no funasr/bin/{entry}.py"}
    model_class = _enter_whole(overlay, request["model_class"])
    dialect = dialects.of(overlay, request["release"]["version"], entry)
    training = _lay_out(request, Path.cwd())
    observer = Observer(meter=memory.meter(request["device"]))
    observer.attach(model_class)
    ending: dict[str, Any] = {"status": "passed", "reason": ""}
    try:
        _run_trainer(entry, dialect.overrides(training))
    except (Exception, SystemExit) as error:
        ending = _stopped(error, overlay)
    data, settings = request["data"], request["finetune"]
    metrics = observer.metrics(request["groups"], data["frame_seconds"])
    unchanged = metrics.pop("parameters_unchanged")
    for name, epochs in (("asked", settings["epochs"]), ("expected", dialect.epochs_run(settings["epochs"]))):
        metrics[f"steps_{name}"] = dialects.steps(data["utterances"], settings["batch_size"], epochs)
    evidence = {
        "entry_is_native": entry == dialect.native_entry,
        "dialect": list(dialect.notes),
        "parameters_unchanged": unchanged[:20],
        "saved": sorted(path.name for path in Path(training["output_dir"]).glob("model.pt*")),
    }
    return {**ending, "metrics": metrics, "evidence": evidence}


def _enter_whole(overlay: str, name: str) -> Any:
    """The model's class, in the release as a user's training job has it: imported whole."""
    if release.is_partial() or not release.is_entered(overlay):
        release.enter_wholly(overlay)
    from funasr.register import tables

    model_class = tables.model_classes.get(name)
    if model_class is None:
        raise release.NotInRelease(f"the release has no model {name!r}")
    return model_class


def _lay_out(request: Mapping[str, Any], here: Path) -> dict[str, Any]:
    """Model folder with a seeded checkpoint, and the output folder, of this cell alone."""
    import torch

    folder = here / "model"
    shutil.copytree(request["model_folder"], folder)
    network, _ = model.build(str(folder), "cpu", request["seed"])
    torch.save(network.state_dict(), folder / "model.pt")
    return {
        **request["finetune"],
        "device": request["device"],
        "precision": request["precision"],
        "seed": request["seed"],
        "model_folder": str(folder),
        "train": request["data"]["train"],
        "valid": request["data"]["valid"],
        "output_dir": str(here / "exp"),
    }


def _run_trainer(entry: str, overrides: Mapping[str, Any]) -> None:
    """`python funasr/bin/train.py ++model=… …`, in this process so that its hooks can watch."""
    module = importlib.import_module(f"funasr.bin.{entry}")
    sys.argv = [f"{entry}.py", *(f"++{name}={_quoted(value)}" for name, value in overrides.items())]
    module.main_hydra()


def _quoted(value: Any) -> str:
    """A value as hydra's grammar reads it back unchanged; there a backslash means itself unless a quote follows."""
    if not isinstance(value, str):
        return str(value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _stopped(error: BaseException, overlay: str) -> dict[str, Any]:
    if isinstance(error, SystemExit) and not error.code:
        return {"status": "passed", "reason": ""}
    failure = failures.describe(error, overlay)
    kind, _, place = failure["signature"].partition("@")
    return {
        "status": failures.status_of(error, overlay),
        "reason": f"{kind} in {place}: {failure['message'] or 'no message'}",
        "failure": failure,
    }
