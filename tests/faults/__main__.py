"""`python -m tests.faults power`: plant, run, score. `python -m tests.faults table`: reports/planted_faults.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.core.errors import HarnessError
from harness.releases import default_cache

from .catalogue import FAULTS
from .cells import REPEATS
from .measure import ROOT, measure
from .records import Fault
from .score import SHARE_ASKED, share, share_graded
from .written import headlines, table, update, write

PAGE = ROOT / "reports" / "planted_faults.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "table":
        print("written" if update(PAGE, FAULTS) else "up to date")
        return 0
    try:
        return _power(options)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _power(options: argparse.Namespace) -> int:
    """0 when enough faults were caught and called as grave as they are, and nothing sound was accused; 1 otherwise."""
    faults = [fault for fault in FAULTS if _chosen(fault, options.only)]
    if not faults:
        print(f"error: no fault matches {' '.join(options.only)}", file=sys.stderr)
        return 2
    repeats = {check: min(times, options.repeats) for check, times in REPEATS.items() if options.repeats}
    power = measure(faults, repeats, cache=options.cache or default_cache(), output=options.output, jobs=options.jobs)
    print(table(power, fmt="simple"))
    print("\n".join(headlines(power)))
    if not options.only:
        data, page = write(power, options.reports)
        print(f"{data}\n{page}")
    shares = (share(power.seen), share_graded(power.seen))
    good = min(shares) >= SHARE_ASKED and not power.soundness.accused and not power.soundness.unmeasured
    return 0 if good else 1


def _chosen(fault: Fault, globs: Sequence[str]) -> bool:
    """By name, by family, or by the check that must see it."""
    names = (fault.name, str(fault.family), str(fault.expected.check))
    return not globs or any(fnmatchcase(name, glob) for name in names for glob in globs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="write the table of faults in reports/planted_faults.md")
    power = commands.add_parser("power", help="plant the faults and tell which are seen")
    power.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="GLOB",
        help="faults by name, family or expected check",
    )
    most = max(REPEATS.values())
    power.add_argument(
        "--repeats", type=int, default=most, metavar="N", help=f"at most so many of the sound cells (default: {most})"
    )
    power.add_argument("--jobs", type=int, metavar="N", help="cells at once (default: one per processor)")
    power.add_argument("-o", "--output", type=Path, default=Path("runs/power"), metavar="DIR", help="the run's folder")
    power.add_argument("--reports", type=Path, default=ROOT / "reports", metavar="DIR", help="for power.json, power.md")
    power.add_argument("--cache", type=Path, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
