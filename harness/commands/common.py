"""What several commands begin with: the lock, the cache and the cells that the options name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.commands.options import BASELINES, default_known_issues, default_lock
from harness.config.matrix import Matrix, load_matrix, select
from harness.config.shards import Shard, ShardOrigin, split
from harness.core.cells import Cell, Release
from harness.core.durable import json_text
from harness.core.errors import InputError, MatrixError
from harness.corpus.notices import notices_of
from harness.corpus.user_files import MOST_ROWS
from harness.corpus.user_speech import OwnSpeech, read_own
from harness.environments.environment import probe
from harness.releases import default_cache, load_lock, resolve
from harness.rules.apply import apply_rules
from harness.rules.counterexamples import load_counterexamples
from harness.rules.known_issues import load_known_issues
from harness.run.durations import committed_run, expected_seconds
from harness.run.prepare import Speech, StoredExamples
from harness.run.progress import stage
from harness.run.repeat_commands import ELSEWHERE, near
from harness.run.runner import CellRunner, RunnerSettings
from harness.text.terminal import say_detail
from harness.variants.catalogue import available, folder_dimensions, load_variant
from harness.variants.variant import dimension_problems


def read_cells(options: argparse.Namespace, *, gpu_present: bool) -> tuple[Matrix, tuple[Cell, ...]]:
    """The matrix that the options name, expanded with the locked releases, and those of its cells that they select.

    Raises:
        MatrixError: all that is wrong with the matrix or the lock.
        VariantError: all that is wrong with a variant of the user's.
        SelectionError: a selection matches nothing.
    """

    # Read only when a release is looked up, so that a mistyped matrix is reported before a missing lock.
    @cache
    def locked() -> tuple[Release, ...]:
        return load_lock(options.lock)

    say_detail(f"matrix: {options.matrix}\nlock: {options.lock}")
    matrix = load_matrix(
        options.matrix,
        resolve=lambda spec: resolve(spec, locked()),
        variants=available(),
        gpu_present=gpu_present,
        folder_dimensions=folder_dimensions,
    )
    if problems := tuple(dict.fromkeys(_misfits(matrix))):
        raise MatrixError(str(options.matrix), problems)
    return matrix, select(matrix.cells, options.only)


def take_shard(
    options: argparse.Namespace, matrix: Matrix, cells: tuple[Cell, ...]
) -> tuple[ShardOrigin | None, tuple[Cell, ...]]:
    """The cells of the shard that the options name, and what its run says of itself; all cells without `--shard`.

    Raises:
        InputError: `--durations` without `--shard`.
        StoreError: a folder of `--durations` holds no run.
    """
    shard: Shard | None = getattr(options, "shard", None)
    durations: list[Path] | None = getattr(options, "durations", None)
    if shard is None:
        if durations:
            raise InputError("--durations balances shards, and there is no --shard", next_step="give --shard K/N too")
        return None, cells
    folders = committed_run(matrix) if durations is None else durations
    parts = split(cells, shard.count, expected_seconds(matrix, folders))
    return parts.origin(shard, [near(folder) for folder in durations or ()]), parts.part(shard)


def arguments_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The arguments of `run` that shape its outcomes, as the run keeps them; see `harness.run.repeat_commands`."""
    words = [near(options.matrix)]
    defaults = {"known_issues": default_known_issues(), "lock": default_lock(), "baselines": BASELINES}
    for name in ("jsonl", "valid", *defaults):
        default = defaults.get(name)
        value = getattr(options, name, default)
        if value is not None and value != default:
            words += [f"--{name.replace('_', '-')}", near(value)]
    if rows := getattr(options, "rows", None):
        words += ["--rows", str(rows)]
    cache = getattr(options, "cache", None)
    # Elsewhere it is where this machine keeps things, and says nothing of the outcomes.
    if cache is not None and not near(Path(cache)).startswith(ELSEWHERE):
        words += ["--cache", near(Path(cache))]
    return (*words, *(["--require-gpu"] if getattr(options, "require_gpu", False) else []))


