"""What the user sees while a run is going on, and at its end."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from tabulate import tabulate

from harness.cells import Cell, Outcome, Status, Verdict
from harness.judge.verdicts import Judged

_console = Console(stderr=True, highlight=False, soft_wrap=True)

_LINE_EVERY_SECONDS = 15.0
"""How often a run tells how far it is where there is no terminal to draw on."""

_MOST_LISTED = 20


def say(text: str, style: str = "") -> None:
    """Print a text that is no markup, whatever it holds."""
    _console.print(Text(text, style=style))


class Display:
    """Cells done, running, failed, and the time left: drawn on a terminal, told line by line elsewhere."""

    def __init__(self, total: int) -> None:
        self._counts: Counter[Status] = Counter()
        self._running: dict[str, None] = {}
        self._total = total
        self._told = time.monotonic()
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=_console,
            disable=not _console.is_terminal or bool(os.environ.get("CI")),
        )
        self._task = self._progress.add_task("cells", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._tell()

    def started(self, cell: Cell) -> None:
        """A cell's process has started."""
        self._running[cell.id] = None
        self._redraw()

    def done(self, outcome: Outcome) -> None:
        """A cell has its outcome."""
        self._running.pop(outcome.cell.id, None)
        self._counts[outcome.status] += 1
        self._progress.advance(self._task)
        self._redraw()

    def warn(self, text: str) -> None:
        """The process tree has something to say about itself."""
        say(f"warning: {text}", style="yellow")

    def _redraw(self) -> None:
        if self._progress.disable:
            if time.monotonic() - self._told >= _LINE_EVERY_SECONDS:
                self._tell()
            return
        running = ", ".join(list(self._running)[:2])
        self._progress.update(self._task, description=Text(f"{self._state()}  {running}", overflow="ellipsis").plain)

    def _tell(self) -> None:
        self._told = time.monotonic()
        done = self._counts.total()
        spent = self._told - self._began
        left = f", about {spent / done * (self._total - done):.0f} s left" if 0 < done < self._total else ""
        say(f"{done}/{self._total} cells in {spent:.0f} s: {self._state()}{left}")

    def _state(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items())) or "starting"


_NEEDS_ATTENTION = (Verdict.REGRESSION, Verdict.UNEXPECTED_PASS, Verdict.YOURS, Verdict.FAULT)


def _why(one: Judged) -> str:
    """Of a user's own input the judge's sentence says more than the release's exception."""
    return one.sentence if one.verdict is Verdict.YOURS else one.outcome.reason or one.sentence


def summary(judged: Sequence[Judged]) -> str:
    """The table at the end of a run: statuses by check, then what needs a person's attention."""
    checks = list(
        dict.fromkeys(one.outcome.cell.check for one in sorted(judged, key=lambda j: j.outcome.cell.check.rung))
    )
    counts = Counter((one.outcome.cell.check, one.outcome.status) for one in judged)
    statuses = [status for status in Status if any(counts[check, status] for check in checks)]
    rows = [(str(check), *(counts[check, status] or "" for status in statuses)) for check in checks]
    table = tabulate(rows, headers=("check", *map(str, statuses)))
    verdicts = Counter(one.verdict for one in judged)
    lines = [table, "", ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict])]
    attention = [one for one in judged if one.verdict in _NEEDS_ATTENTION]
    lines += [f"  {one.verdict}: {one.outcome.cell.id}: {_why(one)}" for one in attention[:_MOST_LISTED]]
    if len(attention) > _MOST_LISTED:
        lines.append(f"  … and {len(attention) - _MOST_LISTED} more, in the report")
    return "\n".join(lines)
