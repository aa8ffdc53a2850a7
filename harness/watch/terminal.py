"""The live display of `watch`: drawn on a terminal, and a line a minute elsewhere."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from harness.core.cells import Severity
from harness.text import units
from harness.text.plain import one_line
from harness.text.terminal import console as messages
from harness.text.terminal import is_quiet
from harness.watch import sections
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.layout import LEAST_HEIGHT, LEAST_WIDTH, compose
from harness.watch.overview import Overview, overview, severities
from harness.watch.sections import View
from harness.watch.state import TrainingState

REDRAW_SECONDS = 1.0
LINE_SECONDS = 60.0
_SHARE = 0.02
"""The display takes at most this share of one core: a slow drawing makes the next one come later."""
_KEPT_LINES = 200


class OutputTail:
    """The last lines of a command's output; of a progress bar what it shows now."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._open = ""

    def add(self, text: str) -> None:
        """Take up what was printed since."""
        *complete_lines, self._open = re.split(r"\r?\n", self._open + text)
        self._lines.extend(line for line in map(_overwritten, complete_lines) if line.strip())
        # A bar that never ends its line must not be kept whole.
        self._open = self._open[-4096:]

    @property
    def lines(self) -> list[str]:
        """The oldest first."""
        last = _overwritten(self._open)
        return [*self._lines, *([last] if last.strip() else [])]


def _overwritten(line: str) -> str:
    """What a terminal shows of a line that carriage returns write over."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


class LiveDisplay:
    """Shows a training while it runs; `update` may be called many times a second."""

    def __init__(
        self,
        state: TrainingState,
        folder: Path,
        *,
        log: str = "output.log",
        page: str = "",
        console: Console | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Show `state`, which somebody else fills.

        Args:
            folder: The output folder of the watched training.
            log: The file in it that has the whole output of the command.
            page: Address of the page, if one is served.
        """
        self._state, self._log, self._page, self._clock = state, str(folder / log), page, clock
        self._console = console or messages()
        self._tail = OutputTail()
        self._began = self._next = self._next_line = clock()
        self._size = self._console.size
        self._said: set[tuple[Severity, str]] = set()
        self._live: Live | None = None
        self.problem = ""
        """Why the display is no longer drawn; empty while it is."""
        if can_draw(self._console):
            self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
            self._live.start()
        else:
            self._next_line += LINE_SECONDS

    def update(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], output: str) -> None:
        """Show the state as it is now; `output` is what the command printed since the last call."""
        self._tail.add(output)
        try:
            if self._live is not None:
                self._draw(findings, forecasts)
            elif not is_quiet():
                self._tell(findings, forecasts)
        except Exception as error:  # a fault of the display must not end the watching of somebody's training
            self.problem = f"a fault of the harness itself, in the display: {type(error).__name__}: {error}"
            self._next = self._next_line = self._clock() + LINE_SECONDS
            self.close()

    @property
    def output(self) -> list[str]:
        """The last lines of the command's output, the oldest first."""
        return self._tail.lines

    def close(self) -> None:
        """Leave the terminal as it was before."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _draw(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast]) -> None:
        now, size = self._clock(), self._console.size
        if now < self._next and size == self._size:
            return
        if size != self._size:
            # Rows of the former width would stay on the screen, wrapped.
            self._console.clear()
        self._size = size
        spent = time.thread_time()
        view = View(
            state=self._state,
            now=overview(self._state),
            began=self._began,
            at=now,
            findings=findings,
            forecasts=forecasts,
            output=self._tail.lines,
            log=self._log,
            page=self._page,
        )
        assert self._live is not None
        rows = compose(view, size.width, size.height - 1)
        self._live.update(Group(*rows), refresh=True)
        self._next = now + max(REDRAW_SECONDS, (time.thread_time() - spent) / _SHARE)

    def _tell(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast]) -> None:
        for finding in findings:
            if (finding.severity, finding.rule) not in self._said:
                self._said.add((finding.severity, finding.rule))
                text = (
                    f"{finding.severity}: {one_line(finding.rule)}: "
                    f"{sections.where(finding)}{one_line(finding.message)}"
                )
                self._console.print(Text(text), soft_wrap=True)
        now = self._clock()
        if now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            line = minute_line(overview(self._state), findings, forecasts, now)
            self._console.print(Text(line), soft_wrap=True)


def can_draw(console: Console) -> bool:
    """Whether the display can be drawn: on a terminal that is large enough, moves its cursor and shows all signs."""
    encoding = (console.encoding or "").lower().replace("-", "")
    return (
        console.is_terminal
        and not console.is_dumb_terminal
        and not is_quiet()
        and not os.environ.get("CI")
        and encoding == "utf8"
        and console.width >= LEAST_WIDTH
        and console.height >= LEAST_HEIGHT
    )


def minute_line(
    now: Overview, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], at: float | None = None
) -> str:
    """The state in one line."""
    clock = time.strftime("%H:%M:%S", time.localtime(at))
    if not now.step:
        return f"{clock} no training step yet"
    words = [
        f"epoch {now.epoch}/{now.epochs}" if now.epochs is not None else f"epoch {now.epoch}",
        f"step {now.step:,}",
    ]
    baseline = f" (unigram baseline of loss_att {units.loss(now.baseline)})" if now.baseline is not None else ""
    words.append(f"loss {units.loss(now.loss)}{baseline}")
    if now.accuracy is not None:
        words.append(f"{one_line(now.accuracy[0], at_most=20)} {units.rate(now.accuracy[1])}")
    words.append(f"learning rate {units.rate(max(now.learning_rates, default=None))}")
    if now.gradient_norm is not None:
        words.append(f"gradient norm {units.rate(now.gradient_norm)}")
    waiting = now.phases.get("data", 0.0) / now.seconds if now.seconds else 0.0
    words.append(f"{units.duration(now.seconds)} a step ({100 * waiting:.0f} % waiting for data)")
    if now.ranks:
        memory = now.ranks[0].memory
        gpu = f"{units.memory(memory.allocated)} allocated on the GPU" if memory.allocated is not None else ""
        words.append(gpu or f"{units.memory(memory.resident)} of main memory, no GPU")
    words += [f"{one_line(forecast.label)} {one_line(forecast.value)}" for forecast in forecasts]
    return f"{clock} {', '.join(words)}; {findings_in_words(findings)}"


def findings_in_words(findings: Sequence[WatchFinding]) -> str:
    """`1 broken, 2 wrong`, or that there is nothing."""
    counts = ", ".join(f"{count} {severity}" for severity, count in severities(findings).items())
    return counts or "no findings"
