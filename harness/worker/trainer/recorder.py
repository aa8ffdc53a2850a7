"""Observes one training run for its metrics, through hooks; nothing of the trainer is replaced.

Losses and statistics stay tensors until the run is over: reading one earlier would make the GPU wait and would show in
the measured step times. `training_trace.TrainingTrace` differs: it hashes weights and batches to compare two runs bit
by bit, seeds each batch, and measures neither time nor memory.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.worker.release.importer import rebind
from harness.worker.trainer import in_force, memory
from harness.worker.trainer import memory_parts as parts
from harness.worker.trainer.hearing import SpeechInputs
from harness.worker.trainer.log_lines import RETURNED, LogLines
from harness.worker.trainer.memory_parts import MemoryParts
from harness.worker.trainer.parameters import Gradients, ParameterChanges
from harness.worker.trainer.phases import FORWARD, HARNESS, OPTIMIZER, OTHER, IdleTime, Phases
from harness.worker.trainer.targets import Forward, TargetRecorder


@dataclass
class Step:
    """The observations of one optimizer step."""

    losses: list[Any]
    """Losses of the training forward passes since the previous step: scalar tensors."""
    stats: list[Mapping[str, Any]]
    targets: list[Forward]
    epoch: int
    learning_rate: float
    gradient_norm: Any
    """The norm that gradient clipping returned, from before it clipped; None if the trainer does not clip."""
    ended: float
    """`time.perf_counter()` after the step."""
    held: int | None
    """Bytes held after the step: by tensors on the GPU if there is one, else resident bytes of the process."""


@dataclass
class TrainingRecorder:
    """Collects the steps of one training run for the metrics of `finetune`."""

    meter: memory.Meter
    steps: list[Step] = field(default_factory=list)
    validations: int = 0
    started: float | None = None
    samples: int = 0
    largest: tuple[int, int, int] | None = None
    """The batch with most frames: utterances, stacked frames of the longest, tokens of the longest text."""
    frames: list[Any] = field(default_factory=list)
    """Utterance lengths of each forward pass in stacked frames: tensors `[batch]` or `[batch, 1]`."""
    network: Any = None
    forward: Any = None
    """The original forward of the model's class."""
    speech_inputs: SpeechInputs | None = None
    """Collects the utterances that the trainer feeds; None if they are not needed."""
    targets: TargetRecorder = field(default_factory=TargetRecorder)
    gradients: Gradients = field(default_factory=Gradients)
    changes: ParameterChanges = field(default_factory=ParameterChanges)
    log: LogLines = field(default_factory=LogLines)
    idle: IdleTime = field(default_factory=IdleTime)
    parts: MemoryParts = field(default_factory=MemoryParts)
    in_force: in_force.InForce = field(default_factory=in_force.InForce)
    phases: Phases = field(init=False)
    _losses: list[Any] = field(default_factory=list)
    _stats: list[Mapping[str, Any]] = field(default_factory=list)
    _norm: Any = None
    _epoch: int = 0
    _numbered: bool = False
    """Whether the trainer's own number of the epoch was found."""
    _on_cpu: bool = False
    _training: bool = False
    """The mode that the trainer set last."""
    _evaluated: bool = False
    """Whether the trainer switched to evaluation since the last step. Without a number of the epoch, this marks an
    epoch's end: every trainer switches then, even without validation data."""
    _handles: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.phases = Phases(clock=self.meter.clock(), sample_allocator=self.meter.sample_allocator)

    def attach(self, model_class: Any) -> None:
        """Observe the forward passes of `model_class`, optimizer steps and gradient clipping."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        observer, forward = self, model_class.forward
        self.forward = forward

        def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
            if network.training and torch.is_grad_enabled():
                observer._begin(network, args, kwargs)
                observer.phases.enter(FORWARD)
                output = forward(network, *args, **kwargs)
                observer.phases.enter(HARNESS)
                observer._end(output)
                observer.phases.enter(OTHER)
                return output
            observer.validations += 1
            return forward(network, *args, **kwargs)

        model_class.forward = watched
        model_class.train = self._switching(model_class.train)
        self._handles.append(register_optimizer_step_pre_hook(self._stepping))
        self._handles.append(register_optimizer_step_post_hook(self._stepped))
        clip = torch.nn.utils.clip_grad_norm_
        rebind(clip, self._clipping(clip))
        self.phases.attach(lambda: self._training)

    def _begin(self, network: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.phases.enter(HARNESS)
        if self.network is None:
            self.network = network
            self.in_force.read_frames()
            self.changes.attach(network)
            self.targets.attach(network)
            self.gradients.attach(network)
            self.log.attach()
            self.parts.before_first_forward(network)
            self._on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
            self.meter.reset()
            self.started = time.perf_counter()
            self.phases.begin(self.started)
        number = in_force.epoch()
        if number is not None:
            self._epoch, self._numbered = number, True
        elif self._evaluated and self.steps:
            self._epoch += 1
        self._evaluated = False
        if not self._losses:
            self.gradients.before_first_forward()
            if self._on_cpu:
                self.idle.begin()
        speech = kwargs.get("speech", args[0] if args else None)
        self.samples += len(speech) if speech is not None else 0
        self._see_size(speech, kwargs.get("text"))
        self.targets.frames = None
        if "speech_lengths" in kwargs:
            self.targets.frames = kwargs["speech_lengths"].detach()
            self.frames.append(self.targets.frames)
        if self.speech_inputs is not None:
            self.speech_inputs.note(kwargs)

    def _see_size(self, speech: Any, text: Any) -> None:
        """The dimensions of the padded batch, which determine memory."""
        if getattr(speech, "ndim", 0) < 2 or getattr(text, "ndim", 0) != 2:
            return
        size = (int(speech.shape[0]), int(speech.shape[1]), int(text.shape[1]))
        if self.largest is None or size[0] * size[1] > self.largest[0] * self.largest[1]:
            self.largest = size

    def _end(self, output: Any) -> None:
        self._losses.append(output[0].detach())
        self._stats.append({name: _detached(value) for name, value in output[1].items()})
        self.parts.after_forward(len(self.steps))
        self.phases.watch(output[0])

    def _switching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train(network: Any, mode: bool = True) -> Any:
            self._training, self._evaluated = mode, self._evaluated or not mode
            return original(network, mode)

        return train

    def _stepping(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self.phases.enter(HARNESS)
        self.gradients.before_step(optimizer, self._norm)
        self.parts.before_step(len(self.steps))
        self.phases.enter(OPTIMIZER)

    def _stepped(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self.phases.enter(HARNESS)
        if self._on_cpu:
            self.idle.end()
        self.parts.after_step(len(self.steps), optimizer)
        self.steps.append(
            Step(
                losses=self._losses,
                stats=self._stats,
                targets=self.targets.take(),
                epoch=self._epoch,
                learning_rate=float(optimizer.param_groups[0]["lr"]),
                gradient_norm=self._norm,
                ended=time.perf_counter(),
                held=self.meter.held(),
            )
        )
        self.phases.end_step(self.steps[-1].ended)
        self._losses, self._stats, self._norm = [], [], None
        self.meter.sample()
        self.phases.enter(OTHER)

    def _clipping(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip_grad_norm_(*args: Any, **kwargs: Any) -> Any:
            self.phases.enter(OPTIMIZER)
            norm = original(*args, **kwargs)
            self.phases.enter(OTHER)
            self._norm = norm.detach() if hasattr(norm, "detach") else norm
            return norm

        return clip_grad_norm_

    def metrics(self, groups: Mapping[str, Sequence[str]], frame_seconds: float) -> dict[str, Any]:
        """The observations as plain numbers in raw units; null if there are none.

        Args:
            groups: Prefixes of parameter names by group.
            frame_seconds: The shift of one stacked frame: LFR's n times the frame shift.
        """
        losses = [_mean([_number(loss) for loss in step.losses]) for step in self.steps]
        ends = [step.ended for step in self.steps]
        begins = [self.started, *ends[:-1]] if ends else []
        seconds = [end - begin for begin, end in zip(begins, ends, strict=True) if begin is not None]
        by_epoch: dict[int, list[float]] = defaultdict(list)
        for step, loss in zip(self.steps, losses, strict=True):
            if loss is not None:
                by_epoch[step.epoch].append(loss)
        total = sum(seconds)
        audio = sum(float(lengths.cpu().sum()) for lengths in self.frames) * frame_seconds
        return {
            "steps": len(self.steps),
            "epochs": len(by_epoch),
            "losses": losses,
            "epoch_losses": [_mean(values) for _, values in sorted(by_epoch.items())],
            "stats": self._stats_by_name(),
            "steps_of_epochs": [sum(step.epoch == epoch for step in self.steps) for epoch in sorted(by_epoch)],
            **self.targets.metrics([step.targets for step in self.steps]),
            "gradient_norms": [_number(step.gradient_norm) for step in self.steps],
            "learning_rates": [step.learning_rate for step in self.steps],
            "step_seconds": seconds,
            "largest_batch": self.largest and dict(zip(("utterances", "frames", "tokens"), self.largest, strict=True)),
            "held_bytes": [step.held for step in self.steps],
            "samples_per_second": self.samples / total if total else None,
            "audio_seconds_per_second": audio / total if total and audio else None,
            **self.changes.metrics(groups),
            **self.phases.metrics(),
            **parts.metrics(self.parts, self.phases, self.meter.context()),
            "utilisation": self.meter.utilisation(),
            **self.meter.peaks(),
            **({"device": device} if (device := self.meter.device()) else {}),
            "invariants": {
                **self.gradients.metrics(),
                **self.log.metrics(self._forwards()),
                **self._idling(),
                "epochs_numbered": self._numbered,
                "forwards": sum(len(step.losses) for step in self.steps),
                "loss_difference": self._loss_difference(),
            },
        }

    def _idling(self) -> dict[str, list[float | None]]:
        """Empty on a GPU: there the thread waits for the device, as it should."""
        return self.idle.metrics() if self._on_cpu else {}

    def _forwards(self) -> list[dict[str, float | None]]:
        return [
            {**{name: _number(value) for name, value in stats.items()}, RETURNED: _number(loss)}
            for step in self.steps
            for loss, stats in zip(step.losses, step.stats, strict=True)
        ]

    def _loss_difference(self) -> float | None:
        """The largest relative difference between the statistic `loss` and the returned loss."""
        differences = []
        for forward in self._forwards():
            returned, logged = forward[RETURNED], forward.get("loss")
            if returned is not None and logged is not None and returned == returned:
                differences.append(abs(logged - returned) / max(abs(returned), 1e-12))
        return max(differences, default=None)

    def _stats_by_name(self) -> dict[str, list[float | None]]:
        names = {name for step in self.steps for stats in step.stats for name in stats}
        return {
            name: [_mean([_number(stats.get(name)) for stats in step.stats]) for step in self.steps]
            for name in sorted(names)
        }


def _detached(value: Any) -> Any:
    return value.detach() if hasattr(value, "detach") else value


def _number(value: Any) -> float | None:
    if value is None:
        return None
    # On the CPU: a GPU that ran out of memory has none for this either.
    return float(value.cpu().double().mean()) if hasattr(value, "double") else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
