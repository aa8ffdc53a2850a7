"""The `decode` check: overfit a few utterances, save, load again, and decode them.

Training, loading and decoding are the release's own. Each runs in its own process, so that only files pass from one to
the next. The text is judged outside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.release import importer
from harness.worker.release.model import load_as_documented, load_checkpoint
from harness.worker.trainer import launch
from harness.worker.trainer.children import ChildContext, ChildResult, in_child
from harness.worker.trainer.training_trace import (
    ReleaseTrainer,
    TrainingTrace,
    parameter_hashes,
)

DEFAULTS: Mapping[str, Any] = {
    "steps": 200,
    "utterances": 4,
    "batch_size": 2,
    "learning_rate": 0.001,
    "error_rate": 0.5,
}
WARMUP_STEPS = 20
"""Without warm-up, the learning rate that makes a small model learn quickly makes it diverge."""
CHUNKS: Mapping[str, Any] = {"chunk_size": [0, 10, 5], "encoder_chunk_look_back": 4, "decoder_chunk_look_back": 1}
"""As in examples/industrial_data_pretraining/paraformer_streaming/demo.py: chunks of 600 ms with 300 ms look-ahead."""
SAMPLES_OF_FRAME = 960
"""Samples of one stacked frame of 60 ms at 16 kHz; the demo cuts by it."""
OUTPUT = "exp"
MOST_NAMES = 20


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Train, load and decode; the metrics hold the references and the hypotheses of the trained and untrained model."""
    install_dir, entry, work_folder = request["release"]["install_dir"], request["entry"], Path.cwd()
    importer.require_entry(install_dir, entry)
    settings = {**DEFAULTS, **request.get("settings", {})}
    trainer, rows = _trainer(request, settings, work_folder)
    output, device = work_folder / "train" / OUTPUT, request["device"]

    if device == "cpu":
        # Once for all children. On a GPU each child imports by itself: a process that initialised CUDA cannot fork.
        launch.import_model_class(install_dir, request["model_class"])

    def lay_out(_context: ChildContext) -> None:
        launch.copy_folder(request["model_folder"], trainer.folder, request["seed"])

    def train(context: ChildContext) -> None:
        trace = TrainingTrace(seeds_batches=False)
        context.answer = trace.seen
        trainer.run(output, trace)
        if trace.network is not None:
            trace.seen["last_weights"] = parameter_hashes(trace.network)
            trace.seen["config_in_force"] = trace.configuration()

    def load(context: ChildContext) -> None:
        auto = load_as_documented(output, device)
        context.answer["weights"] = parameter_hashes(auto.model)
        context.answer["hypotheses"] = [decoded(auto, row["source"]) for row in rows]

    def stay_untrained(context: ChildContext) -> None:
        auto = load_checkpoint(output, trainer.folder / "model.pt", device)
        context.answer["hypotheses"] = [decoded(auto, row["source"]) for row in rows]

    trainer_options = trainer.trainer_options
    evidence = {
        "entry_is_native": entry == trainer_options.native_entry,
        "trainer_options": list(trainer_options.notes),
    }
    answers: dict[str, ChildResult] = {}
    for name, work in (("base", lay_out), ("train", train), ("load", load), ("untrained", stay_untrained)):
        answers[name] = in_child(work_folder / name, install_dir, functools.partial(_with_model_class, trainer, work))
        if answers[name].failure:
            broken = _ended_early(name, answers[name].failure or {})
            return {**broken, "metrics": _metrics(answers, rows, settings), "evidence": evidence}
    evidence["loaded_as"] = "folder" if (output / "configuration.json").exists() else "config and checkpoint"
    return {"status": "passed", "reason": "", "metrics": _metrics(answers, rows, settings), "evidence": evidence}


def _with_model_class(trainer: ReleaseTrainer, work: Callable[[ChildContext], None], context: ChildContext) -> None:
    launch.import_model_class(trainer.install_dir, trainer.model_class)
    work(context)


def decoded(auto: Any, source: str) -> str:
    """The text of an audio file by the model's own inference; chunk by chunk for a streaming model."""
    if not hasattr(auto.model, "generate_chunk"):
        return "".join(str(result["text"]) for result in auto.generate(input=source, disable_pbar=True))
    import soundfile

    samples, _rate = soundfile.read(source)
    stride = CHUNKS["chunk_size"][1] * SAMPLES_OF_FRAME
    cache: dict[str, Any] = {}
    pieces = []
    for begin in range(0, len(samples), stride):
        last = begin + stride >= len(samples)
        chunk = samples[begin : begin + stride]
        results = auto.generate(input=chunk, cache=cache, is_final=last, disable_pbar=True, **CHUNKS)
        pieces += [str(result["text"]) for result in results]
    return "".join(pieces)


def _trainer(
    request: Mapping[str, Any], settings: Mapping[str, Any], work_folder: Path
) -> tuple[ReleaseTrainer, Sequence[Mapping[str, Any]]]:
    """One long epoch over the same few utterances, so that the model is saved once."""
    recipe = {name: settings[name] for name in ("batch_size", "learning_rate")}
    trainer = ReleaseTrainer.of(request, work_folder, epochs=1, warmup_steps=WARMUP_STEPS, **recipe)
    rows = launch.shortest_rows(launch.few_rows(request), trainer.valid, settings["utterances"])
    times = -(-settings["steps"] * settings["batch_size"] // len(rows))
    launch.write_rows([{**row, "key": f"{row['key']}-{turn}"} for turn in range(times) for row in rows], trainer.train)
    return trainer, rows


def _metrics(
    answers: Mapping[str, ChildResult], rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    training, loaded, untrained = (
        answers[name].value if name in answers else {} for name in ("train", "load", "untrained")
    )
    loaded_weights, ended = loaded.get("weights"), training.get("last_weights")
    differ = None
    if loaded_weights is not None and ended is not None:
        differ = [name for name in sorted({*loaded_weights, *ended}) if loaded_weights.get(name) != ended.get(name)]
    return {
        "steps": len(training.get("learning_rates", ())),
        "losses": training.get("losses", []),
        "config_in_force": training.get("config_in_force", {}),
        "schedule": {"learning_rate": settings["learning_rate"], "warmup_steps": WARMUP_STEPS},
        "keys": [row["key"] for row in rows],
        "references": [row["target"] for row in rows],
        "hypotheses": loaded.get("hypotheses"),
        "untrained_hypotheses": untrained.get("hypotheses"),
        "error_rate_allowed": settings["error_rate"],
        "weights_tensors": len(ended or ()),
        "weights_differ_count": None if differ is None else len(differ),
        "weights_differ": None if differ is None else differ[:MOST_NAMES],
    }


def _ended_early(name: str, failure: Mapping[str, Any]) -> dict[str, Any]:
    description = dict(failure)
    status, reason = description.pop("status"), description.pop("reason")
    doing = {"load": "loading and decoding it: ", "untrained": "decoding the untrained model: "}.get(name, "")
    return {"status": status, "reason": doing + reason, "failure": description}
