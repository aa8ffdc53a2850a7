"""Whole commands with reuse, against their goals. They take minutes: each is run by `nox -s bench -- -k NAME` alone."""

from __future__ import annotations

import ast
import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from scoreboard import Board, Figure
from sizes import Size
from test_contract_checks import MATRIX
from whole_commands import HarnessCommands, TimedCommand, cells_told

from harness.commands.exit_status import FINE, FOUND
from harness.core.cells import Outcome, Release
from harness.core.evidence import REUSED
from harness.environments.environment import Environment
from harness.releases import install_path
from harness.run.reuse.release_files import ReleaseFiles
from harness.run.store import LoadedRun, load_run

pytestmark = [pytest.mark.bench, pytest.mark.goal]

WORK_DONE = (FINE, FOUND)
"""A run that found something has done all its work; what it found is said with the figure."""
GATES = {
    "gate of a change to one function of the trainer": "no outcome kept before",
    "gate of another such change, on a kept cache": "the first gate's outcomes are kept",
}
"""What two gates in a row measure: the first has to run the release as well."""
CHANGED_FILE, CHANGED_FUNCTION = "funasr/train_utils/trainer_ds.py", "update_step"
_LONGEST_PAUSE_SECONDS = 120.0


@pytest.fixture
def commands(tmp_path_factory: pytest.TempPathFactory, stack: Environment, harness_cache: Path) -> HarnessCommands:
    return HarnessCommands(python=stack.python, cache=harness_cache, folder=tmp_path_factory.mktemp("g"))


def warm_up(commands: HarnessCommands, newest: Release) -> None:
    """Have the libraries and the newest release compiled and in memory."""
    cell = f"{newest.label}/paraformer/v8404-h320/reduced/construct/*"
    commands.run("run", "atlas", "--reuse", "--only", cell, "-o", "warm", kept="kept-warm").require(0)


def only(releases: Sequence[Release], patterns: Sequence[str]) -> list[str]:
    """The options that select cells of some releases, by patterns that follow the release's label."""
    return [word for release in releases for part in patterns for word in ("--only", f"{release.label}/{part}")]


def parts_of(chosen: Sequence[Release], published: Sequence[Release], patterns: Sequence[str]) -> list[str]:
    """The options that select cells of the releases that are measured: as short as one would type them for all."""
    if len(chosen) < len(published):
        return only(chosen, patterns)
    return [word for part in patterns if part != "*" for word in ("--only", f"*/{part}")]


def run_figure(
    board: Board, what: str, timed: TimedCommand, run: LoadedRun, words: str, *, at_most: float, minutes: bool
) -> None:
    """Note how long a run took."""
    board.add(
        Figure(
            what=what,
            value=timed.seconds / 60 if minutes else timed.seconds,
            unit="min" if minutes else "s",
            at_most=at_most,
            measured={**timed.measured(words), **cells_told(run)},
        )
    )


def test_four_dimensions_with_reuse(
    commands: HarnessCommands, chosen: tuple[Release, ...], size: Size, board: Board
) -> None:
    vocab_sizes, hidden_sizes = size.shapes
    matrix = MATRIX.format(
        releases=json.dumps([release.label for release in chosen]),
        vocab_sizes=list(vocab_sizes),
        hidden_sizes=list(hidden_sizes),
    )
    (commands.folder / "bench.toml").write_text(matrix, encoding="utf-8")
    warm_up(commands, chosen[-1])
    timed = commands.run("run", "bench.toml", "--reuse", "-o", "run", kept="kept")
    timed.require(*WORK_DONE)
    words = "`run MATRIX --reuse` of the streaming Paraformer, the whole command; no outcome kept before"
    name = "contract checks of all releases and dimensions with reuse"
    run_figure(board, name, timed, load_run(commands.folder / "run"), words, at_most=60, minutes=False)


