"""A bundle at work: the ordinary run of its matrix on the host's torch, and one file with what came out.

Called by `starter`, once the bundle is unpacked and what the host lacks is on the path. Nothing is judged or reported
here: the libraries for that are on the machine that made the bundle.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from harness.bundle.archive import MANIFEST_NAME, Manifest
from harness.bundle.contents import LOCK, SPEECH, carried_own
from harness.bundle.result import write_result
from harness.commands.common import cell_runner
from harness.commands.exit_status import FAULT, FINE, guarded
from harness.commands.run import Bounds, measure
from harness.core.cells import Outcome, Status
from harness.run.prepare import no_stored_examples
from harness.run.runner import PRELOADED, PRELOADED_FOR_TRAINERS, CellRunner
from harness.run.store import OUTCOMES, load_run
from harness.text.terminal import say
from harness.text.units import plural

MORE_THAN_CARRIED = 2**31
"""The rows of a user's file were chosen when the bundle was made: all that it carries are trained on."""


def main(root: str, options: argparse.Namespace) -> int:
    """Run what the bundle holds and `--only` selects; returns the exit status: 0, or 3 if something was not learned."""
    return guarded(lambda: _run(Path(root), options), command="bundle_host", debug=options.debug)


def _run(root: Path, options: argparse.Namespace) -> int:
    manifest = Manifest.from_json(json.loads((root / MANIFEST_NAME).read_text("utf-8")))
    run = root / "runs" / manifest.matrix
    output = Path(options.output or f"{manifest.matrix}-result.zip").expanduser().absolute()
    try:
        _, cells = measure(_options(root, manifest, run, options), _bounds(manifest))
    finally:
        # Also of a run that was stopped: what was measured is worth bringing home.
        if (run / OUTCOMES).is_file():
            write_result(run, manifest, output)
            say(f"result: {output}\nat home: funasr-harness report --import {output.name}")
    outcomes = {outcome.cell.id: outcome for outcome in load_run(run).outcomes}
    missing = [cell.id for cell in cells if cell.id not in outcomes or outcomes[cell.id].status is Status.ERRORED]
    for reason, count in Counter(outcomes[cell].reason for cell in missing if cell in outcomes).items():
        say(f"not measured, {plural(count, 'cell')}: {reason}", style="yellow")
    return FAULT if missing else FINE


def _options(root: Path, manifest: Manifest, run: Path, options: argparse.Namespace) -> argparse.Namespace:
    inputs = root / "inputs"
    train, valid = carried_own(inputs)
    return argparse.Namespace(
        matrix=inputs / manifest.matrix_file,
        lock=inputs / LOCK,
        jsonl=train,
        valid=valid,
        root=inputs,
        rows=MORE_THAN_CARRIED if train else None,
        carried=inputs / SPEECH,
        cache=root / "cache",
        output=run,
        only=options.only or list(manifest.selection),
        jobs=options.jobs,
        fresh=False,
        require_gpu=options.require_gpu,
    )


def _bounds(manifest: Manifest) -> Bounds:
    return Bounds(
        cells=frozenset(manifest.cells),
        left_out=frozenset(manifest.left_out),
        arguments=manifest.arguments,
        runner=_runner,
    )


def _runner(options: argparse.Namespace) -> CellRunner:
    """The runner of `run`, without what the bundle lacks: known issues, some libraries, and the rules."""
    runner = cell_runner(options, counterexamples=no_stored_examples)
    preload, for_trainers = (
        tuple(name for name in names if importlib.util.find_spec(name.partition(".")[0]))
        for names in (PRELOADED, PRELOADED_FOR_TRAINERS)
    )
    settings = replace(runner.settings, rule=_as_it_is, preload=preload, preload_for_trainers=for_trainers)
    return replace(runner, settings=settings)


def _as_it_is(outcome: Outcome) -> Outcome:
    """The rules are applied where the bundle was made, which has the libraries for statistics."""
    return outcome
