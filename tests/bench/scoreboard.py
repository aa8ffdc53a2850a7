"""The figures of the benchmarks: against their goals, as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.core.wire import now
from harness.run.provenance import code_state, this_machine

_GIB = 1024**3
HEADERS = ("what", "value", "goal", "met", "measured")

GOALS = (
    (
        "contract checks, 101 releases × 4 dimensions, nothing reused, against a process per cell",
        "≥ 30 ×",
        "contract checks, process tree against a process per cell",
        "the_contract_checks_of_all_releases",
    ),
    (
        "the same with reuse, empty cache",
        "≤ 60 s",
        "contract checks of all releases and dimensions with reuse",
        "four_dimensions",
    ),
    (
        "contract checks of all 15 variants × 101 releases with reuse",
        "≤ 6 min",
        "contract checks of all variants and releases with reuse",
        "all_variants",
    ),
    ("the whole atlas, trainings included, empty cache", "≤ 30 min", "the whole atlas with reuse", "whole_atlas"),
    (
        "one new release, everything, on a kept cache, a tenth of the code changed",
        "≤ 5 min",
        "one new release on a kept cache, everything of the atlas",
        "new_release",
    ),
    (
        "`gate` of a change to one function of the trainer, both Paraformers, all checks",
        "≤ 3 min",
        "gate of a change to one function of the trainer",
        "gate_of_a_change",
    ),
    (
        "the same, where an earlier gate's outcomes are kept",
        "≤ 3 min",
        "gate of another such change, on a kept cache",
        "gate_of_a_change",
    ),
    (
        "the README's first command, warm package cache, idle machine",
        "≤ 4 min",
        "the README's first command in a clean clone",
        "first_command",
    ),
    ("all tests, idle machine of two cores", "≤ 6 min", "all tests in a clean clone", "all_the_tests"),
    (
        "memory of the process tree",
        "≤ 1.5 GiB",
        "contract checks, peak memory of the whole process tree",
        "the_contract_checks_of_all_releases",
    ),
    (
        "what recording for reuse costs a cell",
        "≤ 2 %",
        "a contract cell recorded against not recorded, by processor time",
        "recording",
    ),
)
"""What the whole is to cost: in words, the goal, the figure that shows it, and what `-k` measures it by."""

_ABOUT = """\
# Speed of the harness

What it costs to run releases of FunASR and to watch a training, measured by `nox -s bench`.
Ratios are of two times taken in one run on one machine, so they hold on others too; seconds do not.
A figure stays until it is measured again; each table says where and with which code it was measured.
"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that has a goal, and the numbers that it was made from."""

    what: str
    value: float
    unit: str
    """`×`, `%`, `ms`, `s`, `min` or `GiB`."""
    at_least: float | None = None
    at_most: float | None = None
    measured: Mapping[str, str] = field(default_factory=dict)
    """What the value comes from, in words and numbers."""

    @property
    def goal(self) -> str:
        """Such as `≥ 20 ×`; empty when the value is for information."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g} {self.unit}"
        return f"≤ {self.at_most:g} {self.unit}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def row(self) -> tuple[str, ...]:
        """The figure as the tables show it."""
        met = {True: "yes", False: "no", None: ""}[self.met]
        told = "; ".join(f"{name}: {value}" for name, value in self.measured.items())
        return (self.what, f"{self.value:.4g} {self.unit}", self.goal, met, told)


@dataclass
class Board:
    """All figures of a run."""

    figures: list[Figure] = field(default_factory=list)
    torch: str = ""
    python: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    """What else ran when this began: the load average of the minute before."""

    def add(self, figure: Figure) -> None:
        """Note a figure."""
        self.figures.append(figure)

    def table(self) -> str:
        """The figures of this run as text."""
        rows = [figure.row() for figure in self.figures]
        return tabulate(
            rows, headers=HEADERS, tablefmt="simple", maxcolwidths=[None, None, None, None, 60], disable_numparse=True
        )

    def surroundings(self) -> dict[str, str]:
        """What it was measured on; no host's name and no path."""
        machine = this_machine()
        memory = f"{machine.memory_bytes / _GIB:.1f} GiB" if machine.memory_bytes else "unknown"
        commit, changed = code_state()
        return {
            "date": now(),
            "system": machine.host,
            "processor": machine.processor,
            "processors": str(machine.cpu_count),
            "memory": memory,
            "GPUs": ", ".join(machine.gpus) or "none",
            "Python": self.python,
            "torch": self.torch,
            "load average before": f"{self.load:.1f}",
            "harness": f"{commit or 'unknown'}{'+' if changed else ''}",
        }

    def write(self, folder: Path) -> None:
        """Write `bench.md` and `bench.json`; figures of earlier runs that were not measured now are kept."""
        folder.mkdir(parents=True, exist_ok=True)
        figures = [{**asdict(figure), "goal": figure.goal, "met": figure.met} for figure in self.figures]
        runs = [{"surroundings": self.surroundings(), "figures": figures}, *self._kept(folder / "bench.json")]
        (folder / "bench.md").write_text(page(runs), encoding="utf-8")
        (folder / "bench.json").write_text(
            json.dumps({"runs": runs}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def _kept(self, path: Path) -> list[dict[str, Any]]:
        """What earlier runs measured and this one did not, newest run first."""
        if not path.exists():
            return []
        measured = {figure.what for figure in self.figures}
        earlier = [
            {**run, "figures": [one for one in run["figures"] if one["what"] not in measured]}
            for run in json.loads(path.read_text("utf-8"))["runs"]
        ]
        return [run for run in earlier if run["figures"]]


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """`bench.md` of what `bench.json` has."""
    parts = [_ABOUT, "## Goals", goals(runs), "## Figures"]
    for run in runs:
        rows = [stored_figure(one).row() for one in run["figures"]]
        parts.append(tabulate(rows, headers=HEADERS, tablefmt="github", disable_numparse=True))
        lines = [f"- {name}: {value}" for name, value in run["surroundings"].items()]
        parts.append("Measured on:\n\n" + "\n".join(lines))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def goals(runs: Sequence[Mapping[str, Any]]) -> str:
    """The goals, each with the newest figure that shows it and the commit that it was measured on."""
    measured = {
        figure["what"]: (stored_figure(figure), run["surroundings"])
        for run in reversed(runs)
        for figure in run["figures"]
    }
    rows = []
    for what, goal, name, benchmark in GOALS:
        command = f"`nox -s bench -- -k {benchmark}`"
        if name not in measured:
            rows.append((what, goal, "not measured", "", command))
            continue
        figure, surroundings = measured[name]
        commit = surroundings.get("harness", "not recorded")
        rows.append((what, goal, figure.row()[1], f"{commit}, {surroundings['date'][:10]}", command))
    headers = ("what", "goal", "measured", "commit", "measured by")
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def stored_figure(stored: Mapping[str, Any]) -> Figure:
    """A figure as `bench.json` has it."""
    return Figure(**{name: value for name, value in stored.items() if name not in ("goal", "met")})
