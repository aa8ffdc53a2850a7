"""The command line: what can be asked for, and which module answers.

Each command's module is imported only when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from harness import __version__
from harness.errors import HarnessError

EXIT_STATUS = """\
exit status:
  0    as expected: every cell passed, was skipped, or failed as the known issues say
  1    a regression, or a pass where a failure is listed
  2    bad input: a matrix, selection, release, variant or speech file that cannot be used
  3    a fault of the harness or the machine: nothing, or not everything, was learned
  4    torch finds no GPU, and --require-gpu was given or the matrix asks for one by name
  130  interrupted; what was measured is kept, and the same command goes on from there
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        command = importlib.import_module(f"harness.commands.{options.module}")
        return int(command.main(options))
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `funasr-harness cells … | head` is not an error; stdout must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        told = error if isinstance(error, HarnessError) else _unforeseen(error)
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code


def _unforeseen(error: Exception) -> HarnessError:
    """What to tell of an error that nothing has put into words: Python's own exit status would say "a regression"."""
    from harness.durable import unforeseen_storage_error

    if isinstance(error, OSError) and (told := unforeseen_storage_error(error)):
        return told
    place = traceback.extract_tb(error.__traceback__)[-1]
    return HarnessError(
        f"{type(error).__name__}: {error}",
        cause=f"a fault of the harness itself, met in {Path(place.filename).name}, line {place.lineno}",
        next_step="run the same command with --debug, and report what it prints",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="funasr-harness",
        description="Does fine-tuning FunASR speech models work, since which release, and until which?",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_cells(commands)
    _add_releases(commands)
    _add_report(commands)
    _add_show(commands)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_run(commands: Commands) -> None:
    parser = _command(commands, "run", "run a matrix and write its reports; goes on where an earlier run stopped")
    _add_matrix(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the run's folder (default: runs/<matrix>)")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="your own speech, as a FunASR jsonl file")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="cells at once (default: one per processor)")
    parser.add_argument("--fresh", action="store_true", help="set aside what the run's folder holds and start anew")
    parser.add_argument("--require-gpu", action="store_true", help="fail when torch finds no GPU")
    parser.add_argument("--known-issues", type=Path, metavar="FILE", default=Path("matrices/known_issues.toml"))
    _add_places(parser)


def _add_cells(commands: Commands) -> None:
    parser = _command(commands, "cells", "list the cells of a matrix without running any")
    _add_matrix(parser)
    _add_places(parser)


def _add_releases(commands: Commands) -> None:
    parser = _command(commands, "releases", "list, lock or fetch the published releases")
    parser.add_argument("action", choices=("list", "lock", "fetch"))
    parser.add_argument("spec", nargs="*", help='which: 1.4.16, ">=1.0.12,<1.1", latest, all, or a path (default: all)')
    parser.add_argument("--jobs", type=_positive, metavar="N", help="downloads at once")
    _add_places(parser)


def _add_report(commands: Commands) -> None:
    parser = _command(commands, "report", "write the reports of a run anew")
    parser.add_argument("run", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to (default: the run's folder)")
    parser.add_argument("--known-issues", type=Path, metavar="FILE", default=Path("matrices/known_issues.toml"))
    _add_places(parser)


def _add_show(commands: Commands) -> None:
    parser = _command(commands, "show", "everything known about one cell, and the command that repeats it")
    parser.add_argument("cell", metavar="CELL_ID")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        action="append",
        help="a run's folder (default: all under runs/ and reports/)",
    )
    parser.add_argument("--known-issues", type=Path, metavar="FILE", default=Path("matrices/known_issues.toml"))


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=name)
    # Also after the command's name, where people look for it.
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matrix", type=Path, metavar="MATRIX", help="a matrix file, such as matrices/pr.toml")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="only cells whose id matches; may be repeated"
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lock", type=Path, metavar="FILE", default=Path("matrices/releases.lock.toml"), help="the lock of releases"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where releases and speech are kept")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number above 0, found "{text}"')
    return int(text)
