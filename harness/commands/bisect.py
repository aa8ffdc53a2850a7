"""`bisect`: every transition between one answer and another, over releases and then the commits between two."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from harness.commands.common import cell_runner, print_json
from harness.commands.exit_status import FAULT, FINE
from harness.commands.options import BISECTIONS
from harness.commands.own_variants import chosen_dimensions, source_of
from harness.compare.transitions.cached_outcomes import CachedOutcomes, folders, on_record
from harness.compare.transitions.cell_answer import Read, answer_of, curve_of
from harness.compare.transitions.commit_notes import CommitNote, add_commits
from harness.compare.transitions.commit_search import CommitBisector, History
from harness.compare.transitions.find import Found, Transition, find
from harness.compare.transitions.format import render_history, render_search
from harness.compare.transitions.git import Repository
from harness.compare.transitions.runner import CandidateRunner, enter_release, executed_files
from harness.compare.transitions.search_space import SearchSpace, asked_of, row_of_releases
from harness.compare.transitions.storing import TRANSITIONS, commit_notes, search_json
from harness.config.matrix import Matrix, VariantSource, load_matrix
from harness.core.cells import Cell, Depth, Device, Dimensions, Precision, Release, Status
from harness.core.durable import write_json
from harness.core.errors import InputError
from harness.core.temporary import temporary_folder
from harness.core.wire import now
from harness.releases import load_lock, resolve
from harness.run.runner import CellRunner
from harness.run.store import holds_run
from harness.text.terminal import say
from harness.variants.catalogue import available, folder_dimensions, load_variant


def main(options: argparse.Namespace) -> int:
    """Search, print and store; the exit status is 3 where an end gave different answers or nothing could be judged."""
    repository = Repository.open(options.git) if options.git else None
    _check_note(options)
    locked = load_lock(options.lock)
    matrix = load_matrix(
        options.matrix,
        resolve=lambda spec: resolve(spec, locked),
        variants=available(),
        gpu_present=False,
        folder_dimensions=folder_dimensions,
    )
    source, shape = _model(options)
    if options.by == "curve" and not options.check.startswith("finetune"):
        raise InputError(
            "--by curve compares losses, which only finetune gives", next_step="give --check finetune@native"
        )
    template = asked_of(
        options.check,
        variant=source.name if source else None,
        dimensions=shape,
        depth=options.depth or (Depth.REDUCED if options.device == Device.CPU else Depth.FULL),
        device=Device(options.device),
        precision=Precision(options.precision),
    )
    row = row_of_releases(template, _range(options, locked))
    record = CachedOutcomes(observations={})
    of_a_folder = source is not None and source.path is not None and source.path.is_dir()
    if of_a_folder and not options.fresh and not options.cached_only:
        say("outcomes of earlier runs are not used: a model folder may have changed since")
    elif not options.fresh:
        record = on_record(row, folders(), matrix=matrix.name, sha256=matrix.sha256, read=_read(options))
    for notice in record.notices:
        say(notice, style="yellow")
    with temporary_folder() as workspace:
        search = _Search(
            options=options, matrix=replace(matrix, variants=(source,) if source else ()), row=row, workspace=workspace
        )
        search_result = find(
            row, None if options.cached_only else search.ask, known=record.observations, exhaustive=options.exhaustive
        )
        _check_ends(options, search_result)
        _print(options, render_search(search_result))
        histories = (
            []
            if repository is None
            else [search.history(repository, transition) for transition in search_result.transitions]
        )
    place = (options.output or BISECTIONS / template.slug) / TRANSITIONS
    stored = search_json(search_result, histories, now())
    write_json(place, stored)
    if options.json:
        print_json(stored)
    say(f"stored in {place}")
    nothing = not any(answer is not None for answer in search_result.answers.values())
    return FAULT if search_result.stopped or nothing else FINE


class _Search:
    """What the search needs once a cell has to be run; the stack is looked at only then."""

    def __init__(
        self,
        *,
        options: argparse.Namespace,
        matrix: Matrix,
        row: SearchSpace,
        workspace: Path,
    ) -> None:
        self._options = options
        self._matrix = matrix
        self._row = row
        self._workspace = workspace

    @cached_property
    def _runner(self) -> CellRunner:
        return cell_runner(self._options)

    @cached_property
    def ask(self) -> CandidateRunner:
        """Runs the releases of the row."""
        runner = self._runner
        return CandidateRunner(
            runner=runner,
            matrix=self._matrix,
            row=self._row,
            enter=lambda place: enter_release(runner.settings.cache, place),
            read=_read(self._options),
            on_round=_say_round,
        )

    def history(self, repository: Repository, transition: Transition) -> History:
        """Search the commits of one transition, print them, and store them for a run's report with --note."""
        _print(self._options, ["", f"commits of {transition.before.place.label} → {transition.after.place.label}"])
        descent = CommitBisector(
            repository=repository,
            runner=self._runner,
            matrix=self._matrix,
            asked=self._row.asked,
            folder=self._workspace / "commits",
            read=_read(self._options),
            on_round=_say_round,
        )
        history = descent.between(transition)
        executed = self._executed(transition) if history.culprits else ()
        _print(self._options, render_history(history, repository, executed))
        if self._options.note:
            notes = commit_notes(self._row.asked.name, transition, history, repository, executed)
            self._note(notes)
        return history

    def _executed(self, transition: Transition) -> tuple[str, ...]:
        places = (transition.before.place, transition.after.place)
        questions = [(place.release, place.cell) for place in places if place.release and place.cell]
        return executed_files(self._runner, self._matrix, questions)

    def _note(self, notes: Sequence[CommitNote]) -> None:
        if notes:
            say(f"noted in {add_commits(self._options.note, notes)}")


