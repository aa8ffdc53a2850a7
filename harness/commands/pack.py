"""`pack`: a run's outcomes as one small file, so that they can be kept in a repository."""

from __future__ import annotations

import argparse

from harness.run.archive import PACKED, pack
from harness.text.terminal import say


def main(options: argparse.Namespace) -> int:
    """Pack each folder."""
    for folder in options.run:
        before, after = pack(folder)
        say(f"{folder / PACKED}: {after / 1024:.0f} KiB, was {before / 1024:.0f} KiB")
    return 0
