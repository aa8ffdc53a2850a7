"""Compatibility shims: named changes that let a release run here. A cell reports the shims that took effect.

Without the shim a user meets the fault that it hides, so each use is noted among the findings of the cell.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

from harness.worker.release import findings

CUDA_CALLS = "cuda-calls-stay-on-cpu"
"""`.cuda()` returns the tensor or module unchanged: many releases call it in the training forward without a GPU."""
CUDA_DEVICES = "cuda-devices-mean-cpu"
"""`.to(0)` and `.to("cuda")` mean the CPU: `train_ds.main` sets the trainer's device to an integer, and before 1.1.17
its `warp_model` sends the model to `cuda` whatever the configured device."""
SOUNDFILE = "soundfile-reads-audio"
"""`torchaudio.load` reads with soundfile: from 2.9 on torchaudio needs torchcodec."""
ALIGNMENT = "forced-alignment-in-python"
"""`torchaudio.functional.forced_align` uses `align_ctc` if torchaudio's native library is missing."""

PARTIAL_IMPORT = "import-what-is-needed"
"""`funasr/__init__.py` was not run, the needed modules were imported directly; the register does not look up the lines
in which their classes begin."""
WITHOUT_GPUS = "processes-without-gpus"
"""`torch.cuda.set_device` does nothing, and `DistributedDataParallel` gets no device ids: trainers assume that their
processes have GPUs."""
WITHOUT_NATIVE_LIBRARIES = "torchaudio-without-native-libraries"
"""torchaudio is imported from a copy without `lib/*.so`: the harness makes it, and names the shim in the request."""

SHIMS = (CUDA_CALLS, CUDA_DEVICES, SOUNDFILE, ALIGNMENT, PARTIAL_IMPORT, WITHOUT_GPUS, WITHOUT_NATIVE_LIBRARIES)
"""All of them; the reports describe each."""

CUDA_IN_FORWARD = "cuda-call-in-forward"
DEVICE_IGNORED = "device-ignored"
"""Codes of the findings that the first two shims hide."""

_used: set[str] = set()


def used() -> list[str]:
    """The compatibility shims that took effect in this process so far."""
    return sorted(_used)


def note(name: str) -> None:
    """Record that a compatibility shim took effect."""
    _used.add(name)


def apply(device: str) -> None:
    """Install the compatibility shims that a run on `device` may need; on a GPU only those for torchaudio."""
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


def _note_excused(deed: str) -> None:
    """Note the call as a finding if the release's own code made it."""
    caller = sys._getframe(2)
    frame = findings.release_frame(caller)
    if frame is None:
        return
    place = findings.place_of(frame)
    if findings.in_forward(frame):
        message = f"{place} {deed} in the forward pass, whatever device is configured: without a GPU it raises."
        findings.note(CUDA_IN_FORWARD, message, place)
    else:
        message = f"{place} {deed}, although the CPU is configured: without a GPU it raises."
        findings.note(DEVICE_IGNORED, message, place)


def _is_cuda(device: Any) -> bool:
    """Whether `device` names a GPU: an index, a string or a torch.device; not a tensor or dtype in its place."""
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
        _used.add(ALIGNMENT)
        return align_ctc(log_probs, targets, blank=kwargs.get("blank", 0))

    functional.forced_align = forced_align


def align_ctc(log_probs: Any, targets: Any, blank: int = 0) -> tuple[Any, Any]:
    """The most likely CTC path of a text, as `torchaudio.functional.forced_align`; batch of one, Viterbi recursion.

    The text has a blank before, between and after its tokens. Each frame advances by none, one, or two positions; by
    two only over a blank between different tokens (Graves et al. 2006, section 4.1, with max in place of the sum).

    Args:
        log_probs: `[1, frames, classes]`.
        targets: Token ids `[1, tokens]`, without blanks.

    Returns:
        The path `[1, frames]`, and the log probability of each of its positions `[1, frames]`.

    Raises:
        RuntimeError: there are fewer frames than tokens plus the blanks between equal tokens.
    """
    import torch

    scores, tokens = log_probs[0], [int(token) for token in targets[0]]
    if len(scores) < len(tokens) + sum(first == second for first, second in itertools.pairwise(tokens)):
        raise RuntimeError("targets length is too long for CTC")
    places = torch.full((2 * len(tokens) + 1,), blank)
    places[1::2] = torch.tensor(tokens, dtype=places.dtype)
    skips = torch.zeros(len(places), dtype=torch.bool)
    skips[2:] = (places[2:] != blank) & (places[2:] != places[:-2])
    never = torch.tensor(float("-inf"), dtype=scores.dtype)
    best = torch.full((len(places),), float("-inf"), dtype=scores.dtype)
    best[:2] = scores[0, places[:2]]
    came = []
    for frame in scores[1:]:
        by_one = torch.cat([never[None], best[:-1]])
        by_two = torch.where(skips, torch.cat([never.expand(2), best])[: len(best)], never)
        best, steps = torch.stack([best, by_one, by_two]).max(dim=0)
        best = best + frame[places]
        came.append(steps)
    place = len(places) - 1
    if len(places) > 1 and best[-2] > best[-1]:
        place -= 1
    path = [place]
    for steps in reversed(came):
        place -= int(steps[place])
        path.append(place)
    aligned = places[path[::-1]]
    return aligned[None].to(targets.dtype), scores[torch.arange(len(scores)), aligned][None]
