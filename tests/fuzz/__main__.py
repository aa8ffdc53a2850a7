"""`python -m tests.fuzz [--inputs N] [--only NAME] [--engine hypothesis|atheris]`: prints what came of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> int:
    """1 where an input gave anything but a clear error in time."""
    options = argparse.ArgumentParser()
    options.add_argument("--inputs", type=int, default=5000)
    options.add_argument("--only", action="append", default=[])
    options.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    options.add_argument("--records", action="store_true", help="print a JSON record for each parser")
    given = options.parse_args()
    if given.engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["harness.core", "harness.config", "harness.preflight"]):
            import tests.fuzz.targets  # noqa: F401 - what is imported here is instrumented
    from tests.fuzz.campaign import each_in_a_fork, record_of
    from tests.fuzz.targets import parsers

    every = {one.name: one for one in parsers()}
    faults = 0
    for one in each_in_a_fork([every[name] for name in given.only or every], given.inputs, given.engine):
        faults += len(one.faults)
        if given.records:
            print(record_of(one), flush=True)
            continue
        print(
            f"{one.parser:24} {one.engine:10} {one.inputs:6} inputs, {one.accepted} read, {one.refused} refused, "
            f"slowest {one.slowest:.2f} s, {one.seconds:.1f} s in all, {one.grown >> 20} MiB, {len(one.faults)} faults",
            flush=True,
        )
        for fault in one.faults:
            print(f"    {fault}", flush=True)
    return 1 if faults else 0


sys.exit(main())
