"""How the process ends, and what is known of the moment at which a training failed."""

from __future__ import annotations

import atexit
import sys
import traceback
from typing import Any

_MOST_LINES = 40
_MOST_MESSAGE = 2000


class Endings:
    """Follows exceptions and exits of this process; it handles none of them."""

    def __init__(self, observer: Any) -> None:
        self._observer = observer
        self._error: BaseException | None = None
        self._post_mortem: dict[str, Any] | None = None
        self._status: int | None = None
        self._exited = False

    def attach(self) -> None:
        """Observe `sys.exit` and the end of the interpreter."""
        original, guard = sys.exit, self._observer.guard

        def exit(status: Any = None) -> Any:
            guard("end", self._exiting, status, sys.exc_info()[1])
            original(status)

        exit.__doc__ = original.__doc__
        sys.exit = exit
        atexit.register(self.ended)

    def failed(self, error: BaseException) -> None:
        """A forward pass has raised: memory is still as it was at that moment."""

    def _exiting(self, status: Any, handled: BaseException | None) -> None:
        """hydra handles an exception by printing it and by `sys.exit(1)`."""
        self._exited = True
        self._status = status if isinstance(status, int) else 0 if status is None else 1
        if handled is not None and self._status != 0 and not isinstance(handled, SystemExit):
            self._error = handled

    def ended(self) -> None:
        """The interpreter ends: write what is left."""
        observer = self._observer
        if not observer.writer.begun:
            return
        if not observer.guard("end", self._write_rest):
            observer.guard("rest", observer.give_up_waiting)
        observer.guard("end", self._write_end)

    def _write_rest(self) -> bool:
        self._observer.finish()
        return True

    def _write_end(self) -> None:
        error = self._error
        if error is None:
            error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        how, status = "finished", 0
        if isinstance(error, KeyboardInterrupt):
            how, status = "signal", 130
        elif error is not None:
            how, status = "exception", 1 if self._status is None else self._status
        elif self._exited and self._status:
            how, status = "exit", self._status
        self._observer.writer.write(
            "end",
            {
                "step": self._observer.steps,
                "epoch": self._observer.epoch,
                "how": how,
                "status": status,
                "exception": "" if error is None else name_of(error),
                "traceback": [] if error is None else lines_of(error),
                "post_mortem": self._post_mortem,
            },
        )


def name_of(error: BaseException) -> str:
    """`module.Class: message`."""
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}: {error}"[:_MOST_MESSAGE]


def lines_of(error: BaseException) -> list[str]:
    """The last lines of its traceback."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return [line[:_MOST_MESSAGE] for line in text.splitlines()[-_MOST_LINES:]]
