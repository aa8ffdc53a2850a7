"""Every error that a user can meet: what happened, the likely cause, what to do next.

The command line prints `str(error)` and exits with the error's `exit_code`;
the traceback appears only with `--debug`.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_LISTED = 50
"""How many problems of one file are listed; a long list that has one cause hides it."""


def listing(source: str, problems: Sequence[str]) -> str:
    """All problems of one file as text, a line each."""
    lines = [f"  - {problem}" for problem in problems[:MOST_LISTED]]
    if len(problems) > MOST_LISTED:
        lines.append(f"  - … and {len(problems) - MOST_LISTED} more")
    return "\n".join((f"{source}: {len(problems)} problem{'s' if len(problems) != 1 else ''}", *lines))


class HarnessError(Exception):
    """Base of all errors that a user sees without a traceback."""

    exit_code = 3

    def __init__(self, what: str, *, cause: str = "", next_step: str = "") -> None:
        self.what = what
        self.cause = cause
        self.next_step = next_step
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.cause:
            lines.append(f"  likely cause: {self.cause}")
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return "\n".join(lines)


class InputError(HarnessError):
    """Something that the user gave cannot be used."""

    exit_code = 2


class MatrixError(InputError):
    """One or more problems in a matrix or known-issues file, all of them at once."""

    def __init__(self, source: str, problems: Sequence[str], *, next_step: str = "") -> None:
        self.problems = tuple(problems)
        next_step = next_step or f"correct {source} and run the command again"
        super().__init__(listing(source, problems), next_step=next_step)


class SelectionError(InputError):
    """A selection matches no cell."""


class ReleaseError(InputError):
    """A release does not exist, or what is there is not a FunASR release."""


class CorpusError(InputError):
    """Speech or text that cannot be used: a row, a file, a character."""


class VariantError(InputError):
    """A variant or shape that contradicts itself."""


class IntegrityError(HarnessError):
    """A file's hash is not the one in the lock."""


class FetchError(HarnessError):
    """The package index could not be reached or did not serve a release."""


class StackError(HarnessError):
    """The interpreter lacks torch or a library that every release needs."""


class StoreError(HarnessError):
    """Results cannot be written or read: a full disk, no permission, a foreign format."""


class DamagedFileError(StoreError):
    """A file that the harness wrote cannot be read: it was edited, cut, or written by another version."""

    exit_code = 2


class BusyError(HarnessError):
    """Another run writes to the same place."""


class NoGpuError(HarnessError):
    """`--require-gpu` was given and there is none."""

    exit_code = 4
