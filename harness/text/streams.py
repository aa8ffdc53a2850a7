"""Standard output and standard error as a command has them: what it prints is shown by the terminal and never obeyed.

They are the one way from a command to the terminal: `print`, argparse's errors, tracebacks and warnings all end here.
Rich writes colours and moves the cursor, so its consoles write to the streams below; `terminal.TextConsole` makes the
texts visible before.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from harness.text.plain import passed_on, plain, unfinished

LONGEST_LINE = 4000
"""Characters of a line of a message; a value of a megabyte would hide what is said of it."""


class VisibleStream:
    """A text stream that writes `plain` text only; anything else is the stream's below."""

    def __init__(self, stream: IO[str], *, longest: int | None = None) -> None:
        """Write to `stream`.

        Args:
            longest: Characters after which a line is cut; None to leave lines whole.
        """
        self._stream = stream
        self._longest = longest
        self._held = ""

    @property
    def rich_proxied_file(self) -> IO[str]:
        """Where rich's consoles write, by a name of rich's own."""
        return self._stream

    def write(self, text: str) -> int:
        """Write it as it may be shown, and as the stream can spell it."""
        shown = plain(text)
        if self._longest is not None:
            shown = cut_lines(shown, self._longest)
        self._stream.write(spelled(shown, self._stream))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def pass_on(self, output: str) -> None:
        """Write a part of another command's output, with the colours and progress bars that it has."""
        output = self._held + output
        self._held = unfinished(output)
        self._stream.write(spelled(passed_on(output.removesuffix(self._held)), self._stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Within the block whatever is printed is made visible."""
    out, err = sys.stdout, sys.stderr
    replacements = VisibleStream(out), VisibleStream(err, longest=LONGEST_LINE)
    sys.stdout, sys.stderr = cast("tuple[Any, Any]", replacements)
    try:
        yield
    finally:
        # Somebody may have put other streams there meanwhile, and those stay.
        if sys.stdout is cast("Any", replacements[0]):
            sys.stdout = out
        if sys.stderr is cast("Any", replacements[1]):
            sys.stderr = err


def pass_on(output: str) -> None:
    """Print a part of another command's output on standard output."""
    stream: Any = sys.stdout
    (stream if isinstance(stream, VisibleStream) else VisibleStream(stream)).pass_on(output)


def cut_lines(text: str, longest: int) -> str:
    """`text` with each of its lines cut after so many characters."""
    if len(text) <= longest:
        return text
    return "\n".join(line if len(line) <= longest else line[: longest - 1] + "…" for line in text.split("\n"))


def spelled(text: str, stream: IO[str]) -> str:
    """`text` with the characters that the stream's encoding lacks as escapes, instead of an exception."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") == "utf8":
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)
