"""`completion`: a script by which a shell completes commands, options and paths of this command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from harness.commands.arguments import make_parser
from harness.commands.exit_status import FINE
from harness.commands.options import file_path


def main(options: argparse.Namespace) -> int:
    """Print the script for one shell."""
    parser = make_parser()
    for action in _actions(parser):
        if action.type is file_path or action.metavar == "MATRIX":
            kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=options.shell))
    return FINE


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                yield from _actions(subcommand)
