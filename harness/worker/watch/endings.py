"""How the process ends, and what is known of the moment at which a training failed."""

from __future__ import annotations

import atexit
import sys
import traceback
from typing import Any

from .batches import named_utterances
from .memory import parts_of, said_by_torch

_MOST_LINES = 40
_MOST_MESSAGE = 2000
INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class Endings:
    """Follows exceptions and exits of this process; it handles none. `observer` is the `observer.TrainingObserver`."""

    def __init__(self, observer: Any) -> None:
        self._observer = observer
        self._error: BaseException | None = None
        self._failed: BaseException | None = None
        """The exception that the post-mortem is about."""
        self._post_mortem: dict[str, Any] | None = None
        self._status: int | None = None
        self._written_at: int | None = None
        """The step at which the end was written; a training that goes on has not ended."""

    def attach(self) -> None:
        """Observe `sys.exit`, uncaught exceptions and the end of the interpreter."""
        original, hook, guard = sys.exit, sys.excepthook, self._observer.guard

        def exit(status: Any = None) -> Any:
            guard("end", self._exiting, status, sys.exc_info()[1])
            original(status)

        exit.__doc__ = original.__doc__
        sys.exit = exit

        def excepthook(kind: Any, error: Any, trace: Any) -> Any:
            guard("end", self._uncaught, error)
            return hook(kind, error, trace)

        sys.excepthook = excepthook
        atexit.register(self.ended)

    def left_by(self, error: BaseException | None) -> None:
        """The `with` statement around a loop of somebody's own is left, by an exception or at its end."""
        if error is not None:
            self._note(error)
        self.ended()

    def failed(self, error: BaseException) -> None:
        """A step has raised: what memory holds is still there."""
        if self._observer.network is not None and isinstance(error, Exception):
            self._failed = error
            self._post_mortem = self._observer.guard("post_mortem", post_mortem, self._observer, error)

    def _exiting(self, status: Any, handled: BaseException | None) -> None:
        """hydra handles an exception by printing it and by `sys.exit(1)`."""
        self._status = status if isinstance(status, int) else 0 if status is None else 1
        if handled is not None and self._status != 0 and not isinstance(handled, SystemExit):
            self._note(handled)
            self.ended()

    def _uncaught(self, error: BaseException) -> None:
        """Written at once: torchrun ends the other ranks of one that failed while the interpreter still finishes."""
        self._note(error)
        self.ended()

    def _note(self, error: BaseException) -> None:
        self._error = error
        if error is not self._failed:
            self._post_mortem = None
            self.failed(error)

    def ended(self) -> None:
        """The interpreter ends: write what is left."""
        observer = self._observer
        if not observer.writer.begun or self._written_at == observer.steps:
            return
        # What is left to be written ends the epoch.
        batches, failed = observer.batches_of_epoch, self._error is not None
        if failed:
            # First of all: torchrun ends the other ranks of one that failed within a tenth of a second.
            observer.guard("end", self._write_end, batches)
        if not observer.guard("rest", self._write_rest):
            observer.guard("pending", observer.give_up_waiting)
        if not failed:
            observer.guard("end", self._write_end, batches)
        self._written_at = observer.steps
        observer.guard("termination", observer.termination.detach)

    def _write_rest(self) -> bool:
        self._observer.finish()
        return True

    def _write_end(self, batches: int | None) -> None:
        if self._error is None and not self._observer.own_loop:
            uncaught = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
            if uncaught is not None:
                self._note(uncaught)
        error, observer = self._error, self._observer
        ending, status = "finished", self._status
        if isinstance(error, KeyboardInterrupt):
            ending, status = "signal", INTERRUPTED
        elif error is not None:
            ending, status = "exception", 1 if self._status is None else self._status
        elif self._status:
            ending, status = "exit", self._status
        elif observer.steps:
            observer.guard("read_back", observer.saving.read_back)
        observer.writer.write(
            "end",
            {
                "step": observer.steps,
                "epoch": observer.epoch,
                "how": ending,
                "status": status,
                "exception": "" if error is None else name_of(error),
                "traceback": [] if error is None else lines_of(error),
                "post_mortem": None if error is None else self._post_mortem,
                "batches": batches,
            },
        )


def post_mortem(observer: Any, error: BaseException) -> dict[str, Any]:
    """As `records.PostMortem`; torch's message is read for what an allocation wanted."""
    record: dict[str, Any] = {"phase": observer.phases.current}
    facts = observer.batches.last
    if facts is not None:
        record["batch"] = named_utterances(facts)
        record["padded_frames"] = facts.utterances * facts.frames
    optimizer = None if observer.optimizer is None else observer.optimizer()
    parts = parts_of(observer.network, optimizer)
    memory = observer.memory.at_failure()
    from_message = said_by_torch(str(error))
    record.update(parts)
    record.update({name: memory.get(name) for name in ("allocated", "reserved", "peak_allocated", "card")})
    record.update(
        {name: value for name, value in from_message.items() if value is not None and record.get(name) is None}
    )
    if record.get("allocated") is not None:
        record["other"] = max(0, record["allocated"] - sum(parts.values()))
    return record


def name_of(error: BaseException) -> str:
    """`module.Class: message`."""
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}: {error}"[:_MOST_MESSAGE]


def lines_of(error: BaseException) -> list[str]:
    """The last lines of its traceback."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return [line[:_MOST_MESSAGE] for line in text.splitlines()[-_MOST_LINES:]]
