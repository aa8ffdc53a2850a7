"""What takes milliseconds to seconds, in rounds: the parts that a run, a report and `preflight` are made of."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cell_server import CellServer, cell_server
from scoreboard import Board, Figure
from sizes import Size

from harness.core import channels, tree_events
from harness.core.cells import Check, Release
from harness.environments.environment import Environment
from harness.preflight.rows.reading import read_rows
from harness.releases import fetch
from harness.report import write_reports
from harness.rules.known_issues import load_known_issues
from harness.rules.verdicts import judge
from harness.run.store import RunStore, load_run
from harness.variants.catalogue import available

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]
RUN = ROOT / "reports" / "later_checks"
ROWS = 100_000
BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 10

Rounds = Callable[..., None]
"""Called with the figure's name and a function of no arguments; `prepare` is called before each round."""


@pytest.fixture
def rounds(benchmark: Any, board: Board, size: Size) -> Rounds:
    """Measures a function in rounds and notes the figure."""

    def measure(
        what: str, function: Callable[[], Any], *, prepare: Callable[[], Any] | None = None, count: int | None = None
    ) -> None:
        number = min(count or size.rounds, size.rounds)
        benchmark.pedantic(
            function, setup=None if prepare is None else lambda: (prepare(), None)[1], rounds=number, warmup_rounds=1
        )
        stats = benchmark.stats.stats
        unit, scale = ("s", 1) if stats.median >= 1 else ("ms", 1000)
        board.add(
            Figure(
                what=what,
                value=scale * stats.median,
                unit=unit,
                measured={
                    "median of": f"{stats.rounds} rounds",
                    "middle half": f"{scale * stats.q1:.4g} to {scale * stats.q3:.4g}",
                    "all": f"{scale * stats.min:.4g} {histogram(stats.sorted_data)} {scale * stats.max:.4g}",
                },
            )
        )

    return measure


def histogram(ordered: list[float]) -> str:
    """How many values lie in each tenth of their range, as bars; an empty one is a dot."""
    low, span = ordered[0], (ordered[-1] - ordered[0]) or 1.0
    counts = [0] * COLUMNS
    for value in ordered:
        counts[min(COLUMNS - 1, int(COLUMNS * (value - low) / span))] += 1
    most = max(counts)
    return "".join(BARS[(count * len(BARS) - 1) // most] if count else "·" for count in counts)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, stack: Environment, harness_cache: Path, published: tuple[Release, ...]
) -> Iterator[CellServer]:
    with cell_server(tmp_path_factory.mktemp("s"), stack, harness_cache, published) as served:
        yield served


def test_fetching_one_release(rounds: Rounds, tmp_path: Path, published: tuple[Release, ...]) -> None:
    place = tmp_path / "cache"
    rounds(
        "one release fetched into an empty cache, package cache warm",
        lambda: fetch(published[-1:], place, jobs=1),
        prepare=lambda: shutil.rmtree(place, ignore_errors=True),
    )


def test_forking_a_cell(rounds: Rounds, server: CellServer) -> None:
    rounds("a cell that does nothing, forked from its release's process", lambda: server.run("plain"))


@pytest.mark.parametrize("check", [Check.CONSTRUCT, Check.LOSS_CONTRACT])
def test_a_contract_cell(rounds: Rounds, server: CellServer, check: Check) -> None:
    (number,) = [place for place, cell in enumerate(server.cells) if cell.check is check]
    rounds(f"a cell of {check}, forked from its release's process", lambda: server.run("plain", number))


def test_handing_a_result_over(rounds: Rounds) -> None:
    content = json.dumps(max((outcome.to_json() for outcome in load_run(RUN).outcomes), key=lambda one: len(str(one))))
    sender, receiver = channels.Channel.pair()

    def hand_over() -> None:
        file = channels.make_file("result", channels.RESULT_BYTES)
        channels.write_file(file, content.encode())
        sender.send(tree_events.Started(number=1, started=""), {"result": file})
        os.close(file)
        (message,) = receiver.receive()
        assert channels.read_file(message.files["result"], channels.RESULT_BYTES) == content.encode()
        message.close()

    rounds(f"a result of {len(content) / 1024:.0f} KiB handed over by a cell", hand_over)
    sender.close()
    receiver.close()


def test_writing_an_outcome(rounds: Rounds, tmp_path: Path) -> None:
    run = load_run(RUN)
    numbers = itertools.count()
    outcome = run.outcomes[-1]
    with RunStore.open(tmp_path / "run") as store:
        store.begin(run.provenance)
        rounds(
            "an outcome written to the disk",
            lambda: store.append(
                replace(outcome, cell=replace(outcome.cell, release=f"{outcome.cell.release}.post{next(numbers)}"))
            ),
        )


def test_judging_a_stored_run(rounds: Rounds) -> None:
    issues, run = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available()), load_run(RUN)
    rounds(f"a stored run of {len(run.outcomes)} cells judged", lambda: judge(run.outcomes, issues))


def test_writing_reports(rounds: Rounds, tmp_path: Path) -> None:
    issues, run = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available()), load_run(RUN)
    judged = judge(run.outcomes, issues)
    rounds(
        f"the reports of {len(run.outcomes)} cells written (HTML, Markdown, JUnit XML)",
        lambda: write_reports(run, judged, tmp_path),
        count=10,
    )


def test_reading_rows(rounds: Rounds, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    with file.open("w", encoding="utf-8") as rows:
        for number in range(ROWS):
            fields = {"key": f"row{number}", "source": f"wav/{number}.wav", "source_len": 300, "target": "今天天气很好"}
            rows.write(json.dumps({**fields, "target_len": 6}, ensure_ascii=False) + "\n")
    assert len(read_rows((file,)).rows) == ROWS
    rounds(f"{ROWS:,} rows of a jsonl read", lambda: read_rows((file,)), count=10)
