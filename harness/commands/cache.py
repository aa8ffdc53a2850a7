"""`cache`: what the cache holds, by release and age; frees what has not been used for so long."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from harness.commands.common import cache_of, print_json
from harness.releases.holdings import Holding, free, holdings
from harness.text.plain import plain
from harness.text.terminal import say
from harness.text.units import memory, plural


def main(options: argparse.Namespace) -> int:
    """Show the entries, or with --older-than remove some and show those."""
    cache = cache_of(options)
    if options.older_than is None:
        if options.keep:
            say("--keep does nothing without --older-than", style="yellow")
        _show(holdings(cache), cache, options)
        return 0
    freed, in_use = free(cache, older_than_days=options.older_than, keep=options.keep)
    _show(freed, cache, options)
    say(f"{plural(len(freed), 'entry')} removed".replace("entrys", "entries"))
    if in_use:
        say(f"{len(in_use)} not removed, because a command that runs now may use them", style="yellow")
    return 0


def _show(entries: Sequence[Holding], cache: Path, options: argparse.Namespace) -> None:
    now = time.time()
    if options.json:
        print_json(
            {
                "cache": str(cache),
                "entries": [
                    {"kind": entry.kind, "name": entry.name, "bytes": entry.bytes, "days": round(entry.days(now), 1)}
                    for entry in entries
                ],
            }
        )
        return
    from tabulate import tabulate

    rows = [(entry.kind, plain(entry.name), memory(entry.bytes), f"{entry.days(now):.0f}") for entry in entries]
    total = ("in all", plain(str(cache)), memory(sum(entry.bytes for entry in entries)), "")
    print(tabulate([*rows, total], headers=("what", "name", "size", "days unused"), disable_numparse=True))
