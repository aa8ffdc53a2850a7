"""Compatibility shims: named changes that let a release run here; a cell reports those that it made use of.

What a shim excuses is a fault of the release for whoever runs it without: it is noted among the cell's findings.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from harness.worker.release import findings

CUDA_CALLS = "cuda-calls-stay-on-cpu"
"""`.cuda()` gives the tensor or module back: many releases call it in the training forward, GPU or not."""
CUDA_DEVICES = "cuda-devices-mean-cpu"
"""`.to(0)` and `.to("cuda")` mean the CPU: `train_ds.main` sets the trainer's device to an integer, and before 1.1.17
its `warp_model` sends the model to `cuda` whatever device was asked for."""
SOUNDFILE = "soundfile-reads-audio"
"""`torchaudio.load` is answered by soundfile: from 2.9 on torchaudio wants torchcodec for it."""
ALIGNMENT = "forced-alignment-in-python"
"""`torchaudio.functional.forced_align` is answered by `ctc_alignment` where torchaudio's own wants a native
library that is not there."""

PARTIAL_IMPORT = "import-what-is-needed"
"""`funasr/__init__.py` was not run, the needed modules were imported directly."""
WITHOUT_GPUS = "processes-without-gpus"
"""`torch.cuda.set_device` does nothing, and `DistributedDataParallel` gets no device ids: trainers take it for granted
that their processes have GPUs."""
WITHOUT_NATIVE_LIBRARIES = "torchaudio-without-native-libraries"
"""torchaudio is imported from a copy that lacks `lib/*.so`: the harness lays it out, and says so in the request."""

SHIMS = (CUDA_CALLS, CUDA_DEVICES, SOUNDFILE, ALIGNMENT, PARTIAL_IMPORT, WITHOUT_GPUS, WITHOUT_NATIVE_LIBRARIES)
"""All of them; the reports describe each."""

CUDA_IN_FORWARD = "cuda-call-in-forward"
DEVICE_IGNORED = "device-ignored"
"""Codes of what the first two excuse."""

_used: set[str] = set()


def used() -> list[str]:
    """The compatibility shims that took effect in this process so far."""
    return sorted(_used)


def note(name: str) -> None:
    """Record that a compatibility shim took effect."""
    _used.add(name)


def apply(device: str) -> None:
    """Put the compatibility shims in place that a run on `device` may need; on a GPU only those for torchaudio."""
    _read_audio_with_soundfile()
    _align_without_native_library()
    if device == "cpu":
        _ignore_cuda_calls()
        _read_cuda_devices_as_cpu()


def _ignore_cuda_calls() -> None:
    import torch

    def stay(self: Any, *_args: Any, **_kwargs: Any) -> Any:
        _used.add(CUDA_CALLS)
        _note_excused("calls .cuda()")
        return self

    torch.Tensor.cuda = stay
    torch.nn.Module.cuda = stay


def _read_cuda_devices_as_cpu() -> None:
    import torch

    torch.Tensor.to = _to_cpu_for_cuda(torch.Tensor.to)
    torch.nn.Module.to = _to_cpu_for_cuda(torch.nn.Module.to)


def _to_cpu_for_cuda(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and _is_cuda(args[0]):
            _used.add(CUDA_DEVICES)
            _note_excused(f"calls .to({args[0]!r})")
            args = ("cpu", *args[1:])
        elif _is_cuda(kwargs.get("device")):
            _used.add(CUDA_DEVICES)
            _note_excused(f"calls .to(device={kwargs['device']!r})")
            kwargs["device"] = "cpu"
        return original(self, *args, **kwargs)

    return to


def _note_excused(what: str) -> None:
    """Note what the release does, where it is the release that does it."""
    caller = sys._getframe(2)
    frame = findings.release_frame(caller)
    if frame is None:
        return
    place = findings.place_of(frame)
    if findings.in_forward(frame):
        message = f"{place} {what} in the forward pass, whatever device was asked for: without a GPU it ends there."
        findings.note(CUDA_IN_FORWARD, message, place)
    else:
        message = f"{place} {what}, where the CPU was asked for: without a GPU it ends there."
        findings.note(DEVICE_IGNORED, message, place)


def _is_cuda(device: Any) -> bool:
    """Whether `device` names a GPU: an index, a string, or a torch.device; a tensor or dtype in its place does not."""
    if type(device) is int:
        return True
    kind = device if isinstance(device, str) else getattr(device, "type", None)
    return isinstance(kind, str) and kind.partition(":")[0] == "cuda"


def _read_audio_with_soundfile() -> None:
    try:
        import torchcodec  # noqa: F401
    except ImportError:
        pass
    else:
        return
    try:
        import torchaudio
    except (ImportError, OSError):
        return

    def load(uri: Any, *_args: Any, **_kwargs: Any) -> tuple[Any, int]:
        import soundfile
        import torch

        _used.add(SOUNDFILE)
        samples, rate = soundfile.read(uri, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    torchaudio.load = load


def _align_without_native_library() -> None:
    try:
        import torchaudio
    except (ImportError, OSError):
        return
    functional = getattr(torchaudio, "functional", None)
    original = getattr(functional, "forced_align", None)
    if functional is None or original is None:
        return

    @functools.wraps(original)
    def forced_align(log_probs: Any, targets: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(log_probs, targets, *args, **kwargs)
        except RuntimeError as error:
            if "alignment extension" not in str(error):
                raise
        from harness.worker.release import ctc_alignment

        _used.add(ALIGNMENT)
        return ctc_alignment.forced_align(log_probs, targets, blank=kwargs.get("blank", 0))

    functional.forced_align = forced_align
