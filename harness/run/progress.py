"""What a user sees while a run is going on: at any moment what it does, and from early on how long it will still take.

On a terminal a bar is drawn; elsewhere a line is written at least every 20 seconds, whether a cell has ended or not.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from harness.core import tree_events as events
from harness.core.cells import Cell, Check, Outcome, Status
from harness.environments.environment import Environment
from harness.run.plan import Plan
from harness.run.time_left import TimeLeft
from harness.text.terminal import console, is_quiet, say, say_detail

LINE_EVERY_SECONDS = 10.0
"""How often a run says how far it is where there is no terminal to draw on: half of the 20 seconds that are promised,
because an outcome may take a busy machine seconds to judge."""
_REDRAW_SECONDS = 0.5
_MOST_RUNNING = 2


class RunStage:
    """Something that goes on before or after the cells, and how far it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.note = ""
        """How far it is, such as `12 of 101`."""


@contextlib.contextmanager
def stage(text: str, *, interval_seconds: float = LINE_EVERY_SECONDS, announce: bool = True) -> Iterator[RunStage]:
    """Say what begins, and again every so many seconds for as long as it goes on.

    The lines come from a thread of their own, because what takes long here waits in one call: an interpreter that
    imports torch, a download, a synthesizer. Without `announce` nothing is said of what is over soon.
    """
    current, over, began = RunStage(text), threading.Event(), time.monotonic()

    def repeat() -> None:
        while not over.wait(interval_seconds):
            far = f", {current.note}" if current.note else ""
            say(f"{current.text} … still, after {duration(time.monotonic() - began)}{far}")

    if announce:
        say(f"{text} …")
    thread = threading.Thread(target=repeat, name="stage", daemon=True)
    thread.start()
    try:
        yield current
    finally:
        over.set()
        thread.join()


class RunListener:
    """Hears how a run goes on; by itself it does nothing with it."""

    def follow(self, plan: Plan, usual: Mapping[Check, float], stack: Environment, cache: Path) -> None:
        """A process tree is about to start.

        Args:
            usual: Seconds that a cell of each check usually takes.
        """

    def event(self, event: events.Event) -> None:
        """The process tree says something of itself."""

    def started(self, cell: Cell) -> None:
        """A cell's process has started."""

    def done(self, outcome: Outcome) -> None:
        """A cell has its outcome."""

    def tick(self) -> None:
        """Nothing has happened; called many times a second."""


