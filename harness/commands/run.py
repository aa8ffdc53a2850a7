"""`run`: from a matrix to outcomes, verdicts and reports."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.commands.common import (
    arguments_of,
    cell_runner,
    locked_labels,
    own_speech_lines,
    read_cells,
    read_own_speech,
    take_shard,
)
from harness.commands.exit_status import FINE
from harness.config.shards import ShardOrigin
from harness.core.cells import Cell, Device
from harness.core.errors import InputError, MatrixError, NoGpuError, SelectionError
from harness.core.temporary import temporary_folder
from harness.core.wire import now
from harness.corpus.user_files import write_corrected
from harness.corpus.user_speech import OwnSpeech
from harness.environments.environment import Environment
from harness.performance.baselines import Baseline, load_baselines
from harness.performance.baselines.compare import compare
from harness.report.baselines import line
from harness.report.terminal import answer, reuse_line, summary
from harness.rules.counterexamples import load_counterexamples
from harness.rules.known_issues import KnownIssues, load_known_issues
from harness.rules.verdicts import exit_code, judge
from harness.run.cluster.node import SpeechFiles
from harness.run.cluster.ray_cluster import RayCluster, connected
from harness.run.prepare import Prepared, lay_out_releases, releases_with_trainers
from harness.run.progress import Display, RunStage, stage
from harness.run.provenance import Provenance
from harness.run.reuse.reuse import Reuse
from harness.run.runner import CellRunner
from harness.run.store import RunStore, StackFacts, collect_provenance, load_run
from harness.text.terminal import say, say_result, width
from harness.variants.catalogue import available

NO_GPU = (
    "No GPU: torch sees none, so everything runs on the CPU and no VRAM is measured. "
    "The report says so; --require-gpu makes it an error."
)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a host that lacks some libraries leaves out; by default nothing."""

    cells: frozenset[str] | None = None
    """The ids of cells that can be run here; None for all."""
    left_out: frozenset[str] = frozenset()
    """Checks that nobody expects here."""
    arguments: tuple[str, ...] | None = None
    """The arguments that repeat the run where the bundle was made; None for those typed here."""
    runner: Callable[[argparse.Namespace], CellRunner] = cell_runner
    """Makes the runner; called once matrix and speech are known to be right."""
    issues: KnownIssues | None = None
    """What is known before failures with a user's own input are tried on stock input; None where that is not done."""


def main(options: argparse.Namespace) -> int:
    """Run what is missing of a matrix, report all of it, and return the exit status."""
    expected = _Expected(
        issues=load_known_issues(options.known_issues, variants=available()),
        baselines=load_baselines(options.baselines),
        published=locked_labels(options.lock),
    )
    counterexamples = load_counterexamples(expected.issues, options.known_issues)
    bounds = Bounds(runner=partial(cell_runner, counterexamples=counterexamples), issues=expected.issues)
    output, cells = measure(options, bounds)
    if not cells:
        say(f"shard {options.shard} has no cells: fewer groups of cells can run apart than there are shards")
        return FINE
    if any(cell.device is Device.CUDA for cell in cells):
        # Not above: a bundle brings what measures, and predicts nothing.
        from harness.commands.predictions import add_predictions

        with stage("predicting the memory of trainings on a GPU, as far as that is missing"):
            add_predictions(output, options)
    return _conclude(output, cells, expected)


def measure(options: argparse.Namespace, bounds: Bounds) -> tuple[Path, tuple[Cell, ...]]:
    """Run what is missing of a matrix; returns the run's folder and the cells that were selected.

    Cells that cannot be run here are among those: what is selected and not run is no success.

    Raises:
        HarnessError: why it cannot be run here.
    """
    if getattr(options, "executor", None) and getattr(options, "reuse", False):
        raise InputError(
            "--reuse and --executor exclude each other: outcomes are compared within one process tree",
            next_step="leave one of them out",
        )
    _validate_early(options)
    with stage(f"reading {options.jsonl}") if options.jsonl else contextlib.nullcontext():
        user_speech = read_own_speech(options)
    runner = bounds.runner(options)
    with contextlib.ExitStack() as resources:
        executor = getattr(options, "executor", None)
        cluster = resources.enter_context(connected(executor.address)) if executor else None
        return _measure_where(options, bounds, runner, user_speech, cluster)


