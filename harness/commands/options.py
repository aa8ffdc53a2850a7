"""Options that several commands share: each is declared here once, with its help and default.

Nothing here imports a library that takes time, so that `--help` prints at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from harness.commands.exit_status import epilog
from harness.config.built_in import FOLDER, KNOWN_ISSUES_NAME, LOCK_NAME, shipped_file
from harness.config.shards import Shard
from harness.core.cells import Depth
from harness.core.paths import UnusablePathError, path_of

BASELINES = Path("reports/baselines")
"""The folder of baselines, below the working folder."""
DIAGNOSES = Path("runs/diagnoses")
BISECTIONS = Path("runs/bisections")
QUIET, NORMAL, VERBOSE = -1, 0, 1

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def default_lock() -> Path:
    """The lock of releases of the working folder, or the built-in one."""
    return shipped_file(LOCK_NAME)


def default_known_issues() -> Path:
    """The known issues of the working folder, or the built-in ones."""
    return shipped_file(KNOWN_ISSUES_NAME)


def add_command(commands: Commands, name: str, text: str, *, aliases: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        aliases=list(aliases),
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    # After the command's name as well, where people look for them.
    add_output_options(parser, defaults=False)
    return parser


def add_action(actions: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    return parser


def add_output_options(parser: argparse.ArgumentParser, *, defaults: bool) -> None:
    """`-v`, `-q` and `--debug`; a subcommand's must not overwrite what was given before the command's name."""

    def default(value: object) -> Any:
        return value if defaults else argparse.SUPPRESS

    group = parser.add_argument_group("output").add_mutually_exclusive_group()
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=VERBOSE,
        default=default(NORMAL),
        help="also print the files that are used, every outcome, and every call of uv",
    )
    group.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=QUIET,
        default=default(NORMAL),
        help="print results, warnings and errors only, and no progress",
    )
    parser.add_argument("--debug", action="store_true", default=default(False), help="print the traceback of an error")


def add_hidden(parser: argparse.ArgumentParser, name: str, **settings: Any) -> None:
    """A former name of an option: it still works, and no help lists it."""
    parser.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **settings)


def add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "matrix", metavar="MATRIX", help="name of a built-in matrix, such as pr, or path of a matrix file"
    )
    add_only(parser)


def add_only(parser: argparse.ArgumentParser, text: str = "only cells whose id matches this glob") -> None:
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help=f"{text}; may be repeated (default: all)"
    )


def add_shard(parser: argparse.ArgumentParser) -> None:
    """`--shard` and `--durations`."""
    parser.add_argument(
        "--shard",
        type=shard,
        metavar="K/N",
        help="only the K-th of N parts of about the same duration, such as 2/5; `merge` makes one run of them (default:"
        " all cells)",
    )
    parser.add_argument(
        "--durations",
        type=file_path,
        metavar="DIR",
        action="append",
        help="with --shard: an earlier run whose seconds balance the parts, the same for all of them; may be repeated"
        " (default: reports/MATRIX if it is there, or else each check's usual seconds)",
    )


@dataclass(frozen=True, kw_only=True)
class Executor:
    """What runs the cells besides this machine."""

    address: str | None
    """Of a Ray cluster; None for the one that $RAY_ADDRESS names, or one that is started here."""


def executor(text: str) -> Executor:
    """`ray`, or `ray:` and the address of a cluster."""
    name, colon, address = text.partition(":")
    if name != "ray" or (colon and not address):
        raise argparse.ArgumentTypeError(f'expected ray or ray:ADDRESS, such as ray:10.0.0.1:6379, found "{text}"')
    return Executor(address=address or None)


def add_executor(parser: argparse.ArgumentParser) -> None:
    """`--executor`."""
    parser.add_argument(
        "--executor",
        type=executor,
        metavar="ray[:ADDRESS]",
        help="run the cells on the nodes of a Ray cluster, such as ray:auto or ray:10.0.0.1:6379; --jobs is the number"
        " of cells at the same time in each task (default: this machine)",
    )


def add_cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL_ID", help="id of the cell, as `funasr-harness list` prints it")


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run",
        type=file_path,
        metavar="DIR",
        action="append",
        help="folder of a run that has the cell; may be repeated (default: all in runs/ and reports/)",
    )


def add_dimensions(parser: argparse.ArgumentParser, *, required: bool) -> None:
    # Within a group either name is enough, and both are one too many.
    group = parser.add_mutually_exclusive_group(required=required)
    text = "vocabulary and hidden size, such as v8404-h512" + ("" if required else " (default: none)")
    group.add_argument("--dimensions", metavar="V-H", help=text)
    group.add_argument("--shape", dest="dimensions", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_depth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--depth",
        type=Depth,
        choices=tuple(Depth),
        help="number of blocks: upstream's, or few (default: full on a GPU, which `estimate` predicts; reduced on a"
        " CPU)",
    )
    add_hidden(parser, "--scale", dest="depth", type=Depth, choices=tuple(Depth))


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="precision (default: %(default)s)"
    )


def add_fresh(parser: argparse.ArgumentParser, detail: str) -> None:
    parser.add_argument("--fresh", action="store_true", help=f"use no earlier outcome: {detail}")


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """`--reuse` and `--no-reuse`."""
    parser.add_argument(
        "--reuse",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take the outcome of a construct or loss_contract cell from another release's, where all code and files"
        " that it uses are the same, and that of a later check on a CPU from an earlier run of the same"
        " release (default: no)",
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=positive_number, metavar="N", help="cells at the same time (default: one per processor)"
    )


def add_json(parser: argparse.ArgumentParser, text: str = "print one JSON record to standard output") -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=text)


def add_own_speech(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jsonl",
        type=file_path,
        metavar="FILE",
        help="train on your own speech, a FunASR jsonl file that is used unchanged (default: the harness's own speech)",
    )
    parser.add_argument(
        "--valid", type=file_path, metavar="FILE", help="your own validation rows (default: the rows of --jsonl)"
    )
    parser.add_argument(
        "--rows",
        type=positive_number,
        metavar="N",
        help="rows of --jsonl that finetune trains on (default: 60 at most; all with a model folder of your own)",
    )


def add_baselines(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--baselines", type=file_path, metavar="DIR", default=BASELINES, help=f"{text} (default: %(default)s)"
    )


def add_known_issues(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--known-issues", default_known_issues, "what is expected to fail, and why")


def add_places(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--lock", default_lock, "the lock of releases")
    add_cache(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """`--cache`."""
    parser.add_argument(
        "--cache",
        type=file_path,
        metavar="DIR",
        help="folder of releases and speech (default: $FUNASR_HARNESS_CACHE, or funasr-harness in the user's cache)",
    )


def file_path(text: str) -> Path:
    """A path that a file can have, with a home folder in the place of `~`."""
    try:
        return path_of(text)
    except UnusablePathError as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no path: {error}") from None


def add_file(parser: argparse.ArgumentParser, option: str, default: Callable[[], Path], text: str) -> None:
    value = default()
    shown = f"{FOLDER}/{value.name} if it is there, or else the built-in file"
    parser.add_argument(option, type=file_path, metavar="FILE", default=value, help=f"{text} (default: {shown})")


def days(text: str) -> float:
    """A number of days, such as 30 or 0.5."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f'expected a number of days, found "{text}"')
    return value


def shard(text: str) -> Shard:
    """A part of a matrix, such as 2/5."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number above 0, found "{text}"')
    return int(text)