class Display(RunListener):
    """Cells done, running, failed, and the time left: drawn on a terminal, written line by line elsewhere."""

    def __init__(self, total: int) -> None:
        self._counts: Counter[Status] = Counter()
        self._running: dict[str, None] = {}
        self._total = total
        self._told = self._drawn = self._began = time.monotonic()
        self._said = -1
        """How many cells were done when that was last said."""
        self._left: TimeLeft | None = None
        self._doing = "starting"
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console(),
            disable=not console().is_terminal or is_quiet() or bool(os.environ.get("CI")),
        )
        self._task = self._progress.add_task("cells", total=total, left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._progress.disable and self._said == self._counts.total() == self._total > 0:
            return
        self._tell()

    def follow(self, plan: Plan, usual: Mapping[Check, float], stack: Environment, cache: Path) -> None:
        """A process tree is about to start."""
        of_cells = [batch for batch in plan.batches if batch.cells[0].number in plan.cells]
        batches = [[plan.cells[planned.number] for planned in batch.cells] for batch in of_cells]
        self.expect(batches, plan.settings.jobs, usual, importing(plan, stack, cache))

    def expect(self, batches: Sequence[Sequence[Cell]], jobs: int, usual: Mapping[Check, float], doing: str) -> None:
        """Cells are about to run.

        Args:
            batches: Cells that run one after the other, in the order in which they start.
            jobs: How many batches run at once.
            usual: Seconds that a cell of each check usually takes.
            doing: What goes on until the first of them starts.
        """
        self._left = TimeLeft(batches, jobs, usual)
        self._doing = doing
        if batches:
            self._tell_unless_drawn()

    def event(self, event: events.Event) -> None:
        """The process tree says something of itself."""
        if isinstance(event, events.Ready):
            self._doing = "entering the first release"
            self._tell_unless_drawn()

    def started(self, cell: Cell) -> None:
        """A cell's process has started."""
        self._running[cell.id] = None
        if self._left:
            self._left.started(cell, time.monotonic())
        self._redraw()

    def done(self, outcome: Outcome) -> None:
        """A cell has its outcome."""
        self._running.pop(outcome.cell.id, None)
        self._counts[outcome.status] += 1
        say_detail(f"{outcome.status}, {outcome.seconds:.1f} s: {outcome.cell.id}")
        if self._left:
            self._left.settled(outcome)
        self._progress.advance(self._task)
        self._redraw()

    def tick(self) -> None:
        """Nothing has happened; called many times a second."""
        if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._redraw()

    def warn(self, text: str) -> None:
        """The process tree has something to say about itself."""
        say(f"warning: {text}", style="yellow")

    def _redraw(self) -> None:
        self._drawn = time.monotonic()
        if self._progress.disable:
            if self._drawn - self._told >= LINE_EVERY_SECONDS:
                self._tell()
            return
        running = ", ".join(list(self._running)[:_MOST_RUNNING])
        description = Text(f"{self._state()}  {running}", overflow="ellipsis").plain
        self._progress.update(self._task, description=description, left=self._left_words())

    def _tell_unless_drawn(self) -> None:
        if self._progress.disable:
            self._tell()

    def _tell(self) -> None:
        self._told, self._said = time.monotonic(), self._counts.total()
        spent = duration(self._told - self._began)
        words = [f"{self._counts.total()}/{self._total} cells in {spent}: {self._state()}", self._left_words()]
        if self._running and self._counts.total() < self._total:
            more = len(self._running) - _MOST_RUNNING
            running = ", ".join(list(self._running)[:_MOST_RUNNING]) + (f" and {more} more" if more > 0 else "")
            words.append(f"running {running}")
        say(", ".join(filter(None, words)))

    def _left_words(self) -> str:
        """Nothing before the first cell is done, when all that is known is what other machines took."""
        settled = self._counts.total()
        if not self._left or not 0 < settled < self._total:
            return ""
        return f"about {duration(self._left.seconds(time.monotonic()))} left"

    def _state(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items())) or self._doing


def importing(plan: Plan, stack: Environment, cache: Path) -> str:
    """What the first process does, which takes a minute and a half where no bytecode is kept yet."""
    libraries = f"torch and {len(plan.settings.preload) - 1} other libraries"
    if _is_compiled(stack, cache):
        return f"importing {libraries}, once for all releases"
    return f"compiling {libraries} to bytecode, which is done once and takes a minute or two"


def _is_compiled(stack: Environment, cache: Path) -> bool:
    """Whether torch's bytecode is in the cache, where interpreters usually have their libraries."""
    bytecode = cache.absolute() / "bytecode"
    if not bytecode.is_dir():
        return False
    folder = "python" + ".".join(stack.python_version.split(".")[:2])
    libraries = [
        prefix / "lib" / folder / name
        for prefix in (stack.python.parent.parent, stack.python.resolve().parent.parent)
        for name in ("site-packages", "dist-packages")
    ]
    cached = [bytecode / place.relative_to(place.anchor) / "torch" for place in (*stack.extra_paths, *libraries)]
    # Where torch lies elsewhere, some bytecode is taken for all of it.
    installed = [place for place in libraries if (place / "torch").is_dir()]
    return any(place.is_dir() for place in cached) if installed else any(bytecode.iterdir())


def duration(seconds: float) -> str:
    """Seconds as a person says them: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
