"""Every command's errors, as sentences and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from harness.core.errors import HarnessError


def guarded(command: Callable[[], int], *, debug: bool) -> int:
    """The exit status of a command, its errors told to the user."""
    try:
        return command()
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `funasr-harness cells … | head` is not an error; stdout must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        told = error if isinstance(error, HarnessError) else _unforeseen(error)
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code


def _unforeseen(error: Exception) -> HarnessError:
    """What to tell of an error that nothing has put into words: Python's own exit status would say "a regression"."""
    from harness.core.durable import unforeseen_storage_error

    if isinstance(error, OSError) and (told := unforeseen_storage_error(error)):
        return told
    place = traceback.extract_tb(error.__traceback__)[-1]
    return HarnessError(
        f"{type(error).__name__}: {error}",
        cause=f"a fault of the harness itself, met in {Path(place.filename).name}, line {place.lineno}",
        next_step="run the same command with --debug, and report what it prints",
    )
