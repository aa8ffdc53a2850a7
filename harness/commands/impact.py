"""`impact`: which checks of which variants a change of FunASR reaches, before anything runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from harness.commands.common import cache_of, print_json
from harness.core.cells import Release
from harness.core.errors import InputError
from harness.releases import fetch, install_path, load_lock, resolve
from harness.run.progress import stage
from harness.run.reuse.fingerprint import ReleaseSeen
from harness.run.reuse.impact import CheckImpact, impact
from harness.run.reuse.kept import all_kept
from harness.run.reuse.release_files import ReleaseFiles
from harness.run.reuse.reuse import REUSABLE
from harness.text.plain import plain
from harness.text.terminal import say
from harness.text.units import plural

_MOST_NAMED = 8


def main(options: argparse.Namespace) -> int:
    """Compare what recorded cells of a release used with a source."""
    locked, cache = load_lock(options.lock), cache_of(options)
    source, against = (_single_release(spec, locked) for spec in (options.source, options.against))
    known_outcomes = (record for record in all_kept(cache) if record.outcome.cell.check in REUSABLE)
    known = [record for record in known_outcomes if record.outcome.cell.release == against.label]
    if not known:
        raise InputError(
            f"no cell of {against.label} is recorded, so nothing says what its checks use",
            next_step=f"funasr-harness run pr --reuse --only '{against.label}/*', or another release with --against",
        )
    with stage("making both ready"):
        fetch([source, against], cache, jobs=2)
    before, after = (
        ReleaseSeen(files=ReleaseFiles(install_path(release, cache), release.version), order=None)
        for release in (against, source)
    )
    impacts = impact(known, before, after)
    if options.json:
        print_json({"source": source.label, "against": against.label, "checks": [_record(check) for check in impacts]})
        return 0
    print("\n".join(_lines(impacts)))
    say(
        f"{source.label} against {against.label}, from {plural(len(known), 'recorded cell')}. "
        "Only construct and loss_contract are recorded: of other checks nothing is known."
    )
    return 0


def _single_release(spec: str, locked: Sequence[Release]) -> Release:
    releases = resolve(spec, locked)
    if len(releases) != 1:
        raise InputError(f"{spec} means {len(releases)} releases", next_step="name one")
    return releases[0]


def _record(check: CheckImpact) -> dict[str, object]:
    return {
        "variant": check.variant,
        "check": str(check.check),
        "cells": check.cells,
        "reached": [{"kind": str(part.kind), "name": part.name} for part in check.reached],
    }


def _lines(impacts: Sequence[CheckImpact]) -> list[str]:
    lines = []
    for check in impacts:
        if not check.reached:
            lines.append(f"{check.variant} {check.check}: not reached")
            continue
        lines.append(f"{check.variant} {check.check}: reached by {plural(len(check.reached), 'part')} that it uses")
        lines += [f"  {plain(str(part))}" for part in check.reached[:_MOST_NAMED]]
        if len(check.reached) > _MOST_NAMED:
            lines.append(f"  … and {len(check.reached) - _MOST_NAMED} more (--json has all)")
    return lines