def cache_of(options: argparse.Namespace) -> Path:
    """The cache that the options name, or the default one; absolute, as a release's processes run elsewhere."""
    cache = Path(options.cache).absolute() if options.cache else default_cache()
    say_detail(f"cache: {cache}")
    return cache


def print_json(record: Mapping[str, object]) -> None:
    """Print a record as strict JSON to standard output; what JSON has no number for is "nan", "inf" or "-inf"."""
    print(json_text(record), end="")


def cell_runner(options: argparse.Namespace, *, counterexamples: StoredExamples | None = None) -> CellRunner:
    """The runner of every command; looks at the environment, which takes as long as an import of torch.

    Args:
        options: The command's.
        counterexamples: Those of the known issues if None.

    Raises:
        HarnessError: the environment cannot run a release, or the known issues cannot be read.
    """
    cache = cache_of(options)
    saved = saved_counterexamples(options) if counterexamples is None else counterexamples
    with stage("looking at the interpreter and its torch"):
        environment = probe(cache=cache)
    settings = RunnerSettings(
        environment=environment,
        cache=cache,
        rule=apply_rules,
        counterexamples=saved,
        jobs=getattr(options, "jobs", None),
    )
    return CellRunner(settings=settings)


def saved_counterexamples(options: argparse.Namespace) -> StoredExamples:
    """Those of the known issues that the options name, or of the default ones."""
    path: Path = getattr(options, "known_issues", None) or default_known_issues()
    return load_counterexamples(load_known_issues(path, variants=available()), path)


def locked_labels(lock: Path) -> tuple[str, ...]:
    """The labels of all published releases that the lock knows, oldest first."""
    return tuple(release.label for release in load_lock(lock))


def _misfits(matrix: Matrix) -> Iterator[str]:
    """Sizes of the matrix that one of its variants cannot have."""
    variants = {source.name: load_variant(str(source.path or source.name)) for source in matrix.variants}
    for name, dimensions in dict.fromkeys((cell.variant, cell.dimensions) for cell in matrix.cells):
        if name and dimensions:
            yield from (f"{name}: {problem}" for problem in dimension_problems(variants[name], dimensions))


@dataclass(frozen=True, kw_only=True)
class SpeechLine:
    """One line for the terminal."""

    text: str
    style: str = ""


def read_own_speech(options: argparse.Namespace) -> OwnSpeech | None:
    """The user's files; None where the harness's corpus is to be used.

    Raises:
        CorpusError: a file that FunASR could not train on.
        InputError: options without the file that they are about.
    """
    if options.jsonl is None:
        for name in ("valid", "rows"):
            if getattr(options, name, None) is not None:
                raise InputError(
                    f"--{name} says something about a file of your own, and there is none",
                    next_step="name the training rows with --jsonl",
                )
        return None
    return read_own(options.jsonl, valid=getattr(options, "valid", None), root=getattr(options, "root", None))


def own_speech_lines(speech: Speech) -> list[SpeechLine]:
    """What is said of the user's files before anything runs: what is used, and then what is odd about it."""
    if speech.own is None:
        return []
    return [SpeechLine(text=speech.used), *(SpeechLine(text=notice, style="yellow") for notice in speech.notices)]


def carried_lines(user_speech: OwnSpeech | None, rows: int | None) -> list[SpeechLine]:
    """What is said of the user's files when they are put into a bundle."""
    if user_speech is None:
        return []
    name, listed = user_speech.train.path.name, len(user_speech.train.rows)
    carried = min(listed, MOST_ROWS if rows is None else rows)
    changed = f"{name}: `source` is rewritten to the recording's place in the bundle; every other byte is as it was"
    lines = [
        SpeechLine(text=changed),
        *(SpeechLine(text=notice, style="yellow") for file in user_speech.files for notice in notices_of(file)),
    ]
    if carried < listed:
        part = f"{name}: {carried} of its {listed} rows are carried, evenly spaced; --rows {listed} carries all"
        lines.append(SpeechLine(text=part, style="yellow"))
    return lines