def test_all_variants_with_reuse(
    commands: HarnessCommands, chosen: tuple[Release, ...], published: tuple[Release, ...], size: Size, board: Board
) -> None:
    warm_up(commands, chosen[-1])
    selected = parts_of(chosen, published, size.contract_cells)
    timed = commands.run("run", "architectures", "--reuse", *selected, "-o", "run", kept="kept")
    timed.require(*WORK_DONE)
    words = "`run architectures --reuse`, construct and loss_contract alone; no outcome kept before"
    name = "contract checks of all variants and releases with reuse"
    run_figure(board, name, timed, load_run(commands.folder / "run"), words, at_most=6, minutes=True)


def test_the_whole_atlas_with_reuse(
    pytestconfig: pytest.Config,
    commands: HarnessCommands,
    chosen: tuple[Release, ...],
    published: tuple[Release, ...],
    size: Size,
    board: Board,
) -> None:
    what = "the whole atlas with reuse"
    if recorded := pytestconfig.getoption("--bench-atlas"):
        run = load_run(recorded)
        board.add(
            Figure(
                what=what,
                value=uninterrupted_seconds(run) / 60,
                unit="min",
                at_most=30,
                measured={
                    "command": f"read from a run: {' '.join(run.provenance.arguments or ())}",
                    "run": f"{run.provenance.started} on {run.provenance.harness_commit}",
                    "load average before": "not recorded",
                    **cells_told(run),
                },
            )
        )
        return
    warm_up(commands, chosen[-1])
    timed = commands.run(
        "run", "atlas", "--reuse", *parts_of(chosen, published, size.atlas_cells), "-o", "run", kept="kept"
    )
    timed.require(*WORK_DONE)
    words = "`run atlas --reuse`, the whole command; no outcome kept before"
    run_figure(board, what, timed, load_run(commands.folder / "run"), words, at_most=30, minutes=True)


def uninterrupted_seconds(run: LoadedRun) -> float:
    """How long a recorded run took; fails where that was no whole run in one go with reuse."""
    facts = run.provenance
    assert facts.reuse is not None, "it was run without reuse"
    assert facts.started, "it does not say when it began"
    assert facts.finished, "it has not ended"
    assert not facts.earlier_commits, f"it was continued on another commit: {facts.earlier_commits}"
    begin, end = (datetime.fromisoformat(moment) for moment in (facts.started, facts.finished))
    pause = longest_pause(run.outcomes, begin, end)
    assert pause <= _LONGEST_PAUSE_SECONDS, f"nothing ran for {pause:.0f} s: it was interrupted"
    return (end - begin).total_seconds()


def longest_pause(outcomes: Sequence[Outcome], begin: datetime, end: datetime) -> float:
    """The longest time, in seconds, in which no cell ran."""
    spans = sorted(
        (datetime.fromisoformat(outcome.started).timestamp(), outcome.seconds)
        for outcome in outcomes
        if outcome.started and REUSED not in outcome.evidence
    )
    until, longest = begin.timestamp(), 0.0
    for started, seconds in [*spans, (end.timestamp(), 0.0)]:
        longest = max(longest, started - until)
        until = max(until, started + seconds)
    return longest


def test_a_new_release_on_a_kept_cache(
    commands: HarnessCommands, published: tuple[Release, ...], size: Size, harness_cache: Path, board: Board
) -> None:
    newest, before = published[-1], published[-1 - size.releases_before : -1]
    commands.run("run", "atlas", "--reuse", *only(before, size.cells_before), "-o", "before", kept="kept").require(0)
    timed = commands.run("run", "atlas", "--reuse", *only([newest], size.atlas_cells), "-o", "run", kept="kept")
    timed.require(*WORK_DONE)
    labels = ", ".join(release.label for release in before)
    words = f"`run atlas --reuse --only '{newest.label}/*'`; the cache holds the outcomes of {labels}"
    run = load_run(commands.folder / "run")
    share = changed_share(*(release_files(release, harness_cache) for release in (before[-1], newest)))
    board.add(
        Figure(
            what="one new release on a kept cache, everything of the atlas",
            value=timed.seconds / 60,
            unit="min",
            at_most=5,
            measured={
                **timed.measured(words),
                "code that differs": f"{share:.1%} of the functions and module bodies of {newest.label} are not in "
                f"{before[-1].label}",
                **cells_told(run),
            },
        )
    )


