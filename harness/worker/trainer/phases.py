"""What a training step does when, and how much memory it takes there: a tape of the borders between its phases.

A border says what begins at it; that lasts until the next one. So the parts of a step add up to the step by themselves,
whatever a trainer does in between:

- `data`: waiting for the next batch, in torch's own loader (with no workers, reading and collating it);
- `forward`, `backward`: the model's forward pass, and from the loss's gradient to the end of autograd's work;
- `optimizer`: clipping, where the trainer clips, and the optimizer's step;
- `harness`: what the harness itself does at the borders;
- `other`: all else: the batch's way to the GPU, zeroing gradients, logging, validation, checkpoints.

A step lasts from the end of the optimizer's step before it to the end of its own, as in `step_seconds`; the first one
begins at its forward pass and has no data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from harness.worker.trainer.clocks import Clock
from harness.worker.trainer.gradients import MEASURED_FIRST
from harness.worker.trainer.memory import Look

DATA, FORWARD, BACKWARD, OPTIMIZER, HARNESS, OTHER = "data", "forward", "backward", "optimizer", "harness", "other"
PHASES = (DATA, FORWARD, BACKWARD, OPTIMIZER, HARNESS, OTHER)
BEFORE = "before the first step"

WARM_UP_STEPS = MEASURED_FIRST
"""What the first steps take is not what a step takes: memory is asked for, kernels are chosen, the optimizer's state is
made; and the harness looks closer at them than at the later ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Border:
    """Where a phase begins."""

    phase: str
    mark: Any
    memory: Look | None
    """Its peak is that of the phase before; None without a GPU."""


Step = list[Border]
"""From the border at its beginning to the one at its end, which is the next step's first."""


@dataclass
class Phases:
    """Collects the borders of a training."""

    clock: Clock
    look: Callable[[], Look | None]
    steps: list[Step] = field(default_factory=list)
    _open: Step = field(default_factory=list)

    @property
    def current(self) -> str:
        """What goes on now."""
        return self._open[-1].phase if self._open else BEFORE

    @property
    def borders(self) -> Iterator[tuple[int, Border, Border]]:
        """Each phase by its two borders, with the number of its step, counted from 0; unfinished steps too."""
        for number, step in enumerate([*self.steps, self._open]):
            yield from ((number, begin, end) for begin, end in pairwise(step))

    def attach(self, training: Callable[[], bool]) -> None:
        """Watch torch's loaders, as long as `training` says that their batches are trained on."""
        from torch.utils.data import dataloader

        iterator = getattr(dataloader, "_BaseDataLoaderIter", None)
        if iterator is None:
            return
        original = iterator.__next__

        def waited(loader: Any) -> Any:
            if not training():
                return original(loader)
            self.enter(DATA)
            try:
                return original(loader)
            finally:
                self.enter(OTHER)

        iterator.__next__ = waited

    def begin(self, at: float) -> None:
        """The first step begins; what was before is no part of any."""
        self._open = [self._border(HARNESS, at)]

    def enter(self, phase: str) -> None:
        """Here begins a phase; before the first step nothing does."""
        if self._open:
            self._open.append(self._border(phase))

    def end_step(self, at: float) -> None:
        """The step ends, and the next one begins in the hands of the harness."""
        if not self._open:
            return
        last = self._border(HARNESS, at)
        self.steps.append([*self._open, last])
        self._open = [last]

    def watch(self, loss: Any) -> None:
        """See when the backward pass from this loss begins and ends; a loss without a gradient has none."""
        if getattr(loss, "requires_grad", False):
            loss.register_hook(self._backward_begins)

    def _backward_begins(self, _gradient: Any) -> None:
        from torch.autograd import Variable

        self.enter(BACKWARD)
        # What DistributedDataParallel uses to learn that a backward pass is over.
        Variable._execution_engine.queue_callback(lambda: self.enter(OTHER))

    def _border(self, phase: str, at: float | None = None) -> Border:
        return Border(phase=phase, mark=self.clock.mark(at), memory=self.look())

    def figures(self) -> dict[str, Any]:
        """Seconds of each finished step by phase; null where a phase could not be seen."""
        told: dict[str, Any] = {"warmup_steps": WARM_UP_STEPS, "phase_clock": self.clock.name, "phase_seconds": None}
        if self.steps and self.clock.settle():
            seconds = [self._seconds(step) for step in self.steps]
            seen = {border.phase for step in self.steps for border in step}
            told["phase_seconds"] = {
                # A trainer without a loader of torch's has its waiting among the rest.
                name: [one[name] for one in seconds] if name != DATA or DATA in seen else None
                for name in PHASES
            }
        return told

    def _seconds(self, step: Step) -> dict[str, float]:
        seconds = dict.fromkeys(PHASES, 0.0)
        for begin, end in pairwise(step):
            seconds[begin.phase] += self.clock.seconds(begin.mark, end.mark)
        return {name: round(value, 7) for name, value in seconds.items()}
