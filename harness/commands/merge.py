"""`merge`: one run out of the shards of a matrix, with one report."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.report import conclude
from harness.run.merging import read_shards, write_merged
from harness.text.terminal import say


def main(options: argparse.Namespace) -> int:
    """Merge the shards, judge all outcomes together and write the reports; the exit status is that of the run."""
    shards = read_shards(options.run)
    for sentence in shards.lacking:
        say(f"{sentence[0].upper()}{sentence[1:]}", style="bold yellow")
    folder = options.output or Path("runs") / shards.provenance.matrix
    write_merged(shards, folder, fresh=options.fresh)
    say(f"{len(shards.outcomes)} cells of {len(shards.runs)} shards: {folder}")
    return conclude(options, folder, folder)
