"""Exit statuses: what each command returns and why, and how its errors and Ctrl-C become a message and a status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from harness.core.errors import HarnessError

FINE, FOUND, BAD_INPUT, FAULT, NO_GPU, INTERRUPTED = 0, 1, 2, 3, 4, 130
_TERMINATING = (signal.SIGTERM, signal.SIGHUP)
ENDED = tuple(128 + signum for signum in _TERMINATING)
"""Ended by SIGTERM or SIGHUP, which do what Ctrl-C does."""

GENERAL: Mapping[int, str] = {
    FINE: "fine: the command did its work, and nothing is wrong with what it looked at",
    FOUND: "something was found that is wrong with what it looked at",
    BAD_INPUT: "bad input: an option, matrix, release, variant, speech file or damaged run that cannot be used",
    FAULT: "a fault of the harness or of the machine: nothing, or not everything, was learned",
    NO_GPU: "torch finds no GPU, and --require-gpu was given or the matrix names the device cuda",
    INTERRUPTED: "interrupted with Ctrl-C",
}
"""What an exit status means in every command."""

_RUN = {
    FINE: "as expected: every cell passed, was skipped, or failed as the known issues say",
    FOUND: "a regression, a pass where a failure is listed, or a value that differs from this machine's baseline",
    BAD_INPUT: "bad input; or a cell failed because of a key, value or file of your own, and nothing worse happened",
    FAULT: "a fault of the harness or of the machine: a cell errored, has no outcome, or is not decided",
}
PLAIN: Mapping[int, str] = {BAD_INPUT: "bad input", FAULT: "a fault of the harness or of the machine"}
"""Of commands that look at nothing that can be right or wrong."""

BY_COMMAND: Mapping[str, Mapping[int, str]] = {
    "preflight": {
        FINE: "go: nothing was found that stops or changes the training",
        FOUND: "no go: it will not train, or trains something else than your files and command say",
        BAD_INPUT: "the input cannot be read",
        FAULT: (
            "not decided: nothing above minor was found, and a part could not be checked; or a fault of the harness or "
            "of the machine"
        ),
    },
    "explain": {
        FINE: "nothing wrong was found in the log, or the cause of everything that is wrong is known",
        FOUND: "something is wrong, and its cause is not known",
        BAD_INPUT: "the log cannot be read",
        FAULT: "a fault of the harness or of the machine",
    },
    "watch": {
        FINE: "the command ended well, and nothing above minor was found",
        FOUND: "the command failed, or something broken or wrong was found",
        BAD_INPUT: "no command was given, it cannot be started, or the records cannot be read",
        FAULT: "a fault of the harness or of the machine",
    },
    "run": {**_RUN, NO_GPU: GENERAL[NO_GPU]},
    "merge": {
        FINE: _RUN[FINE],
        FOUND: _RUN[FOUND],
        BAD_INPUT: "bad input, such as shards of different matrices, commits or environments; or as `run`",
        FAULT: "a fault of the harness or of the machine: a shard is missing, or a cell errored or has no outcome",
    },
    "list": {FINE: "the cells were listed", **PLAIN},
    "releases": {
        FINE: "the releases were listed, locked or fetched",
        BAD_INPUT: "bad input, such as a release that does not exist",
        FAULT: "the package index cannot be reached, a file's hash is wrong, or the disk is full",
    },
    "report": _RUN,
    "show": {
        FINE: "what is known of the cell was printed, whatever its outcome; with --as-issue, every script that was"
        " run shows its fault",
        BAD_INPUT: "bad input, such as a damaged run; or no run has the cell",
        FAULT: "there is no such run; or a script of --as-issue did not show its fault",
    },
    "diagnose": {
        FINE: "the cell passes, or is skipped in that release",
        FOUND: "the cell fails; the diagnosis says whether a cause was found",
        BAD_INPUT: "bad input",
        FAULT: "the cell could not be measured here",
    },
    "gate": {
        FINE: "nothing regressed",
        FOUND: "at least one cell regressed",
        BAD_INPUT: "bad input, such as a patch that does not apply",
        FAULT: "a cell errored, and nothing regressed",
    },
    "impact": {
        FINE: "what the change reaches was printed, whatever that is",
        BAD_INPUT: "bad input, or no cell of the release is recorded",
        FAULT: "a fault of the harness or of the machine",
    },
    "bisect": {
        FINE: "the transitions were found, or there is none",
        BAD_INPUT: "bad input, such as a release that was named good and fails",
        FAULT: "no cell could be judged, or an end of the search gave different answers in two runs",
    },
    "drift": {FINE: "the groups of loss curves were printed", **PLAIN},
    "bundle": {FINE: "the bundle was written", **PLAIN},
    "baseline": {FINE: "the baselines were shown, written, or left as they are", **PLAIN},
    "estimate": {
        FINE: "the prediction was printed; the batch of one utterance fits every card of --fit",
        FOUND: "not even one utterance fits a card of --fit",
        **PLAIN,
    },
    "pack": {FINE: "every run was compressed", **PLAIN},
    "cache": {FINE: "the entries were shown or removed", **PLAIN},
    "completion": {FINE: "the script was printed", **PLAIN},
}
"""The statuses that a command returns, and what they mean there. `INTERRUPTED` is possible in all of them."""

AFTER_CTRL_C: Mapping[str, str] = {
    "preflight": "none of your files was written to",
    "explain": "nothing was written",
    "watch": "what was recorded is kept, and --of reports on it",
    "run": "what was measured is kept, and the same command resumes the run",
    "merge": "the shards are unchanged; merge them again with --fresh",
    "list": "nothing was written",
    "releases": "installed releases stay in the cache, and the lock is replaced as a whole or not at all",
    "report": "the run's outcomes are kept; run the command again to write the reports",
    "show": "the runs are unchanged",
    "diagnose": "nothing of it is kept, and the same command starts over",
    "gate": "nothing of it is kept, and the same command starts over",
    "impact": "nothing was written but the releases in the cache",
    "bisect": "nothing of it is kept, and the same command starts over",
    "drift": "the run's outcomes are unchanged, and recordings that were completed are kept",
    "bundle": "no bundle was written",
    "baseline": "baselines that were reported as written are kept, the others are unchanged",
    "estimate": "nothing of it is kept, and the same command starts over",
    "pack": "a run's outcomes are replaced as a whole or not at all",
    "cache": "what was removed is made again when it is needed",
    "completion": "nothing was written",
    "bundle_host": "what was measured is in the result file; with --cache the same command resumes the run",
}
"""What is true of a command after Ctrl-C; `bundle_host` is `run` within a bundle."""


def epilog(command: str | None) -> str:
    """The statuses of one command as its `--help` shows them; without a command, the meanings common to all."""
    meanings = dict(GENERAL) if command is None else dict(BY_COMMAND[command])
    meanings[INTERRUPTED] = GENERAL[INTERRUPTED] + (f"; {AFTER_CTRL_C[command]}" if command else "")
    meanings[INTERRUPTED] += " (143 and 129: the same by SIGTERM and SIGHUP)"
    return "\n".join(("exit status:", *(_entry(status, text) for status, text in sorted(meanings.items()))))


def _entry(status: int, text: str) -> str:
    import textwrap

    return textwrap.fill(text, 100, initial_indent=f"  {status:<5}", subsequent_indent=" " * 7)


def guarded(call: Callable[[], int], *, command: str, debug: bool) -> int:
    """Call a command's function; print its error or what Ctrl-C or SIGTERM left, and return the exit status."""
    with _listening():
        return _guarded(call, command, debug=debug)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came, and ends a command as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_status = 128 + signum


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `Terminated`, unless the command was started to ignore them."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for signum in _TERMINATING:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, _terminate)
    try:
        yield
    finally:
        for listened, handler in before.items():
            signal.signal(listened, handler)


