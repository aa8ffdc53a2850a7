"""Follows one training: forward passes, optimizer steps, validation and epochs become records as they happen."""

from __future__ import annotations

import collections
import os
import time
import weakref
from typing import Any, Callable

from . import phases
from .batches import BatchFacts, BatchObserver
from .configuration import ConfigurationInForce, epoch_number, is_within_epoch, local
from .endings import Endings
from .memory import MemoryMeter
from .network import SHARDED, groups_of, is_compiled, loss_and_stats, unwrapped
from .patches import observe_criterion, observe_forward
from .phases import StepPhases
from .progress import EpochProgress, ValidationProgress
from .saving import SavingObserver
from .scalars import ScalarCopies
from .termination import TerminationObserver
from .unigram import UnigramBaseline, criterion_of
from .writing import ObserverGuard, RecordWriter

_MOST_PENDING = 256
"""Records that wait for a GPU; beyond that the oldest is written without what has not come."""
_END_OF_SENTENCE = 1 << 40
"""Counted as a token of its own: which id it has makes no difference."""


class PendingRecord:
    """A record with numbers that may still be on their way from a GPU."""

    __slots__ = ("event", "fields", "kind", "stamps")

    def __init__(self, kind: str, fields: dict[str, Any], stamps: Any, event: Any) -> None:
        self.kind, self.fields, self.stamps, self.event = kind, fields, stamps, event


