"""The command line: what can be asked for, and which module answers.

Each command's module is imported only when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from harness import __version__
from harness.commands.defaults import BASELINES, KNOWN_ISSUES, LOCK
from harness.commands.guard import guarded
from harness.core.cells import Depth

EXIT_STATUS = """\
exit status:
  0    as expected: every cell passed, was skipped, or failed as the known issues say
  1    a regression, a pass where a failure is listed, or a figure that differs from this machine's baseline
  2    bad input: a matrix, selection, release, variant or speech file that cannot be used; or a cell that failed
       because of a key, value or file of your own, and nothing worse
  3    a fault of the harness or the machine: nothing, or not everything, was learned
  4    torch finds no GPU, and --require-gpu was given or the matrix asks for one by name
  130  interrupted; what was measured is kept, and the same command goes on from there
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)

    def command() -> int:
        return int(importlib.import_module(f"harness.commands.{options.module}").main(options))

    return guarded(command, debug=options.debug)


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
    _add_diagnose(commands)
    _add_gate(commands)
    _add_bisect(commands)
    _add_drift(commands)
    _add_bundle(commands)
    _add_baseline(commands)
    _add_estimate(commands)
    _add_pack(commands)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_run(commands: Commands) -> None:
    parser = _command(commands, "run", "run a matrix and write its reports; goes on where an earlier run stopped")
    _add_matrix(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the run's folder (default: runs/<matrix>)")
    _add_own_speech(parser)
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="cells at once (default: one per processor; where cells run on a GPU, one per GPU)",
    )
    parser.add_argument("--fresh", action="store_true", help="set aside what the run's folder holds and start anew")
    parser.add_argument("--require-gpu", action="store_true", help="fail when torch finds no GPU")
    _add_baselines(parser)
    parser.add_argument("--known-issues", type=Path, metavar="FILE", default=KNOWN_ISSUES)
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
    parser.add_argument("run", type=Path, nargs="?", metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--import",
        dest="import_result",
        type=Path,
        metavar="FILE",
        help="make a run of what a bundle gave, then report it",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to (default: the run's folder; runs/<matrix> of a FILE)"
    )
    parser.add_argument(
        "--predict", action="store_true", help="also predict the memory of GPU trainings that have no prediction yet"
    )
    _add_baselines(parser)
    parser.add_argument("--known-issues", type=Path, metavar="FILE", default=KNOWN_ISSUES)
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
    parser.add_argument(
        "--as-issue",
        type=Path,
        nargs="?",
        const=Path("issues"),
        metavar="DIR",
        help="also write a report fit to be filed upstream for each finding, with a short script, and run the script"
        " in that release; exit status 3 when a script does not show its fault (default folder: issues)",
    )
    parser.add_argument("--known-issues", type=Path, metavar="FILE", default=KNOWN_ISSUES)
    _add_places(parser)


def _add_bisect(commands: Commands) -> None:
    parser = _command(commands, "bisect", "find every boundary between passing and failing, over releases and commits")
    parser.add_argument("--check", required=True, metavar="CHECK", help="such as loss_contract or finetune@native")
    parser.add_argument("--variant", metavar="NAME", help="a variant's name, or the path of one")
    parser.add_argument("--shape", metavar="SHAPE", help="such as v8404-h320")
    parser.add_argument("--depth", "--scale", type=Depth, choices=tuple(Depth), default=Depth.REDUCED)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--good", metavar="VERSION", help="one end: a release that passes")
    parser.add_argument("--bad", metavar="VERSION", help="the other end: one that does not (default: all releases)")
    parser.add_argument(
        "--by", choices=("answer", "curve"), default="answer", help="what is compared: how a cell ends, or its losses"
    )
    parser.add_argument("--exhaustive", action="store_true", help="ask every release, so that none can hide")
    parser.add_argument("--fresh", action="store_true", help="take no answer from the runs that lie here")
    parser.add_argument("--cached-only", action="store_true", help="run nothing: only what the runs here know")
    parser.add_argument("--git", type=Path, metavar="PATH", help="a checkout of FunASR: search its commits as well")
    parser.add_argument("--note", type=Path, metavar="RUN", help="keep the commits for the report of this run")
    parser.add_argument("--matrix", type=Path, metavar="FILE", default=Path("matrices/atlas.toml"), help="its settings")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: runs/bisections/<what is asked>")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="cells at once (default: one per processor)")
    _add_places(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON record to standard output")


def _add_drift(commands: Commands) -> None:
    parser = _command(commands, "drift", "group the releases of a run by their loss curves, and say where they diverge")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--cell", metavar="GLOB", help="only finetune cells whose id matches")
    parser.add_argument(
        "--trace",
        metavar="WHICH",
        help='run both sides of these divergences again with a recorder: "all", or numbers such as "1,3"',
    )
    parser.add_argument("--matrix", type=Path, metavar="FILE", help="its settings (default: the run's own matrix)")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="cells at once (default: one per processor)")
    _add_json(parser)
    _add_places(parser)


def _add_diagnose(commands: Commands) -> None:
    parser = _command(
        commands, "diagnose", "why a cell fails, told by running it beside the nearest release in which it passes"
    )
    parser.add_argument("cell", metavar="CELL_ID")
    parser.add_argument("--against", metavar="RELEASE", help="hold it against this release (default: the nearest)")
    parser.add_argument("--property", metavar="NAME", help="of a properties cell, which one (default: the first)")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        action="append",
        help="a run that tells where the cell passes (default: all under runs/ and reports/)",
    )
    parser.add_argument("--matrix", type=Path, metavar="FILE", help="whose settings hold (default: the run's)")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to (default: runs/diagnoses/<cell>)")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="cells at once (default: one per processor)")
    _add_places(parser)


