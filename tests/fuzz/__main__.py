"""`python -m tests.fuzz [--inputs N] [--only NAME] [--engine hypothesis|atheris]`: prints what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> int:
    """1 where an input gave anything but a clear error in time."""
    options = argparse.ArgumentParser()
    options.add_argument("--inputs", type=int, default=5000)
    options.add_argument("--only", action="append", default=[])
    options.add_argument("--one")
    options.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    given = options.parse_args()
    if given.engine == "atheris" and given.one:
        import atheris

        with atheris.instrument_imports(include=["harness.core", "harness.config", "harness.preflight"]):
            from tests.fuzz.campaign import by_atheris
            from tests.fuzz.targets import parsers
        by_atheris({one.name: one for one in parsers()}[given.one], given.inputs)
    from tests.fuzz.campaign import fuzz, in_processes
    from tests.fuzz.targets import parsers

    every = {one.name: one for one in parsers()}
    if given.one:
        print("RESULT " + json.dumps(asdict(fuzz(every[given.one], given.inputs))))
        return 0
    names = given.only or list(every)
    faults = 0
    for one in in_processes(names, given.inputs, given.engine):
        print(
            f"{one.parser:24} {one.engine:10} {one.inputs:6} inputs, {one.accepted} read, {one.refused} refused, "
            f"slowest {one.slowest:.2f} s, {one.grown >> 20} MiB, {len(one.faults)} faults",
            flush=True,
        )
        for fault in one.faults:
            print(f"    {fault}", flush=True)
        faults += len(one.faults)
    return 1 if faults else 0


sys.exit(main())