def release_files(release: Release, cache: Path) -> ReleaseFiles:
    return ReleaseFiles(install_path(release, cache), release.version)


def changed_share(before: ReleaseFiles, after: ReleaseFiles) -> float:
    """Which share of a release's functions and module bodies another does not have at the same place."""
    old, new = (dict(parts(files)) for files in (before, after))
    return sum(old.get(place) != sha256 for place, sha256 in new.items()) / len(new)


def parts(files: ReleaseFiles) -> list[tuple[str, str]]:
    """Each function and each module's body with its hash; a file that cannot be parsed counts once."""
    places: list[tuple[str, str]] = []
    for path in sorted((files.install_dir / "funasr").rglob("*.py")):
        name = str(path.relative_to(files.install_dir))
        units = files.units(name)
        assert units is not None
        places.append((name, units.on_import.sha256 if units.on_import else units.text_sha256))
        places += [(f"{name}:{function}", unit.sha256) for function, unit in units.functions.items()]
    return places


def test_the_gate_of_a_change_with_reuse(
    commands: HarnessCommands, published: tuple[Release, ...], size: Size, harness_cache: Path, board: Board
) -> None:
    newest = published[-1]
    warm_up(commands, newest)
    content = (install_path(newest, harness_cache) / CHANGED_FILE).read_text("utf-8")
    selected = [word for part in size.gate_cells for word in ("--only", part)]
    for place, (what, kept) in enumerate(GATES.items()):
        patch = commands.folder / f"change-{place}.patch"
        patch.write_text(patch_of(CHANGED_FILE, content, CHANGED_FUNCTION, value=place), encoding="utf-8")
        timed = commands.run(
            "gate", "--apply", patch.name, "--against", newest.label, "--matrix", "later_checks", "--reuse",
            *selected, "-o", f"gate-{place}", "--json", kept="kept",
        )  # fmt: skip
        timed.require(0)
        gate = json.loads((commands.folder / f"gate-{place}" / "gate.json").read_text("utf-8"))
        words = f"`gate --apply PATCH --against {newest.label} --matrix later_checks --reuse`; {kept}"
        board.add(
            Figure(
                what=what,
                value=timed.seconds / 60,
                unit="min",
                at_most=3,
                measured={
                    **timed.measured(words),
                    "change": f"one statement of {CHANGED_FUNCTION} in {CHANGED_FILE}",
                    **gate_told(gate),
                },
            )
        )


def gate_told(gate: Mapping[str, Any]) -> dict[str, str]:
    """How many cells a gate compared, and how they ended; fails where reuse was wrong."""
    reused, facts = sum(pair["reused"] for pair in gate["pairs"]), gate["reuse"]
    statuses = Counter(pair["status"] for pair in gate["pairs"])
    assert not facts["refuted"], f"reuse was wrong: {facts}"
    return {
        "cells": f"{len(gate['pairs'])} of the source and as many of the release; {reused} of the source reused, "
        f"{facts['reused'] - reused} of the release",
        "run although reusable": f"{facts['confirmed']}, all ended as predicted",
        "statuses": ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
    }


def patch_of(path: str, content: str, function: str, *, value: int) -> str:
    """A unified diff that adds a statement without effect to a function."""
    lines = content.splitlines(keepends=True)
    tree = ast.parse(content)
    (definition,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    first = definition.body[ast.get_docstring(definition) is not None]
    place = first.lineno - 1
    added = [*lines[:place], " " * first.col_offset + f"changed_for_a_measurement = {value}\n", *lines[place:]]
    return "".join(difflib.unified_diff(lines, added, f"a/{path}", f"b/{path}"))