def _add_gate(commands: Commands) -> None:
    parser = _command(commands, "gate", "what a checkout, wheel or patch of FunASR breaks and mends")
    parser.add_argument("--source", metavar="PATH", help="a checkout, a wheel or an sdist; or a release with --apply")
    parser.add_argument("--apply", type=Path, metavar="PATCH", help="lay this unified diff over the source first")
    parser.add_argument("--against", metavar="RELEASE", default="latest", help="held against it (default: latest)")
    parser.add_argument("--matrix", type=Path, metavar="FILE", default=Path("matrices/pr.toml"))
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="only cells whose id matches")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path("runs/gate"))
    parser.add_argument("--jobs", type=_positive, metavar="N", help="cells at once (default: one per processor)")
    parser.add_argument("--no-diagnosis", action="store_true", help="leave out why each regression fails")
    _add_places(parser)


def _add_bundle(commands: Commands) -> None:
    parser = _command(commands, "bundle", "a matrix and all that it needs as one file, for a host without a network")
    _add_matrix(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="such as gpu.pyz")
    parser.add_argument("--python", metavar="3.X", default="3.12", help="of the host (default: 3.12)")
    parser.add_argument(
        "--platform", metavar="NAME", default="x86_64-manylinux_2_28", help="of the host (default: %(default)s)"
    )
    _add_own_speech(parser)
    parser.add_argument(
        "--requirements", type=Path, metavar="FILE", default=Path("requirements.lock"), help="the lock of libraries"
    )
    _add_places(parser)


def _add_pack(commands: Commands) -> None:
    parser = _command(commands, "pack", "compress a finished run for keeping; every command reads it as before")
    parser.add_argument("run", type=Path, nargs="+", metavar="DIR", help="the run's folder")


def _add_baseline(commands: Commands) -> None:
    parser = _command(commands, "baseline", "accept what runs took on this machine as the measure of later ones")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    accept = actions.add_parser("accept", help="show what would change, and write it when that is confirmed")
    accept.add_argument(
        "run", type=Path, nargs="+", metavar="RUN", help="folders of runs of one matrix on one machine, three or more"
    )
    accept.add_argument("--yes", action="store_true", help="write it without asking")
    show = actions.add_parser("show", help="print every baseline with its origin")
    for action in (accept, show):
        action.add_argument(
            "--into", type=Path, metavar="DIR", default=BASELINES, help="where they lie (default: %(default)s)"
        )
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _add_baselines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="DIR",
        default=BASELINES,
        help="hold it against the baseline of its machine, if one lies here (default: %(default)s)",
    )


def _add_estimate(commands: Commands) -> None:
    parser = _command(
        commands, "estimate", "how much GPU memory a training step takes, and which batch fits; needs no GPU"
    )
    parser.add_argument("--variant", required=True, metavar="NAME", help="an architecture, or a YAML file of your own")
    parser.add_argument("--shape", required=True, metavar="V-H", help="vocabulary and hidden size, such as v8404-h512")
    parser.add_argument("--batch", type=_positive, required=True, metavar="N", help="its size, in --batch-type")
    parser.add_argument(
        "--batch-type",
        choices=("example", "token"),
        default="example",
        help="as FunASR's batch_type: utterances, or frames of 10 ms (default: example)",
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="length of every utterance (default: %(default)s)"
    )
    parser.add_argument("--characters", type=_positive, metavar="N", help="of every utterance (default: 10 in 3 s)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--depth", "--scale", type=Depth, choices=tuple(Depth), default=Depth.FULL)
    parser.add_argument("--release", default="latest", metavar="SPEC", help="one release (default: latest)")
    parser.add_argument(
        "--fit",
        action="append",
        default=[],
        metavar="SIZE",
        help="also tell the largest batch for a card, such as 24GB or 80GiB; may be given several times",
    )
    parser.add_argument("--gpu", metavar="KEY", help="take context and workspaces from this baseline's calibration")
    parser.add_argument("--json", action="store_true", help="print it as JSON, in bytes")
    _add_baselines(parser)
    _add_places(parser)


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


def _add_own_speech(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="your own speech, a FunASR jsonl file: trained on as it lies"
    )
    parser.add_argument(
        "--valid", type=Path, metavar="FILE", help="your own validation rows (default: the rows of --jsonl)"
    )
    parser.add_argument(
        "--rows", type=_positive, metavar="N", help="rows of --jsonl that finetune trains on (default: 60 at most)"
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lock", type=Path, metavar="FILE", default=LOCK, help="the lock of releases")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where releases and speech are kept")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number above 0, found "{text}"')
    return int(text)