def _measure_where(
    options: argparse.Namespace,
    bounds: Bounds,
    runner: CellRunner,
    user_speech: OwnSpeech | None,
    cluster: RayCluster | None,
) -> tuple[Path, tuple[Cell, ...]]:
    """Here, or on the nodes of a cluster."""
    stack = runner.settings.environment
    gpu_present = stack.cuda_available if cluster is None else cluster.has_gpu
    if not gpu_present:
        if options.require_gpu:
            raise NoGpuError(
                "--require-gpu was given and torch finds no GPU" if cluster is None else "no node has a GPU",
                cause=f"torch {stack.torch_version} is a CPU build, or there is no NVIDIA driver",
                next_step="install a CUDA build of torch on a machine with a GPU, or leave the option out",
            )
        say(NO_GPU, style="bold yellow")
    matrix, cells = read_cells(options, gpu_present=gpu_present)
    trained = releases_with_trainers(cells)
    shard, cells = take_shard(options, matrix, cells)
    selected, cells = _within(cells, bounds)
    _reject_missing_gpu(cells, stack, gpu_present)
    name = f"{matrix.name}-shard-{shard.number}-of-{shard.count}" if shard else matrix.name
    output = options.output or Path("runs") / name
    with temporary_folder() as workspace:
        # What is wrong with the speech is said before the run's folder is touched, and before anything is fetched.
        with stage(f"{matrix.name}: {len(cells)} cells; making speech and model folders ready"):
            prepared = runner.prepare(
                matrix,
                cells,
                workspace,
                user_speech=user_speech,
                rows=getattr(options, "rows", None),
                carried=getattr(options, "carried", None),
            ).as_part_of(trained)
        for line in own_speech_lines(prepared.speech):
            say(line.text, style=line.style)
        with RunStore.open(output, fresh=options.fresh) as store:
            for notice in store.notices:
                say(notice, style="yellow")
            run = _Run(
                options=options,
                bounds=bounds,
                runner=runner,
                prepared=prepared,
                selected=selected,
                shard=shard,
                cluster=cluster,
            )
            _measure(run, cells, store, workspace)
    return output, selected


def _within(cells: tuple[Cell, ...], bounds: Bounds) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The cells that are expected to be run here, and those that can be."""
    if bounds.cells is None:
        return cells, cells
    expected = tuple(cell for cell in cells if cell.check not in bounds.left_out)
    runnable = tuple(cell for cell in expected if cell.id in bounds.cells)
    if not runnable:
        raise SelectionError(
            f"none of the {len(cells)} selected cells can be run from this bundle, such as {cells[0].id}",
            next_step="select other cells, or make a bundle that holds these",
        )
    if not_bundled := [cell.id for cell in expected if cell.id not in bounds.cells]:
        say(
            f"{len(not_bundled)} of the {len(expected)} selected cells are not in this bundle and are not run, "
            f"such as {not_bundled[0]}",
            style="bold yellow",
        )
    return expected, runnable


def _validate_early(options: argparse.Namespace) -> None:
    """Raise what is wrong with matrix and selection whatever the machine is, before seconds are spent to look at it."""
    try:
        read_cells(options, gpu_present=False)
    except (MatrixError, SelectionError):
        read_cells(options, gpu_present=True)


def _reject_missing_gpu(cells: Sequence[Cell], stack: Environment, gpu_present: bool) -> None:
    gpu_cells = [cell.id for cell in cells if cell.device is Device.CUDA]
    if gpu_cells and not gpu_present:
        # FunASR itself would continue on the CPU, and the outcome would be taken for a GPU's.
        raise NoGpuError(
            f"{len(gpu_cells)} cells need a GPU and torch finds none, such as {gpu_cells[0]}",
            cause=f'the matrix says device = ["cuda"], and torch is {stack.torch_version}',
            next_step='say "auto" in the matrix, or choose other cells with --only',
        )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What holds for all cells of a run."""

    options: argparse.Namespace
    bounds: Bounds
    runner: CellRunner
    prepared: Prepared
    selected: tuple[Cell, ...]
    """The cells that are expected of it, those that cannot be run here among them."""
    shard: ShardOrigin | None
    """Which part of the matrix that is, if it is one."""
    cluster: RayCluster | None
    """What runs the cells; None for this machine."""


def _measure(run: _Run, cells: Sequence[Cell], store: RunStore, workspace: Path) -> None:
    prepared, options = run.prepared, run.options
    matrix, stack = prepared.matrix, prepared.stack
    facts = StackFacts(
        python=stack.python_version, torch=stack.torch_version, cuda=stack.cuda_version, libraries=stack.libraries
    )
    expected = {cell.id for cell in run.selected} | {outcome.cell.id for outcome in store.load()}
    provenance = store.begin(
        collect_provenance(
            matrix,
            facts,
            corpus_sha256=prepared.speech.sha256,
            speech=prepared.speech.used,
            selection=options.only,
            notices=prepared.speech.notices,
            arguments=run.bounds.arguments if run.bounds.arguments is not None else arguments_of(options),
            selected=len(expected),
            shard=run.shard,
        )
    )
    if prepared.speech.own and (corrected := write_corrected(prepared.speech.own.speech.train, store.folder)):
        say(f"a copy with `source_len` in frames of 10 ms: {corrected}", style="yellow")
    remaining = store.remaining(cells)
    if remaining:
        with stage(f"{len(remaining)} cells to run; fetching and laying out their releases") as laying:
            ready = _Counted(laying, total=len({cell.release for cell in remaining}))
            lay_out_releases(prepared, remaining, on_done=ready)
        if run.cluster:
            provenance = _execute_on(run.cluster, run, remaining, store, provenance)
        else:
            provenance = _execute(run, remaining, store, workspace, provenance)
    else:
        say("0 cells to run")
    if run.bounds.issues is not None and (prepared.own_variants or prepared.speech.own):
        # Not above: a bundle's host may lack what the rules need.
        from harness.commands.stock_input import try_stock_input

        try_stock_input(run.runner, prepared, store, cells, run.bounds.issues)
    store.finish(provenance, now())