class TrainingObserver:
    """What is observed of the training of one model in this process."""

    def __init__(self, writer: RecordWriter, *, own_loop: bool = False) -> None:
        """`own_loop`: the training is none of FunASR's trainer but a loop that calls the observer."""
        self.writer, self.own_loop = writer, own_loop
        self.several = os.environ.get("WORLD_SIZE", "1") != "1"
        """Whether this is one process of several."""
        self.undo: list[Callable[[], Any]] = []
        """What takes the observers out of torch again."""
        self.guard = ObserverGuard(writer)
        self.configuration = ConfigurationInForce()
        self.phases, self.scalars = StepPhases(), ScalarCopies()
        self.batches, self.unigram, self.memory = BatchObserver(), UnigramBaseline(), MemoryMeter()
        self.saving, self.endings = SavingObserver(self), Endings(self)
        self.termination = TerminationObserver()
        self.network: Any = None
        """The model without the wrappers for several processes; held until the end, to compare what was saved."""
        self.wrapped = ""
        self.optimizer: Any = None
        """A weak reference."""
        self.training = own_loop
        """The mode that the trainer set last."""
        self._held: tuple[dict[str, Any], Any] | None = None
        """A step that a loop of somebody's own may still complete."""
        self.inside = False
        """Whether a forward pass of the model is running."""
        self.steps = 0
        self.epoch = 0
        self._begun = False
        """Whether the record of the training has been written."""
        self._device: Any = None
        self._parameters: set[int] = set()
        self._owners: dict[int, bool] = {}
        self._pending: collections.deque[PendingRecord] = collections.deque()
        self._forwards: list[dict[str, Any]] = []
        self._norm: Any = None
        self._bound: float | None = None
        self._clipped = False
        self._scale: Any = None
        self._rates: list[float] = []
        self._target_length = 0
        self._open_epoch: EpochProgress | None = None
        self._validation: ValidationProgress | None = None
        self._evaluating_since: float | None = None
        self.facts: BatchFacts | None = None
        """The batch of the current or the last forward pass."""

    def enter(self, phase: str) -> None:
        """Begin a phase of the step."""
        self.guard("phases", self.phases.enter, phase)

    # The trainer's modes

    def epoch_begins(self, module: Any, frame: Any) -> None:
        """The trainer has put its model into training mode at the beginning of its batches."""
        first = self.network is None
        self.training = True
        self.guard("validation", self.end_validation)
        number = epoch_number(frame)
        if self._open_epoch is not None and self._open_epoch.number != number:
            self.end_epoch()
        self._forget_gradients()
        if number is not None:
            self.epoch = number
        elif not first:
            self.epoch += 1
        if self._open_epoch is None:
            self._open_epoch = EpochProgress(self.epoch)
        if first:
            self.watch_model(module)
            self.guard("configuration", self.configuration.read, frame)
            self.guard("wrapper", self._find_wrapper, frame)

    def validation_begins(self, frame: Any) -> None:
        """The trainer has put its model into evaluation mode."""
        if not is_within_epoch(frame):
            self.end_epoch()
        self.evaluation_begins()

    def evaluation_begins(self) -> None:
        """Evaluation passes may follow."""
        self.training = False
        self._let_go()
        self._evaluating_since = time.perf_counter()
        self.enter(phases.VALIDATION)

    def validation_ends(self) -> None:
        """The trainer has put its model back into training mode, without a new epoch."""
        self.training = True
        self.guard("validation", self.end_validation)
        self.enter(phases.OTHER)

    def _find_wrapper(self, frame: Any) -> None:
        """DeepSpeed's engine puts the module within it into training mode, and so does not show itself."""
        network, kinds = unwrapped(local(frame, "model"))
        if network is self.network and kinds:
            self.wrapped = kinds

    def watch_model(self, module: Any) -> None:
        """Observe this model from now on."""
        network, kinds = unwrapped(module)
        self.network, self.wrapped = network, kinds
        if not is_compiled(network):
            observe_forward(type(network), self)

    # Forward passes

    def forward_begins(self, training: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pass of the model begins."""
        self.inside = True
        if not training:
            return
        self.enter(phases.OBSERVERS)
        self._let_go()
        self.guard("validation", self.end_validation)
        if not self._begun:
            self._begin()
        if self._clipped:
            # The trainer clipped and took no step: it does so for a norm that is not finite.
            self.guard("steps", self._write_step, True)
            # What its loop said of the step came before this was known.
            self._let_go()
        if self.several and self._open_epoch is not None:
            self.guard("place", self.termination.at, self.epoch, self._open_epoch.batches + 1)
        self.facts = self.guard("batches", self.batches.of_forward, {**dict(enumerate(args)), **kwargs})
        self._target_length = 0
        self.enter(phases.FORWARD)

    def forward_ends(self, training: bool, output: Any) -> None:
        """It has returned `output`."""
        self.inside = False
        loss, stats = loss_and_stats(output)
        if not training:
            self._note_validation(loss, stats)
            return
        self.enter(phases.OBSERVERS)
        self._forwards.append(self._forward(loss, stats))
        if getattr(loss, "requires_grad", False):
            self.guard("phases", self._watch_backward, loss)
        self.enter(phases.OTHER)

    def forward_failed(self) -> None:
        """It has raised an exception."""
        self.inside = False

    def target_seen(self, target: Any) -> None:
        """The model's loss has been given target tokens `[batch, length]` of this padded length."""
        if self.inside and not self._target_length and target.dim() == 2:
            self._target_length = int(target.shape[1])

    def _forward(self, loss: Any, stats: dict[str, Any]) -> dict[str, Any]:
        facts = self.facts or BatchFacts()
        if self._open_epoch is not None:
            self._open_epoch.add(facts)
        self.guard("unigram", self._count_tokens, facts)
        note = self.scalars.note
        return {
            "loss": note(loss),
            "stats": {name: note(value) for name, value in stats.items()},
            "utterances": facts.utterances,
            "frames": facts.frames,
            "tokens": facts.tokens,
            "frames_used": None if facts.frame_lengths is None else sum(facts.frame_lengths),
            "tokens_used": None if facts.token_lengths is None else sum(facts.token_lengths),
        }

    def _count_tokens(self, facts: BatchFacts) -> None:
        ids = facts.token_ids()
        if ids and self._target_length == facts.tokens + 1:
            # Trained on the end of each sentence too, which the texts lack.
            ids += [_END_OF_SENTENCE] * facts.utterances
        self.unigram.add(ids)

    def _watch_backward(self, loss: Any) -> None:
        def begins(_gradient: Any) -> None:
            self.guard("phases", self._backward_begins)

        loss.register_hook(begins)

    def _backward_begins(self) -> None:
        from torch.autograd import Variable

        self.enter(phases.BACKWARD)
        # DistributedDataParallel detects the end of a backward pass in this way, too.
        Variable._execution_engine.queue_callback(lambda: self.enter(phases.OTHER))

    # Steps

    def clipping_begins(self) -> None:
        """The trainer clips gradients."""
        self.enter(phases.OPTIMIZER)

    def clipped(self, norm: Any, bound: Any) -> None:
        """Clipping has returned this norm, for this bound."""
        self.enter(phases.OTHER)
        if self._forwards:
            self._norm, self._bound = self.scalars.note(norm), float(bound)
            self._clipped = True

    def scaling(self, scaler: Any) -> None:
        """A gradient scaler is about to step, or to leave the step out."""
        if scaler.is_enabled():
            self._scale = self.scalars.note(getattr(scaler, "_scale", None))

    def scaled(self, scaler: Any, steps_before: int) -> None:
        """The scaler has returned."""
        if scaler.is_enabled() and self.steps == steps_before and self._forwards:
            self._write_step(True)

    def stepping(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        if not self._is_ours(optimizer):
            return
        if not self._begun:
            # The forward passes of a compiled model are not observed.
            self._begin()
        self.enter(phases.OBSERVERS)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.enter(phases.OPTIMIZER)

    def stepped(self, optimizer: Any) -> None:
        """It has."""
        if self._is_ours(optimizer) and self._begun:
            self.optimizer = weakref.ref(optimizer)
            self._write_step(False)

    def _is_ours(self, optimizer: Any) -> bool:
        """Whether it trains this model; wrappers that shard the parameters are believed."""
        if self.network is None:
            return False
        known = self._owners.get(id(optimizer))
        if known is None:
            self._parameters = self._parameters or {id(parameter) for parameter in self.network.parameters()}
            in_optimizer = (id(parameter) for group in optimizer.param_groups for parameter in group["params"])
            known = self._owners[id(optimizer)] = self.wrapped in SHARDED or any(
                x in self._parameters for x in in_optimizer
            )
        return known

    def _write_step(self, skipped: bool) -> None:
        self.enter(phases.OBSERVERS)
        self.steps += 1
        fields = {
            "step": self.steps,
            "epoch": self.epoch,
            "skipped": skipped,
            "forwards": self._forwards,
            "learning_rates": self._rates,
            "gradient_norm": self._norm,
            "clipped_at": self._bound,
            "scale": self._scale,
            "memory": self.guard("memory", self.memory.read) or {"resident": None},
            "unigram": self.guard("unigram", self.unigram.loss),
            "tokens_seen": self.unigram.tokens,
        }
        if self._open_epoch is not None:
            self._open_epoch.stepped()
        self._forget_gradients()
        self._let_go()
        self._held = fields, self.guard("phases", self.phases.end_step)
        if not self.own_loop:
            self._let_go()
        self.enter(phases.OTHER)

    def _let_go(self) -> None:
        if self._held is not None:
            (fields, stamps), self._held = self._held, None
            self._queue("step", fields, stamps)

    def complete_step(self, loss: Any, stats: dict[str, Any]) -> None:
        """A loop of somebody's own gives the loss and statistics of the step that has just been taken."""
        if self._held is None:
            return
        forwards = self._held[0]["forwards"]
        if not forwards:
            forwards.append(self._forward(None, {}))
        if loss is not None:
            forwards[-1]["loss"] = self.scalars.note(loss)
        forwards[-1]["stats"].update({str(name): self.scalars.note(value) for name, value in stats.items()})
        self._let_go()

    def epoch_numbered(self, number: int) -> None:
        """A loop of somebody's own begins an epoch."""
        self._let_go()
        self.end_epoch()
        self.epoch, self._open_epoch = number, EpochProgress(number)

    def _forget_gradients(self) -> None:
        self._forwards, self._norm, self._bound, self._scale, self._clipped = [], None, None, None, False

    # Epochs and validation

    def _note_validation(self, loss: Any, stats: dict[str, Any]) -> None:
        if self._validation is None:
            self._validation = ValidationProgress(self._evaluating_since)
        note = self.scalars.note
        noted = {name: note(value) for name, value in stats.items()}
        self._validation.add(note(loss), noted, self._event(), self.scalars)

    def end_validation(self) -> None:
        """Write what the evaluation passes gave, if there were any since the last training pass."""
        if self._validation is None:
            return
        validation, self._validation, self._evaluating_since = self._validation, None, None
        self._queue("validation", {"step": self.steps, "epoch": self.epoch, "progress": validation}, None)

    @property
    def batches_of_epoch(self) -> int | None:
        """Training batches that were begun in the epoch that has not ended; None where none has begun."""
        return None if self._open_epoch is None else self._open_epoch.batches

    def loader_ended(self) -> None:
        """The training's loader has no further batch: from here on this rank may wait for another one that has."""
        if self._open_epoch is not None and self._open_epoch.batches and self.several:
            self.flush()
            fields = {"epoch": self.epoch, "step": self.steps, "batches": self._open_epoch.batches}
            self.writer.write("loader", fields)

    def end_epoch(self) -> None:
        """Write what the epoch's training batches were."""
        epoch, self._open_epoch = self._open_epoch, None
        if epoch is not None and epoch.batches:
            if self.several:
                self.guard("place", self.termination.at, epoch.number, 0)
            self.flush()
            self._queue("epoch", {"epoch": epoch.number, "step": self.steps, **epoch.fields()}, None)

    # Records

    def _queue(self, kind: str, fields: dict[str, Any], stamps: Any) -> None:
        self._pending.append(PendingRecord(kind, fields, stamps, self._event()))
        self.flush()

    def _event(self) -> Any:
        """An event after all copies so far; None on a CPU."""
        if self._device is None:
            return None
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def flush(self, *, wait: bool = False) -> None:
        """Write the records whose numbers have come; with `wait` all of them, unless the GPU is in trouble."""
        while self._pending:
            first = self._pending[0]
            complete = first.event is None or first.event.query()
            if not complete and wait:
                first.event.synchronize()
                complete = True
            if not complete and len(self._pending) <= _MOST_PENDING:
                return
            self._pending.popleft()
            self.writer.write(first.kind, self._resolved(first, complete))

    def give_up_waiting(self) -> None:
        """Write what is pending without the numbers of a GPU that does not answer."""
        while self._pending:
            first = self._pending.popleft()
            self.writer.write(first.kind, self._resolved(first, False))

    def _resolved(self, pending: PendingRecord, complete: bool) -> dict[str, Any]:
        read = self.scalars.read if complete or pending.event is None else self.scalars.discard
        fields = pending.fields
        if pending.kind == "validation":
            progress = fields.pop("progress")
            return {**fields, **progress.fields(self.scalars, complete)}
        if pending.kind == "step":
            fields["forwards"] = [
                {
                    **forward,
                    "loss": read(forward["loss"]),
                    "stats": {name: read(value) for name, value in forward["stats"].items()},
                }
                for forward in fields["forwards"]
            ]
            fields["gradient_norm"], fields["scale"] = read(fields["gradient_norm"]), read(fields["scale"])
            fields["seconds"] = phases.seconds(pending.stamps or [], on_device=complete)
        return fields

    def _begin(self) -> None:
        """At the first training forward pass: what is trained, on what, with which configuration."""
        self._begun = True
        device = next((parameter.device for parameter in self.network.parameters()), None)
        if device is not None and device.type == "cuda":
            import torch

            self._device = device
            self.guard("phases", self.phases.begin, lambda: torch.cuda.Event(enable_timing=True))
        else:
            self.guard("phases", self.phases.begin, None)
        if device is not None:
            self.guard("memory", self.memory.attach, device)
        fields = self.guard("configuration", self._training_fields, device)
        if fields is not None:
            self.writer.write("training", fields)
        self.guard("termination", self.termination.attach, self.writer.path)
        self.guard("checkpoints", self.saving.begin, self.network)

    def _training_fields(self, device: Any) -> dict[str, Any]:
        network, known = self.network, self.configuration
        criterion = criterion_of(network)
        if criterion is not None:
            self.unigram.configure(int(criterion.size), float(criterion.smoothing))
            observe_criterion(type(criterion), self)
        config = known.in_force()
        initialised = config.get("init_param") or ""
        fields = {
            "trainer": known.trainer_name(),
            "entry": known.entry,
            "model": type(network).__name__,
            "device": str(device),
            "wrapped": self.wrapped,
            "in_force": config,
            "output_dir": known.output_dir,
            "batches": known.batches(),
            "rows": known.rows(),
            "first_epoch": self.epoch,
            "groups": groups_of(network),
            "optimizer": known.optimizer,
            "scheduler": known.scheduler,
            "label_smoothing": None if criterion is None else float(criterion.smoothing),
            "normalize_length": None if criterion is None else bool(criterion.normalize_length),
            "vocabulary": _whole_number(getattr(network, "vocab_size", None)),
            "initialised_from": initialised if isinstance(initialised, str) else ", ".join(map(str, initialised)),
        }
        known.release()
        return fields

    def finish(self) -> None:
        """Before the process ends: write what is left."""
        self._let_go()
        self.guard("validation", self.end_validation)
        self.guard("epochs", self.end_epoch)
        self.flush(wait=True)


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) else None
