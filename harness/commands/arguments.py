"""The arguments of each command, with their help and defaults; `options.py` has those that several share.

Nothing here imports a library that takes time, so that `--help` prints at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import __version__
from harness.commands.exit_status import epilog
from harness.commands.options import (
    BISECTIONS,
    DIAGNOSES,
    Commands,
    add_action,
    add_baselines,
    add_cache,
    add_cell,
    add_command,
    add_depth,
    add_dimensions,
    add_executor,
    add_fresh,
    add_hidden,
    add_jobs,
    add_json,
    add_known_issues,
    add_matrix,
    add_only,
    add_output_options,
    add_own_speech,
    add_places,
    add_precision,
    add_reuse,
    add_runs,
    add_shard,
    days,
    file_path,
    positive_number,
)
from harness.config.built_in import shipped_requirements
from harness.core.cells import Severity

SHELLS = ("bash", "zsh")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="funasr-harness",
        description="Does fine-tuning FunASR speech models work, since which release, and until which?",
        epilog=epilog(None) + "\n\nEach command's --help says what the statuses mean there.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="print the version")
    add_output_options(parser, defaults=True)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for add in (
        *(
            _add_preflight,
            _add_explain,
            _add_watch,
            _add_run,
            _add_merge,
            _add_list,
            _add_releases,
            _add_report,
            _add_show,
            _add_diagnose,
            _add_gate,
            _add_impact,
            _add_bisect,
        ),
        *(_add_drift, _add_bundle, _add_baseline, _add_estimate, _add_pack, _add_cache, _add_completion),
    ):
        add(commands)
    return parser


def _add_preflight(commands: Commands) -> None:
    parser = add_command(
        commands, "preflight", "say whether your fine-tune will work: model folder, data, script, release and card"
    )
    parser.usage = "funasr-harness preflight MODEL [options] [--script finetune.sh | -- ++train_conf.max_epoch=50 ...]"
    parser.add_argument(
        "model", type=file_path, metavar="MODEL", help="your model's folder (config.yaml, model.pt, ...)"
    )
    parser.add_argument(
        "--train", type=file_path, metavar="FILE", help="your training rows, a jsonl (default: the script's)"
    )
    parser.add_argument("--valid", type=file_path, metavar="FILE", help="your validation rows (default: the script's)")
    parser.add_argument(
        "--script",
        type=file_path,
        metavar="FILE",
        help="your copy of finetune.sh, which is read and not run (default: the overrides after `--`, or none)",
    )
    parser.add_argument(
        "--root",
        type=file_path,
        metavar="DIR",
        help="folder that the training is started in (default: the script's, or else this one)",
    )
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help="1.2.7, latest, installed, a path with a slash, or all: with which releases would it work? (default: the"
        " installed FunASR, or else the latest)",
    )
    parser.add_argument(
        "--python",
        type=file_path,
        metavar="FILE",
        help="the interpreter that `--release installed` is about (default: the harness's own)",
    )
    parser.add_argument(
        "--gpus", type=positive_number, metavar="N", help="GPUs that train (default: the script's, or 1)"
    )
    parser.add_argument("--gpu", metavar="SIZE", help="also predict memory for a card such as 24GB (default: not)")
    parser.add_argument(
        "--dry-run", action="store_true", help="also let the release's trainer take a few steps on a copy, here"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where --dry-run takes its steps; auto: on the GPU if torch finds one (default: %(default)s)",
    )
    parser.add_argument(
        "--fix", type=file_path, metavar="FILE", help="write a corrected copy of --train (default: none)"
    )
    parser.add_argument("--read-all", action="store_true", help="decode every recording, not a sample")
    parser.add_argument(
        "--json",
        type=file_path,
        metavar="FILE",
        help="write a JSON record; - prints it in place of the text (default: none)",
    )
    parser.add_argument("--html", type=file_path, metavar="FILE", help="write a page (default: none)")
    add_places(parser)
    parser.set_defaults(words=[])


def _add_explain(commands: Commands) -> None:
    parser = add_command(
        commands,
        "explain",
        "say what a training's log or traceback means: release, known cause, what to do",
    )
    parser.usage = 'funasr-harness explain [options] [train.log | "AssertionError: assert ..."]'
    parser.add_argument(
        "log",
        nargs="*",
        metavar="LOG",
        help="a file with the training's output, or the text itself in quotes; - or nothing is the standard input",
    )
    parser.add_argument("--release", metavar="VERSION", help="FunASR's version (default: as the log shows it)")
    parser.add_argument(
        "--train",
        type=file_path,
        metavar="JSONL",
        help="the rows that were trained on, to compare the losses with the unigram baseline of their texts; "
        "needs --tokens (default: none)",
    )
    parser.add_argument(
        "--tokens",
        type=file_path,
        metavar="FILE",
        help="the model's token list, or its folder: its config.yaml and seg_dict are read beside it (default: none)",
    )
    parser.add_argument(
        "--json",
        type=file_path,
        metavar="FILE",
        help="write a JSON record; - prints it in place of the text (default: none)",
    )
    add_places(parser)


def _add_watch(commands: Commands) -> None:
    parser = add_command(commands, "watch", "watch your own training while it runs, and say what is wrong with it")
    parser.usage = "funasr-harness watch [options] -- COMMAND ..."
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        metavar="DIR",
        help="folder of the records, the output and the reports (default: a new one, watched- and the time)",
    )
    parser.add_argument(
        "--stop-on",
        choices=[str(severity) for severity in (Severity.BROKEN, Severity.WRONG)],
        help="end the training when something of this severity, or worse, is found (default: never)",
    )
    parser.add_argument(
        "--card", metavar="SIZE", help="also say whether a card such as 24GB would hold it (default: not)"
    )
    parser.add_argument("--page", action="store_true", help="also serve the page on this machine while it trains")
    parser.add_argument(
        "--of",
        type=file_path,
        metavar="DIR",
        help="report on what was recorded in this folder, and run no command (default: none)",
    )
    parser.set_defaults(words=[])


def _add_run(commands: Commands) -> None:
    parser = add_command(commands, "run", "run a matrix and write its reports; resumes a run that was stopped")
    add_matrix(parser)
    add_shard(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        metavar="DIR",
        help="folder of the run (default: runs/MATRIX; with --shard 2/5 runs/MATRIX-shard-2-of-5)",
    )
    add_own_speech(parser)
    parser.add_argument(
        "--jobs",
        type=positive_number,
        metavar="N",
        help="cells at the same time (default: one per processor; of those on a GPU, one per GPU)",
    )
    add_executor(parser)
    add_fresh(parser, "what the run's folder holds is set aside")
    add_reuse(parser)
    parser.add_argument("--require-gpu", action="store_true", help="fail if torch finds no GPU")
    add_baselines(parser, "compare with the baseline of this machine in this folder, if there is one")
    add_known_issues(parser)
    add_places(parser)


def _add_merge(commands: Commands) -> None:
    parser = add_command(commands, "merge", "make one run of the shards that `run --shard` made, and write its reports")
    parser.add_argument("run", type=file_path, nargs="+", metavar="DIR", help="folder of a shard's run")
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="DIR", help="folder of the merged run (default: runs/MATRIX)"
    )
    add_fresh(parser, "what the merged run's folder holds is set aside")
    add_baselines(parser, "compare with the baseline of the run's machine in this folder, if there is one")
    add_known_issues(parser)
    add_places(parser)


def _add_list(commands: Commands) -> None:
    parser = add_command(commands, "list", "list the cells of a matrix without running any", aliases=("cells",))
    add_matrix(parser)
    add_shard(parser)
    add_places(parser)


def _add_releases(commands: Commands) -> None:
    parser = add_command(commands, "releases", "list, lock or fetch the published releases")
    parser.add_argument(
        "action",
        choices=("list", "lock", "fetch"),
        help="list: print them; lock: record name and hash of every published release, in matrices/ of the working"
        " folder; fetch: install them in the cache",
    )
    parser.add_argument(
        "spec", nargs="*", help='which: 1.4.16, ">=1.0.12,<1.1", latest, all, or a path with a slash (default: all)'
    )
    parser.add_argument(
        "--jobs", type=positive_number, metavar="N", help="installations at the same time (default: two per processor)"
    )
    add_places(parser)


def _add_report(commands: Commands) -> None:
    parser = add_command(commands, "report", "write the reports of a run again")
    parser.add_argument("run", type=file_path, nargs="?", metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--import",
        dest="import_result",
        type=file_path,
        metavar="FILE",
        help="make a run of the result file of a bundle, then report it (default: report DIR)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        metavar="DIR",
        help="folder of the reports (default: the run's folder; with --import, runs/MATRIX)",
    )
    parser.add_argument(
        "--predict", action="store_true", help="also predict the memory of GPU trainings that have no prediction yet"
    )
    add_baselines(parser, "compare with the baseline of the run's machine in this folder, if there is one")
    add_known_issues(parser)
    add_places(parser)


def _add_show(commands: Commands) -> None:
    parser = add_command(commands, "show", "print everything known about one cell, and the command that repeats it")
    add_cell(parser)
    add_runs(parser)
    parser.add_argument(
        "--as-issue",
        type=file_path,
        nargs="?",
        const=Path("issues"),
        metavar="DIR",
        help="also write a report for FunASR's tracker for each finding, with a short script, and run the script in"
        " that release (default: no; without DIR, into the folder issues)",
    )
    add_known_issues(parser)
    add_json(parser)
    add_places(parser)


def _add_diagnose(commands: Commands) -> None:
    parser = add_command(
        commands, "diagnose", "say why a cell fails, by comparing it with the nearest release in which it passes"
    )
    add_cell(parser)
    parser.add_argument(
        "--against", metavar="RELEASE", help="release to compare with (default: the nearest in which the cell passes)"
    )
    parser.add_argument("--property", metavar="NAME", help="which property of a properties cell (default: the first)")
    parser.add_argument(
        "--variant",
        metavar="PATH",
        help="the variant's file, or the model folder of your own, that the cell is about (default: the matrix's)",
    )
    add_runs(parser)
    parser.add_argument(
        "--matrix", metavar="MATRIX", help="use the settings of this matrix (default: that of the run, or else atlas)"
    )
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="DIR", help=f"folder of the diagnosis (default: {DIAGNOSES}/CELL)"
    )
    add_jobs(parser)
    add_json(parser)
    add_places(parser)


def _add_gate(commands: Commands) -> None:
    parser = add_command(commands, "gate", "say what a checkout, wheel or patch of FunASR breaks and fixes")
    parser.add_argument(
        "--source",
        metavar="PATH",
        help="a checkout, a wheel or an sdist; with --apply also a release (default: with --apply, that of --against)",
    )
    parser.add_argument(
        "--apply", type=file_path, metavar="PATCH", help="apply this unified diff to the source first (default: none)"
    )
    parser.add_argument(
        "--against", metavar="RELEASE", default="latest", help="release to compare with (default: %(default)s)"
    )
    parser.add_argument("--matrix", metavar="MATRIX", default="pr", help="what is run (default: %(default)s)")
    add_only(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        metavar="DIR",
        default=Path("runs/gate"),
        help="folder of the result (default: %(default)s)",
    )
    add_jobs(parser)
    add_reuse(parser)
    parser.add_argument("--no-diagnosis", action="store_true", help="leave out the diagnosis of each regression")
    add_json(parser)
    add_places(parser)


def _add_impact(commands: Commands) -> None:
    parser = add_command(
        commands, "impact", "say which checks a change of FunASR reaches, before anything runs, and by which functions"
    )
    parser.add_argument(
        "--source", metavar="PATH", required=True, help="a checkout, a wheel or an sdist, or another release"
    )
    parser.add_argument(
        "--against",
        metavar="RELEASE",
        default="latest",
        help="release whose cells a `run --reuse` has recorded (default: %(default)s)",
    )
    add_json(parser)
    add_places(parser)


def _add_bisect(commands: Commands) -> None:
    parser = add_command(
        commands, "bisect", "find every transition between passing and failing, over releases and commits"
    )
    parser.add_argument("--check", required=True, metavar="CHECK", help="such as loss_contract or finetune@native")
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="a built-in variant, the path of a variant's file, or a model folder of your own (default: none)",
    )
    add_dimensions(parser, required=False)
    add_depth(parser)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="device of the cells (default: %(default)s)"
    )
    add_precision(parser)
    parser.add_argument("--good", metavar="VERSION", help="one end: a release that passes (default: all releases)")
    parser.add_argument("--bad", metavar="VERSION", help="the other end: one that fails (default: all releases)")
    parser.add_argument(
        "--by",
        choices=("answer", "curve"),
        default="answer",
        help="compare how cells end, or their loss curves (default: %(default)s)",
    )
    parser.add_argument(
        "--exhaustive", action="store_true", help="run the cell in every release, so that no transition can be missed"
    )
    add_fresh(parser, "outcomes of the runs in runs/ and reports/ are not read")
    parser.add_argument(
        "--cached-only", action="store_true", help="run nothing: use only outcomes of the runs in runs/ and reports/"
    )
    parser.add_argument(
        "--git",
        type=file_path,
        metavar="PATH",
        help="also search the commits of this checkout of FunASR (default: none)",
    )
    parser.add_argument(
        "--note", type=file_path, metavar="DIR", help="store the commits for the report of the run in this folder"
        " (default: not stored)"
    )  # fmt: skip
    parser.add_argument(
        "--matrix", metavar="MATRIX", default="atlas", help="use the settings of this matrix (default: %(default)s)"
    )
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="DIR", help=f"folder of the result (default: {BISECTIONS}/CELL)"
    )
    add_jobs(parser)
    add_json(parser)
    add_places(parser)


def _add_drift(commands: Commands) -> None:
    parser = add_command(
        commands, "drift", "group the releases of a run by their loss curves, and say where and why curves diverge"
    )
    parser.add_argument("run", type=file_path, metavar="DIR", help="folder of the run")
    add_only(parser, "only finetune cells whose id matches this glob")
    add_hidden(parser, "--cell", dest="only", action="append")
    parser.add_argument(
        "--trace",
        metavar="WHICH",
        help='run both sides of these divergences again with a recorder: "all", or numbers such as "1,3"'
        " (default: none)",
    )
    parser.add_argument(
        "--matrix", metavar="MATRIX", help="use the settings of this matrix (default: the run's own matrix)"
    )
    add_jobs(parser)
    add_json(parser)
    add_places(parser)


def _add_bundle(commands: Commands) -> None:
    parser = add_command(
        commands, "bundle", "write a matrix and all that it needs into one file, for a host without a network"
    )
    add_matrix(parser)
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="FILE", required=True, help="the bundle's file, such as gpu.pyz"
    )
    parser.add_argument(
        "--python", metavar="3.X", default="3.12", help="Python version of the host (default: %(default)s)"
    )
    parser.add_argument(
        "--platform",
        metavar="NAME",
        default="x86_64-manylinux_2_28",
        help="platform of the host (default: %(default)s)",
    )
    add_own_speech(parser)
    parser.add_argument(
        "--requirements",
        type=file_path,
        metavar="FILE",
        default=shipped_requirements(),
        help="lock of the libraries (default: requirements.lock if it is there, or else the built-in file)",
    )
    add_places(parser)


def _add_baseline(commands: Commands) -> None:
    parser = add_command(
        commands, "baseline", "accept time and memory of runs on this machine as its baseline, or show it"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    accept = add_action(actions, "accept", "show what would change, and write it once that is confirmed")
    accept.add_argument(
        "run",
        type=file_path,
        nargs="+",
        metavar="DIR",
        help="folders of runs of one matrix on one machine, three or more",
    )
    accept.add_argument("--yes", action="store_true", help="write without asking for a confirmation")
    show = add_action(actions, "show", "print every baseline with its origin")
    for action in (accept, show):
        add_baselines(action, "folder of the baselines")
        add_hidden(action, "--into", dest="baselines", type=file_path)
        add_output_options(action, defaults=False)


def _add_estimate(commands: Commands) -> None:
    parser = add_command(
        commands, "estimate", "predict how much GPU memory a training step takes and which batch fits; needs no GPU"
    )
    parser.add_argument(
        "--variant",
        required=True,
        metavar="NAME",
        help="a built-in variant, the path of a variant's file, or a model folder of your own",
    )
    add_dimensions(parser, required=False)
    parser.add_argument("--batch", type=positive_number, required=True, metavar="N", help="batch size, in --batch-type")
    parser.add_argument(
        "--batch-type",
        choices=("example", "token"),
        default="example",
        help="FunASR's batch_type: utterances, or frames of 10 ms (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="length of every utterance (default: %(default)s)"
    )
    parser.add_argument(
        "--characters",
        type=positive_number,
        metavar="N",
        help="characters an utterance (default: 10 in 3 seconds)",
    )
    add_precision(parser)
    add_depth(parser)
    parser.add_argument("--release", default="latest", metavar="SPEC", help="one release (default: %(default)s)")
    parser.add_argument(
        "--fit",
        action="append",
        default=[],
        metavar="SIZE",
        help="also print the largest batch for a card, such as 24GB or 80GiB; may be repeated (default: none)",
    )
    parser.add_argument(
        "--gpu",
        metavar="KEY",
        help="take context and workspaces from this baseline's calibration (default: neither is known)",
    )
    add_json(parser, "print one JSON record to standard output, sizes in bytes")
    add_baselines(parser, "folder of the baselines that --gpu reads")
    add_places(parser)


def _add_pack(commands: Commands) -> None:
    parser = add_command(commands, "pack", "compress a finished run for keeping; every command reads it as before")
    parser.add_argument("run", type=file_path, nargs="+", metavar="DIR", help="folder of a run")


def _add_cache(commands: Commands) -> None:
    parser = add_command(commands, "cache", "show what the cache holds, by release and age, and free it")
    parser.add_argument(
        "--older-than",
        type=days,
        metavar="DAYS",
        help="remove what no command has used for so many days, never what one uses now (default: only show)",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="GLOB",
        help="keep entries of these names, such as 1.4.16 or 1.3.*; may be repeated (default: none)",
    )
    add_cache(parser)
    add_json(parser)


def _add_completion(commands: Commands) -> None:
    parser = add_command(commands, "completion", "print a script that makes a shell complete this command line")
    parser.add_argument("shell", choices=SHELLS, help="the shell, such as bash")