def _model(options: argparse.Namespace) -> tuple[VariantSource | None, Dimensions | None]:
    """The variant that is searched with and its dimensions, which of a model folder are its own."""
    if options.variant is not None:
        variant = load_variant(options.variant)
        return source_of(variant, options.variant), chosen_dimensions(options.dimensions, variant)
    try:
        return None, Dimensions.parse(options.dimensions) if options.dimensions else None
    except ValueError as error:
        raise InputError(str(error)) from None


def _range(options: argparse.Namespace, locked: Sequence[Release]) -> tuple[Release, ...]:
    """The releases between the two ends that were named; from the first or to the last where one was not."""
    named = [_single_release(spec, locked) for spec in (options.good, options.bad) if spec]
    if not named:
        return tuple(locked)
    numbers = sorted(locked.index(release) for release in named)
    last = numbers[1] if len(numbers) > 1 else len(locked) - 1
    if numbers[0] == last:
        raise InputError("one release has no transition", next_step="give --good and --bad two different releases")
    return tuple(locked[numbers[0] : last + 1])


def _single_release(spec: str, locked: Sequence[Release]) -> Release:
    releases = resolve(spec, locked)
    if len(releases) != 1 or releases[0] not in locked:
        raise InputError(f'"{spec}" is not one published release', next_step="list them: funasr-harness releases list")
    return releases[0]


def _read(options: argparse.Namespace) -> Read:
    return curve_of if options.by == "curve" else answer_of


def _check_ends(options: argparse.Namespace, search_result: Found) -> None:
    """--good has to pass and --bad must not; with --by curve they only limit the range."""
    if options.by == "curve":
        return
    expectations: tuple[tuple[str | None, str, Callable[[Status], bool]], ...] = (
        (options.good, "good", lambda status: status is Status.PASSED),
        (options.bad, "bad", lambda status: status is not Status.PASSED),
    )
    for spec, word, fits in expectations:
        for number, answer in search_result.answers.items():
            place = search_result.row.places[number]
            if spec and place.label == spec and answer is not None and not fits(answer.status):
                raise InputError(
                    f"{spec} was named {word}, and it {answer}",
                    cause="it is the other way round, or the check is another one",
                    next_step="leave out --good and --bad: then every transition is searched",
                )


def _check_note(options: argparse.Namespace) -> None:
    if options.note is None:
        return
    if options.git is None:
        raise InputError("--note keeps commits, and without --git none is searched", next_step="give --git PATH too")
    if not holds_run(options.note):
        raise InputError(f"{options.note} holds no run", next_step="give the folder of a run, such as reports/atlas")


def _print(options: argparse.Namespace, lines: Iterable[str]) -> None:
    """Print lines at once, unless only the record is to be printed."""
    if not options.json:
        print("\n".join(lines), flush=True)


def _say_round(cells: Sequence[Cell]) -> None:
    labels = ", ".join(cell.release for cell in cells)
    say(f"running {len(cells)} cell{'s' if len(cells) != 1 else ''}: {labels}")
