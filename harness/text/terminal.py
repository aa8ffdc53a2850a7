"""What the user reads on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

_console = Console(stderr=True, highlight=False, soft_wrap=True)

_LOG_WIDTH = 100


def console() -> Console:
    """Where the harness talks to its user: standard error."""
    return _console


def width() -> int:
    """Columns of the terminal; where there is none, what reads well in a log."""
    return _console.width if _console.is_terminal else _LOG_WIDTH


def say(text: str, style: str = "") -> None:
    """Print a text that is no markup, whatever it holds."""
    _console.print(Text(text, style=style))
