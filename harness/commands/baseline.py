"""`baseline`: accept time and memory of runs on this machine as the baseline of later runs, and show baselines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.commands.exit_status import FINE
from harness.core.cells import Device
from harness.core.wire import now
from harness.performance.baselines import Acceptance, Baseline, BaselineEntry, Key, load_baselines, write_baseline
from harness.performance.baselines.accept import BaselineChange, Offer, offer
from harness.performance.baselines.metrics import KINDS, LEAST_CURVES, LOSS_FIGURES, MIB
from harness.performance.baselines.noise import LEAST_REPEATS, allowed, as_share, centre_of
from harness.performance.prediction.calibrate import calibrations
from harness.performance.prediction.calibration import Calibration, write_calibration
from harness.report.baselines import shown, words_of
from harness.run.store import load_run
from harness.text import units
from harness.text.terminal import say


def main(options: argparse.Namespace) -> int:
    """Run the action."""
    actions: Mapping[str, Callable[[argparse.Namespace], int]] = {"accept": _accept, "show": _show}
    return actions[options.action](options)


def _accept(options: argparse.Namespace) -> int:
    """Show what would change, and write it when that is confirmed."""
    runs = [load_run(folder) for folder in options.run]
    proposal = offer(runs, load_baselines(options.baselines), accepted=now())
    for warning in proposal.warnings:
        say(f"warning: {warning}", style="yellow")
    learned = calibrations(runs)
    print("\n".join((*_offered(proposal), *map(_calibrated, learned))))
    if not options.yes and not _confirmed():
        say("nothing was written; say --yes to write it")
        return FINE
    for baseline in proposal.baselines:
        say(f"written: {write_baseline(baseline, options.baselines)}")
    for calibration in learned:
        say(f"written: {write_calibration(calibration, options.baselines)}")
    return FINE


def _confirmed() -> bool:
    """Whether a person at a terminal confirms; False without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write("write this? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _offered(proposal: Offer) -> Iterator[str]:
    for baseline in proposal.baselines:
        yield f"{baseline.key}{_note(baseline.key)}"
        yield from _table(baseline, proposal.changes[baseline.key])
        yield from _about_losses(baseline.acceptances[-1])
    if proposal.left_out:
        yield "left out:"
        yield from (f"  {text}" for text in proposal.left_out)


def _calibrated(calibration: Calibration) -> str:
    """What `estimate --gpu` would go by."""
    spread = calibration.origin
    context, workspace = (_between(*spread[name]) for name in ("context_bytes", "workspace_bytes"))
    return (
        f"estimate --gpu {calibration.key}: context {_mib(calibration.context_bytes)} ({context}), "
        f"workspaces {_mib(calibration.workspace_bytes)} ({workspace} missed by the predictions), "
        f"of {units.plural(spread['trainings'], 'training')}"
    )


def _between(least: int, most: int) -> str:
    return f"{_mib(least)} to {_mib(most)}"


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"


def _note(key: Key) -> str:
    return " (a CPU: says nothing about a GPU)" if key.device is Device.CPU else ""


def _table(baseline: Baseline, changes: tuple[BaselineChange, ...]) -> Iterator[str]:
    from tabulate import tabulate

    entries = {change.cell: baseline.cells[change.cell] for change in changes}
    comparisons = sum(len(baseline.tolerated(entry)) for entry in entries.values())
    rows = [
        (
            change.cell,
            words_of(change.figure),
            shown(change.figure, change.old),
            shown(change.figure, change.new),
            _difference(change),
            _tolerance(change.figure, baseline, entries[change.cell], comparisons),
        )
        for change in changes
    ]
    head = ("cell", "figure", "old", "new", "difference", "tolerance")
    yield tabulate(rows, headers=head, disable_numparse=True)


def _difference(change: BaselineChange) -> str:
    if change.old is None:
        return "new"
    if change.new is None:
        return "no figure any more"
    return "same" if change.old == change.new else f"{100 * (change.new / change.old - 1):+.3g} %"


def _tolerance(figure: str, baseline: Baseline, entry: BaselineEntry, comparisons: int) -> str:
    """What a run of all these cells is allowed; with other comparisons it is a little different."""
    values = entry.values(figure)
    if figure in LOSS_FIGURES and len(set(entry.curves)) == 1 and len(entry.curves) >= LEAST_CURVES:
        return "step by step"
    if figure not in baseline.tolerated(entry):
        return f"none: measured {len(values)} of {LEAST_REPEATS} times"
    noise = baseline.acceptance_of(entry).noise[figure]
    kind, share = KINDS[figure], as_share(allowed(noise, values, comparisons=comparisons))
    if share is None:
        return "none: the repeats scatter too much"
    return f"{100 * max(share, kind.relative_floor, kind.floor / centre_of(values)):.3g} %"


def _about_losses(acceptance: Acceptance) -> Iterator[str]:
    runs = units.plural(len(acceptance.runs), "run")
    if len(acceptance.runs) < LEAST_CURVES:
        yield f"from {runs}: nothing has a tolerance"
    elif acceptance.equal_curves:
        yield f"from {runs}: the losses are bit-identical in every repeat, so they are compared step by step"
    else:
        yield f"from {runs}: the losses differ between repeats, so they are compared within that noise"


def _show(options: argparse.Namespace) -> int:
    """Print every baseline with its origin."""
    baselines = load_baselines(options.baselines)
    if not baselines:
        say(f"no baseline in {options.baselines}; make one with: funasr-harness baseline accept RUN RUN RUN")
    print(
        "\n\n".join("\n".join(_shown(baseline, options.baselines)) for baseline in baselines),
        end="\n" if baselines else "",
    )
    return FINE


def _shown(baseline: Baseline, folder: Path) -> Iterator[str]:
    yield f"{baseline.key}{_note(baseline.key)}"
    yield f"  {folder / baseline.key.name}.json"
    for number, acceptance in enumerate(baseline.acceptances):
        yield from _origin(acceptance)
        yield from _accepted(baseline, number)
        yield from (f"  {line}" for line in _about_losses(acceptance))


def _origin(acceptance: Acceptance) -> Iterator[str]:
    yield f"  accepted {acceptance.accepted} from {acceptance.matrix} (sha256 {acceptance.matrix_sha256[:12]}…)"
    for run in acceptance.runs:
        changed = " with changes" if run.harness_dirty else ""
        driver = f", driver {run.driver}" if run.driver else ""
        yield (
            f"    run of {run.started}, harness {(run.harness_commit or run.harness_version)[:12]}{changed}, "
            f"Python {run.python}{driver}, {run.host}"
        )


def _accepted(baseline: Baseline, acceptance: int) -> Iterator[str]:
    from tabulate import tabulate

    cells = {name: entry for name, entry in baseline.cells.items() if entry.acceptance == acceptance}
    comparisons = sum(len(baseline.tolerated(entry)) for entry in cells.values())
    rows = [
        (
            cell,
            words_of(name),
            shown(name, centre_of(values)),
            str(len(values)),
            _tolerance(name, baseline, entry, comparisons),
        )
        for cell, entry in cells.items()
        for name in KINDS
        if (values := entry.values(name))
    ]
    table = tabulate(rows, headers=("cell", "figure", "accepted", "repeats", "tolerance"), disable_numparse=True)
    yield from (f"  {line}" for line in table.splitlines())
