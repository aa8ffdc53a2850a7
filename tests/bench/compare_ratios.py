"""Compares the ratios of two commits' benchmarks, each measured by `nox -s bench` on the machine at hand.

`python tests/bench/compare_ratios.py --base base-*/bench.json --head head-*/bench.json` prints a table in Markdown.
Exit status: 1 if a ratio became worse by more than the factor allowed, or left its goal; 2 if there is nothing to
compare; else 0.

Seconds of two machines, or of two hours of one, say little, and `pytest --benchmark-compare-fail` compares nothing
else: it takes min, max, mean, median, stddev and iqr of a timed function, and more of them is always worse.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreboard import Figure, stored_figure
from tabulate import tabulate

FACTOR = 1.25
"""By how much a ratio may become worse. Chosen, not measured: trainings of one kind differed by 17 % in one run."""


@dataclass(frozen=True, kw_only=True)
class RatioChange:
    """One figure at both commits: a ratio (×), or a share of a step (%)."""

    base: Figure | None
    head: Figure | None

    @property
    def what(self) -> str:
        """The figure's name."""
        figure = self.head or self.base
        assert figure is not None
        return figure.what

    @property
    def worse_by(self) -> float | None:
        """The factor by which the head is worse, below 1 where it is better; None where that cannot be said."""
        if self.base is None or self.head is None or min(self.base.value, self.head.value) <= 0:
            return None
        if self.head.at_least is not None:
            return self.base.value / self.head.value
        return self.head.value / self.base.value if self.head.at_most is not None else None

    def fault(self, factor: float) -> str:
        """Why this change fails; empty where it does not.

        A share of a step is held to its goal alone: the factor of a small number is mostly noise.
        """
        if self.head is not None and self.head.unit == "%":
            left = self.head.met is False and (self.base is None or self.base.met is True)
            return f"misses its goal ({self.head.goal})" if left else ""
        worse = self.worse_by
        return f"worse by {worse:.2f} ×, allowed {factor:g} ×" if worse is not None and worse > factor else ""

    def row(self, factor: float) -> tuple[str, ...]:
        """The change as the table shows it."""
        values = (f"{one.value:.4g} {one.unit}" if one else "not measured" for one in (self.base, self.head))
        worse = self.worse_by
        return (self.what, *values, "" if worse is None else f"{worse:.2f} ×", self.fault(factor))


def ratios(paths: Iterable[Path]) -> dict[str, Figure]:
    """The median of each ratio over several files of one commit, by its name.

    Raises:
        OSError, ValueError, KeyError, TypeError: a file is no `bench.json`.
    """
    found: dict[str, list[Figure]] = {}
    for path in paths:
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for stored in (stored for run in data["runs"] for stored in run["figures"]):
            if stored["unit"] in ("×", "%"):
                found.setdefault(stored["what"], []).append(stored_figure(stored))
    return {name: _median(figures) for name, figures in found.items()}


def _median(figures: Sequence[Figure]) -> Figure:
    value = statistics.median(figure.value for figure in figures)
    first = figures[0]
    return Figure(what=first.what, value=value, unit=first.unit, at_least=first.at_least, at_most=first.at_most)


def changes(base: Mapping[str, Figure], head: Mapping[str, Figure]) -> list[RatioChange]:
    """Each ratio that one of the commits has."""
    return [RatioChange(base=base.get(name), head=head.get(name)) for name in dict.fromkeys([*base, *head])]


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", type=Path, required=True, metavar="JSON")
    parser.add_argument("--head", nargs="+", type=Path, required=True, metavar="JSON")
    parser.add_argument("--factor", type=float, default=FACTOR, help="allowed (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        found = changes(ratios(options.base), ratios(options.head))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(
            f"a bench.json cannot be read: {error}; write one with: nox -s bench -- --bench-reports DIR",
            file=sys.stderr,
        )
        return 2
    if not any(change.base and change.head for change in found):
        print("the two commits have no ratio in common, so nothing is compared", file=sys.stderr)
        return 2
    rows = [change.row(options.factor) for change in found]
    print(
        tabulate(rows, headers=("ratio", "base", "head", "worse by", "fails"), tablefmt="github", disable_numparse=True)
    )
    return int(any(change.fault(options.factor) for change in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