def _terminate(signum: int, _frame: FrameType | None) -> None:
    # Not above: it is needed at the end only.
    from harness.core.processes import children, kill

    # Once is enough: what is removed now is not to be broken off.
    signal.signal(signum, signal.SIG_IGN)
    # A terminal sends Ctrl-C to them, too.
    for child in children(os.getpid()):
        kill(child, signal.SIGTERM)
    raise Terminated(signum)


def _guarded(call: Callable[[], int], command: str, *, debug: bool) -> int:
    try:
        return _with_all_printed(call)
    except KeyboardInterrupt as error:
        print(f"interrupted; {AFTER_CTRL_C[command]}", file=sys.stderr)
        return error.exit_status if isinstance(error, Terminated) else INTERRUPTED
    except SystemExit as error:
        # The runner of cells ends its processes first, and then says so.
        if error.code in ENDED:
            print(f"interrupted; {AFTER_CTRL_C[command]}", file=sys.stderr)
        raise
    except BrokenPipeError:
        # `funasr-harness list … | head` is not an error; stdout must not complain again at exit. A command that would
        # say by its status what it found has not come to that.
        _print_nowhere()
        return FAULT if FOUND in BY_COMMAND.get(command, {}) else FINE
    except Exception as error:
        if debug:
            traceback.print_exc()
        shown = error if isinstance(error, HarnessError) else _unforeseen(error)
        print(f"error: {shown}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _print_nowhere()
        return shown.exit_code


def _with_all_printed(call: Callable[[], int]) -> int:
    """What is left in the buffer would fail when the interpreter ends, with a status that means nothing."""
    status = call()
    sys.stdout.flush()
    return status


def _print_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _unforeseen(error: Exception) -> HarnessError:
    """An error that no code expected, in words: Python's own exit status 1 would mean a regression."""
    if isinstance(error, OSError):
        # Not above: it needs `fcntl`, and the message about a system without it must still be printed.
        from harness.core.durable import unforeseen_storage_error

        if storage := unforeseen_storage_error(error):
            return storage
    place = traceback.extract_tb(error.__traceback__)[-1]
    return HarnessError(
        f"{type(error).__name__}: {error}",
        cause=f"a fault of the harness itself, in {Path(place.filename).name}, line {place.lineno}",
        next_step="run the same command with --debug, and report what it prints",
    )