class _Counted:
    """Counts what is ready."""

    def __init__(self, progress: RunStage, total: int) -> None:
        self._stage, self._total, self._done = progress, total, 0

    def __call__(self, _release: object) -> None:
        self._done += 1
        self._stage.note = f"{self._done} of {self._total} are ready"


def _execute_on(
    cluster: RayCluster, run: _Run, cells: Sequence[Cell], store: RunStore, provenance: Provenance
) -> Provenance:
    """Run the cells on a cluster; returns where the outcomes come from, its machines among that."""
    from harness.run.cluster.cluster_run import ClusterRun

    options, missing = run.options, set(cells)
    with Display(total=len(cells)) as display:
        return ClusterRun(
            cluster=cluster,
            runner=run.runner,
            prepared=run.prepared,
            store=store,
            display=display,
            cache=run.runner.settings.cache if options.cache else None,
            speech=SpeechFiles.of(options.jsonl, options.valid, options.rows),
        ).execute(cells, [outcome for outcome in store.load() if outcome.cell not in missing], provenance)


def _execute(run: _Run, cells: Sequence[Cell], store: RunStore, workspace: Path, provenance: Provenance) -> Provenance:
    """Run the cells on this machine; returns where the outcomes come from, what was reused among that."""
    runner, prepared, missing = run.runner, run.prepared, set(cells)
    prior = [outcome for outcome in store.load() if outcome.cell not in missing]
    reuse = None
    if getattr(run.options, "reuse", False):
        reuse = runner.reuse(
            prepared,
            alone=len({cell.release for cell in cells}) == 1,
            not_reusable=provenance.reuse.not_reusable if provenance.reuse else (),
        )
    plan = runner.plan(prepared, cells, workspace, prior=prior, reuse=reuse)
    try:
        with Display(total=len(plan.cells) + len(plan.decided)) as display:
            runner.execute(plan, prepared, store.append, display=display, reuse=reuse)
    finally:
        if reuse is not None:
            # Also of an interrupted run: what resumes it must know what cannot be reused.
            provenance = _keep_reuse(reuse, store, provenance)
    return provenance


def _keep_reuse(reuse: Reuse, store: RunStore, provenance: Provenance) -> Provenance:
    """Keep what a run found out about reuse, for its report and for later runs."""
    with contextlib.suppress(OSError):
        # A cache that cannot be written to costs later runs their time.
        reuse.save()
    facts = replace(reuse.count.facts().and_earlier(provenance.reuse), reused=store.reused())
    if facts.reused or facts.refuted:
        say(reuse_line(facts), style="bold yellow" if facts.refuted else "")
    provenance = replace(provenance, reuse=facts)
    store.note(provenance)
    return provenance


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """What the outcomes are compared with; read before the run, so that an unusable file is reported early."""

    issues: KnownIssues
    baselines: tuple[Baseline, ...]
    published: tuple[str, ...]
    """All releases that exist."""


def _conclude(output: Path, cells: Sequence[Cell], expected: _Expected) -> int:
    with stage("judging the outcomes and writing the reports"):
        # Not above: the parts that lay out HTML take longer to import than a small run's other preparations.
        from harness.report import write_reports

        run = load_run(output)
        judged = judge(run.outcomes, expected.issues)
        against = compare([item.outcome for item in judged], run.provenance, expected.baselines)
        paths = write_reports(run, judged, output, published=expected.published, against=against)
    selected = {cell.id for cell in cells}
    selected_outcomes = [item for item in judged if item.outcome.cell.id in selected]
    answers = answer(selected_outcomes, expected.published, width=width())
    say_result(
        "\n".join(filter(None, (answers and f"\n{answers}\n", summary(selected_outcomes), line(against, selected))))
    )
    for notice in run.notices:
        say(notice, style="bold yellow")
    say(f"reports: {paths.html}\n         {paths.markdown}\n         {paths.junit}")
    return exit_code(selected_outcomes, planned=cells, changed=against.changed(selected))
