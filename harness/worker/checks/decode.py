"""The `decode` check: trained until it knows a few utterances, saved, loaded anew, and asked for their text.

The training is the release's own, and so are loading and decoding. Each happens in a process of its own, so that
nothing but files goes from one to the next. How good the text is, is judged outside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.release import entry as release
from harness.worker.release.loading import by_config, documented
from harness.worker.trainer import launch
from harness.worker.trainer.children import ChildContext, ChildResult, in_child
from harness.worker.trainer.speech import few_rows
from harness.worker.trainer.training_run import (
    ReleaseTrainer,
    TrainingTrace,
    lay_out_base,
    lay_out_speech,
    weights,
    write_jsonl,
)

DEFAULTS: Mapping[str, Any] = {
    "steps": 200,
    "utterances": 4,
    "batch_size": 2,
    "learning_rate": 0.001,
    "error_rate": 0.5,
}
WARMUP_STEPS = 20
"""Without a rise of some steps, the rate that makes a small model learn quickly makes it diverge."""
CHUNKS: Mapping[str, Any] = {"chunk_size": [0, 10, 5], "encoder_chunk_look_back": 4, "decoder_chunk_look_back": 1}
"""As in examples/industrial_data_pretraining/paraformer_streaming/demo.py: 600 ms each, 300 ms of what follows."""
SAMPLES_OF_FRAME = 960
"""Of one stacked frame of 60 ms at 16 kHz; the demo cuts by it."""
OUTPUT = "exp"
MOST_NAMES = 20


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Train, load, decode; the metrics hold what was said and what the model, trained and untrained, makes of it."""
    overlay, entry, here = request["release"]["overlay"], request["entry"], Path.cwd()
    release.require_entry(overlay, entry)
    settings = {**DEFAULTS, **request.get("settings", {})}
    trainer, rows = _trainer(request, settings, here)
    output, device = here / "train" / OUTPUT, request["device"]

    if device == "cpu":
        # Once for all children. On a GPU each child imports for itself: what has looked for one cannot be forked from.
        launch.enter_whole(overlay, request["model_class"])

    def lay_out(_room: ChildContext) -> None:
        lay_out_base(request["model_folder"], trainer.folder, request["seed"], dither=True)

    def train(room: ChildContext) -> None:
        watch = TrainingTrace(seeds_batches=False)
        room.answer = watch.seen
        trainer.run(output, watch)
        if watch.network is not None:
            watch.seen["last_weights"] = weights(watch.network)
            watch.seen["config_in_force"] = watch.configuration()

    def load(room: ChildContext) -> None:
        auto = documented(output, device)
        room.answer["weights"] = weights(auto.model)
        room.answer["hypotheses"] = [decoded(auto, row["source"]) for row in rows]

    def stay_untrained(room: ChildContext) -> None:
        auto = by_config(output, trainer.folder / "model.pt", device)
        room.answer["hypotheses"] = [decoded(auto, row["source"]) for row in rows]

    dialect = trainer.dialect
    evidence = {"entry_is_native": entry == dialect.native_entry, "dialect": list(dialect.notes)}
    answers: dict[str, ChildResult] = {}
    for name, work in (("base", lay_out), ("train", train), ("load", load), ("untrained", stay_untrained)):
        answers[name] = in_child(here / name, overlay, functools.partial(_entered, trainer, work))
        if answers[name].failure:
            broken = _broken(name, answers[name].failure or {})
            return {**broken, "metrics": _metrics(answers, rows, settings), "evidence": evidence}
    evidence["loaded_as"] = "folder" if (output / "configuration.json").exists() else "config and checkpoint"
    return {"status": "passed", "reason": "", "metrics": _metrics(answers, rows, settings), "evidence": evidence}


def _entered(trainer: ReleaseTrainer, work: Callable[[ChildContext], None], room: ChildContext) -> None:
    launch.enter_whole(trainer.overlay, trainer.model_class)
    work(room)


def decoded(auto: Any, source: str) -> str:
    """What the model's own inference makes of an audio file; chunk by chunk where it is a streaming model."""
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
        found = auto.generate(input=chunk, cache=cache, is_final=last, disable_pbar=True, **CHUNKS)
        pieces += [str(result["text"]) for result in found]
    return "".join(pieces)


def _trainer(
    request: Mapping[str, Any], settings: Mapping[str, Any], here: Path
) -> tuple[ReleaseTrainer, Sequence[Mapping[str, Any]]]:
    """One long epoch over the same few utterances: what is saved is saved once."""
    recipe = {name: settings[name] for name in ("batch_size", "learning_rate")}
    trainer = ReleaseTrainer.of(request, here, epochs=1, warmup_steps=WARMUP_STEPS, **recipe)
    rows = lay_out_speech(few_rows(request), trainer.valid, settings["utterances"])
    times = -(-settings["steps"] * settings["batch_size"] // len(rows))
    write_jsonl([{**row, "key": f"{row['key']}-{turn}"} for turn in range(times) for row in rows], trainer.train)
    return trainer, rows


def _metrics(
    answers: Mapping[str, ChildResult], rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    seen, loaded, untrained = (
        answers[name].value if name in answers else {} for name in ("train", "load", "untrained")
    )
    held, ended = loaded.get("weights"), seen.get("last_weights")
    differ = None
    if held is not None and ended is not None:
        differ = [name for name in sorted({*held, *ended}) if held.get(name) != ended.get(name)]
    return {
        "steps": len(seen.get("learning_rates", ())),
        "losses": seen.get("losses", []),
        "config_in_force": seen.get("config_in_force", {}),
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


def _broken(name: str, failure: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(failure)
    status, reason = kept.pop("status"), kept.pop("reason")
    doing = {"load": "loading and decoding it: ", "untrained": "decoding the untrained model: "}.get(name, "")
    return {"status": status, "reason": doing + reason, "failure": kept}
