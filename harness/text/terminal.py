"""What the user reads on the terminal, and how much of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.text.plain import plain
from harness.text.streams import LONGEST_LINE, spelled


class TextConsole(Console):
    """A console for texts from anywhere: what could act on the terminal is made visible, whatever it stands in.

    Rich's own colours and cursor movements are no text, and stay.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is written for a renderable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(self._shown(segment.text), segment.style)

    def _shown(self, text: str) -> str:
        return spelled(plain(text), self.file)


class _ResultConsole(TextConsole):
    """Standard output."""

    def on_broken_pipe(self) -> None:
        """As with `print`. Rich would end the process with 1, which means a regression here."""
        raise BrokenPipeError


class _MessageConsole(TextConsole):
    """Standard error; whoever read it may go, as in `2>&1 | head`, and the command goes on."""

    def _shown(self, text: str) -> str:
        shown = super()._shown(text)
        return shown if len(shown) <= LONGEST_LINE else shown[: LONGEST_LINE - 1] + "…"

    def on_broken_pipe(self) -> None:
        """Write nowhere from now on. Rich would end the process with 1, which means a regression here."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


_console = _MessageConsole(stderr=True, highlight=False, soft_wrap=True)

_LOG_WIDTH = 100


@dataclass
class _Verbosity:
    level: int = 0
    """Below 0: results and warnings only. Above 0: details too."""


_verbosity = _Verbosity()


def set_verbosity(level: int) -> None:
    """How much is printed from here on: -1 for `--quiet`, 0, or 1 for `--verbose`."""
    _verbosity.level = level


def is_quiet() -> bool:
    """Whether progress and notes are left out."""
    return _verbosity.level < 0


def is_verbose() -> bool:
    """Whether details are printed too."""
    return _verbosity.level > 0


def console() -> Console:
    """The console of the harness's messages: standard error."""
    return _console


def result_console() -> Console:
    """A console of what the command was called for: standard output."""
    return _ResultConsole(highlight=False, soft_wrap=True, markup=False)


def width() -> int:
    """Columns of the terminal; where there is none, what reads well in a log."""
    return _console.width if _console.is_terminal else _LOG_WIDTH


def say(text: str, style: str = "") -> None:
    """Print a text, whatever characters it has; `--quiet` leaves it out unless it has a style, as warnings have."""
    if style or not is_quiet():
        say_result(text, style)


def say_result(text: str, style: str = "") -> None:
    """Print a text that `--quiet` does not leave out: what the command was called for."""
    _console.print(Text(text, style=style))


def say_detail(text: str) -> None:
    """Print a text with `--verbose` only."""
    if _verbosity.level > 0:
        _console.print(Text(text, style="dim"))
