"""The features that a training makes against those that its checkpoint was trained with.

The base's config tells them where it is at hand: the folder's own where its own checkpoint is in force and the command
changes the frontend, or the config of the folder of `init_param`. The checkpoint itself tells their size, in
the shapes of its first layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight.command import TrainingCommand
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.config_file import config_of
from harness.preflight.folder.file_kinds import exists
from harness.preflight.folder.model_files import START, files_in_force
from harness.preflight.inputs import Inputs
from harness.preflight.settings import SettingsInForce, read_config
from harness.preflight.weights.tensor_fates import ModelTensor, TensorFates, share

_FBANK = frozenset({"WavFrontend", "WavFrontendOnline"})
"""Both compute the same features, with the same parameters and defaults."""
_DEFAULTS: dict[str, Any] = {
    "fs": 16000,
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 1,
    "lfr_n": 1,
    "window": "hamming",
    "upsacle_samples": True,
}
"""Of `funasr/frontends/wav_frontend.py`, with upstream's spelling."""


def check_frontend(inputs: Inputs) -> Iterator[PreflightFinding]:
    """Features that differ from those in the config of the checkpoint in force."""
    start = files_in_force(inputs).named.get(START)
    if start is None or not exists(start.path):
        return
    base_file = _base_config(inputs, start.path)
    base = inputs.config if base_file == inputs.config_file else _read(base_file)
    kinds = base.get("frontend"), inputs.settings.get("frontend")
    if not all(isinstance(kind, str) for kind in kinds):
        return
    if not _FBANK.issuperset(kinds):
        if kinds[0] != kinds[1]:
            yield _of_another_kind(inputs, base_file, kinds)
        return
    differing = [
        (key, old_value, now)
        for key in _DEFAULTS
        if _plain(old_value := _value(base, key)) and _plain(now := _value(inputs.settings, key)) and old_value != now
    ]
    if differing:
        yield _differing(inputs, base, base_file, differing)


def _base_config(inputs: Inputs, start: Path) -> Path:
    """The config of the checkpoint's folder."""
    folder = start.parent
    if _same(folder, inputs.model):
        return inputs.config_file
    return config_of(folder, TrainingCommand(), install_dir=inputs.install_dir, root=inputs.root)


def _same(first: Path, second: Path) -> bool:
    try:
        return first.resolve() == second.resolve()
    except (OSError, RuntimeError):
        return first == second


def _read(path: Path) -> SettingsInForce:
    try:
        return read_config(path)
    except InputError:
        return SettingsInForce()


def _value(settings: SettingsInForce, key: str) -> Any:
    return settings.get(f"frontend_conf.{key}", _DEFAULTS[key])


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and "${" not in str(value)


def _of_another_kind(inputs: Inputs, base_file: Path, kinds: Sequence[Any]) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.WRONG,
        rule="frontend-not-the-checkpoints",
        message=f"the checkpoint was trained with features of {kinds[0]}, and the training makes those of {kinds[1]}",
        place=inputs.settings.place("frontend"),
        evidence=(f"frontend: {kinds[0]} in {base_file}",),
        remedy=f"++frontend={kinds[0]}, with the frontend_conf of {base_file.parent.name}",
    )


def _differing(
    inputs: Inputs, base: SettingsInForce, base_file: Path, differing: Sequence[tuple[str, Any, Any]]
) -> PreflightFinding:
    differences = ", ".join(f"{key} {old_value}, here {now}" for key, old_value, now in differing)
    frames = _frame(base), _frame(inputs.settings)
    rate = f"; a frame each {frames[0]:g} ms, here each {frames[1]:g} ms" if frames[0] != frames[1] else ""
    return PreflightFinding(
        severity=Severity.WRONG,
        rule="frontend-not-the-checkpoints",
        message=f"the checkpoint was trained with other features ({differences}{rate}): it hears what it never learned",
        place=inputs.settings.place(f"frontend_conf.{differing[0][0]}"),
        evidence=(f"trained with: {base_file}",),
        remedy=" ".join(f"++frontend_conf.{key}={old_value}" for key, old_value, _ in differing),
        count=len(differing),
    )


def _frame(settings: SettingsInForce) -> float:
    """Milliseconds from one frame of the encoder to the next."""
    shift, skipped = _value(settings, "frame_shift"), _value(settings, "lfr_n")
    return float(shift) * float(skipped) if isinstance(shift, int | float) and isinstance(skipped, int | float) else 0.0


def differ_in_features(fates: TensorFates, tensors: Sequence[ModelTensor]) -> dict[int, list[ModelTensor]]:
    """By the checkpoint's feature size, the tensors that have another one in the model, and nothing else."""
    by_size: dict[int, list[ModelTensor]] = {}
    for tensor in tensors:
        sizes = _other_sizes(tensor, fates.features)
        if len(sizes) == 1:
            by_size.setdefault(sizes.pop(), []).append(tensor)
    return by_size


def _other_sizes(tensor: ModelTensor, features: int | None) -> set[int]:
    """The checkpoint's sizes where the model has the feature size; none where anything else differs."""
    if tensor.found_shape is None or len(tensor.found_shape) != len(tensor.shape):
        return set()
    pairs = [(old_size, now) for old_size, now in zip(tensor.found_shape, tensor.shape, strict=True) if old_size != now]
    return {old_size for old_size, _ in pairs} if all(now == features for _, now in pairs) else set()


def of_another_size(
    inputs: Inputs, fates: TensorFates, size: int, tensors: Sequence[ModelTensor], place: Place
) -> PreflightFinding:
    """First layers that take features of another size than the frontend makes."""
    mels, stacked = _value(inputs.settings, "n_mels"), _value(inputs.settings, "lfr_m")
    part = share(fates.parameters, tensors)
    features_made = f"{fates.features}"
    if inputs.settings.get("frontend") in _FBANK and _plain(mels) and _plain(stacked):
        features_made += f" (n_mels {mels} × lfr_m {stacked})"
    return PreflightFinding(
        severity=Severity.WRONG,
        rule="features-not-the-checkpoints",
        message=(
            f"the checkpoint takes features of size {size} and the frontend makes {features_made}: {len(tensors)} "
            "tensors of "
            f"the first layers are newly initialised, silently: {part:.1%} of the parameters"
        ),
        place=place,
        evidence=tuple(
            f"{tensor.name}: {list(tensor.found_shape or ())} in the checkpoint, {list(tensor.shape)} in the model"
            for tensor in tensors[:4]
        ),
        remedy=_sizes(size, mels, stacked),
        count=len(tensors),
    )


def _sizes(size: int, mels: Any, stacked: Any) -> str:
    if isinstance(mels, int) and mels > 0 and size % mels == 0:
        return f"++frontend_conf.lfr_m={size // mels}, as the model's own config.yaml has it; compare lfr_n too"
    if isinstance(stacked, int) and stacked > 0 and size % stacked == 0:
        return f"++frontend_conf.n_mels={size // stacked}, as the model's own config.yaml has it"
    return "use the frontend_conf of the config.yaml that belongs to the checkpoint"
