"""The command line: reads the arguments, and calls the module of the command.

A command's module is imported only when it is called, so that `--help` prints at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from harness.commands.arguments import make_parser
from harness.commands.exit_status import guarded
from harness.core.errors import StackError
from harness.text.streams import visible_streams

_MODULES = {"list": "list_cells"}
"""Modules of `harness.commands` that are not named like their command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    with visible_streams():
        options = parse(list(sys.argv[1:] if arguments is None else arguments))
        return guarded(lambda: _call(options), command=options.command, debug=options.debug)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; what follows `--` belongs to the command that takes the words of another command."""
    words: list[str] | None = None
    if "--" in arguments:
        at = arguments.index("--")
        arguments, words = arguments[:at], arguments[at + 1 :]
    parser = make_parser()
    options = parser.parse_args(arguments)
    if words is not None:
        if not hasattr(options, "words"):
            parser.error(f"{options.command} takes no words after `--`")
        options.words = words
    return options


def _call(options: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise StackError(
            f"funasr-harness runs on Linux only, and this is {sys.platform}",
            cause="it starts, limits and ends a release's processes with calls that only Linux has",
            next_step="run it on a Linux machine or in a Linux container; on Windows, in WSL 2",
        )
    # Not above: rich takes longer to import than `--help` takes.
    from harness.text.terminal import set_verbosity

    set_verbosity(options.verbosity)
    if getattr(options, "matrix", None) is not None:
        from harness.config.built_in import matrix_path

        options.matrix = matrix_path(options.matrix)
    name = _MODULES.get(options.command, options.command)
    return int(importlib.import_module(f"harness.commands.{name}").main(options))
