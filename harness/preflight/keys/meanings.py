"""Words that mean something else than they say."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.keys.reading import Reading
from harness.preflight.settings import Setting
from harness.worker.trainer.options import trainer_options

LOOKS_LIKE_TOKENS = 1000
STEEP = 0.1
"""Adam moves every weight by up to the learning rate in each step."""


def other_meanings(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    """Findings about settings that are read and mean something else."""
    yield from _batch_type(inputs)
    yield from _token_length(inputs, reading)
    yield from _half(inputs, reading)
    yield from _epochs(inputs, reading, entry)
    yield from _ranking(inputs, reading)
    yield from _lora(inputs, reading)
    yield from _rate(inputs)


def _set(inputs: Inputs, path: str) -> Setting | None:
    return inputs.settings.by_path.get(path)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _batch_type(inputs: Inputs) -> Iterator[PreflightFinding]:
    kind = _set(inputs, "dataset_conf.batch_type")
    if kind and kind.from_command and kind.value not in {None, "example", "token", "length"}:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="batch-type-unknown",
            message=f"no sampler knows batch type {str(kind.value)[:40]!r}: all but `example` count frames, not rows",
            place=kind.place,
            evidence=(f"dataset_conf.batch_size is {inputs.settings.get('dataset_conf.batch_size')}",),
            remedy="write `++dataset_conf.batch_type=example` for rows, or `token` for frames",
        )


def _token_length(inputs: Inputs, reading: Reading) -> Iterator[PreflightFinding]:
    limit = _set(inputs, "dataset_conf.max_token_length")
    if limit is None or not limit.from_command or not _is_number(limit.value) or not reading.is_read(limit.path):
        return
    if 0 < limit.value < LOOKS_LIKE_TOKENS:
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="token-length-unit",
            message="`dataset_conf.max_token_length` limits source_len + target_len, frames of 10 ms and characters: "
            f"with {limit.value} no row longer than {limit.value / 100:g} s is trained on",
            place=limit.place,
            evidence=(f"read at {reading.read[limit.path].where}",) if limit.path in reading.read else (),
            remedy=f"write `++dataset_conf.max_target_length={limit.value}` if tokens of the text are meant",
        )


def _half(inputs: Inputs, reading: Reading) -> Iterator[PreflightFinding]:
    for name in ("fp16", "bf16"):
        setting = _set(inputs, name)
        if setting and setting.from_command and setting.value is True and name in reading.read:
            yield PreflightFinding(
                severity=Severity.WRONG,
                rule="half-precision-weights",
                message=f"`{name}` turns the weights themselves to half precision, as for recognition: "
                "mixed precision has another key",
                place=setting.place,
                evidence=(f"read at {reading.read[name].where}",),
                remedy=f"write `++train_conf.use_{name}=true`",
            )


def _epochs(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    epochs = _set(inputs, "train_conf.max_epoch")
    if epochs and epochs.from_command and _is_number(epochs.value) and reading.is_read(epochs.path):
        options = trainer_options(str(inputs.install_dir), inputs.release.version, entry)
        if options.extra_epoch:
            yield PreflightFinding(
                severity=Severity.MINOR,
                rule="one-more-epoch",
                message=f"FunASR {inputs.release.version} trains {epochs.value + 1} epochs where `max_epoch` is "
                f"{epochs.value}",
                place=epochs.place,
                evidence=(f"the loop in {options.loop} ends after max_epoch",),
                remedy=f"write `++train_conf.max_epoch={epochs.value - 1}` for {epochs.value} epochs",
            )


def _ranking(inputs: Inputs, reading: Reading) -> Iterator[PreflightFinding]:
    kind = _set(inputs, "train_conf.avg_keep_nbest_models_type")
    if kind and reading.is_read(kind.path) and kind.value not in {"acc", "loss"}:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="ranking-unknown",
            message=f"checkpoints are ranked by `acc` or `loss`, not by {str(kind.value)[:40]!r}: "
            "saving the first one ends the training with an AttributeError",
            place=kind.place,
            remedy="write `++train_conf.avg_keep_nbest_models_type=loss`, or `acc`",
        )
    keep, average = (inputs.settings.get(f"train_conf.{key}") for key in ("keep_nbest_models", "avg_nbest_model"))
    both = isinstance(keep, int) and isinstance(average, int) and not isinstance(keep, bool)
    if both and 0 < keep < average and reading.is_read("train_conf.keep_nbest_models"):
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="average-of-fewer",
            message=f"the average is of {keep} checkpoints and not of {average}, for no more are kept",
            place=inputs.settings.place("train_conf.keep_nbest_models"),
            remedy=f"write `++train_conf.keep_nbest_models={average}`",
        )


def _lora(inputs: Inputs, reading: Reading) -> Iterator[PreflightFinding]:
    setting = _set(inputs, "lora_only")
    if setting is None or not setting.value or not reading.is_read("lora_only"):
        return
    others = [s for s in inputs.settings if "lora" in s.path and not s.path.startswith("lora_") and s.value]
    if not others:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="lora-without-layers",
            message="`lora_only` freezes all but LoRA's weights, and no setting gives the model any: "
            "nothing is left to train, and the backward pass raises a RuntimeError",
            place=setting.place,
            remedy="set `lora_list` and `lora_rank` in encoder_conf and decoder_conf, or leave `lora_only` out",
        )


def _rate(inputs: Inputs) -> Iterator[PreflightFinding]:
    rate, warmup = _set(inputs, "optim_conf.lr"), _set(inputs, "scheduler_conf.warmup_steps")
    adam = str(inputs.settings.get("optim", "adam")) in {"adam", "adamw"}
    scaled = str(inputs.settings.get("scheduler", "warmuplr")) in {"noamlr", "custom_lambdalr", "lambdalr"}
    if rate and adam and not scaled and _is_number(rate.value) and rate.value >= STEEP:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="learning-rate-steep",
            message=f"a learning rate of {rate.value} moves every weight by up to as much in each step of Adam: "
            "what was pretrained is gone after a few",
            place=rate.place,
            remedy="write `++optim_conf.lr=0.0002`, as FunASR's own script does",
        )
    if warmup and _is_number(warmup.value) and 0 < warmup.value < 1:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="warmup-share",
            message=f"`scheduler_conf.warmup_steps` counts steps: {warmup.value} is no share of the training, "
            "and the learning rate falls from the first step on",
            place=warmup.place,
            remedy="write a number of optimizer steps",
        )
