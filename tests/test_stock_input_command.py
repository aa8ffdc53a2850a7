"""`run` with a user's own: failed cells are run again on stock input, and written again with what that says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from report_factory import run_of
from test_rules_user_errors import CELL, MODEL, failed

from harness.commands.stock_input import LEAST_VOCABULARY, try_stock_input
from harness.config.matrix import Matrix
from harness.config.settings import CellLimits, FinetuneSettings
from harness.core.cells import Cell, Depth, Device, Dimensions, Outcome, Status, Verdict
from harness.core.errors import CorpusError
from harness.corpus.corpus import build_corpus
from harness.corpus.tokens import make_token_list
from harness.releases import default_cache
from harness.rules.apply import apply_rules
from harness.rules.known_issues import KnownIssues
from harness.rules.verdicts import judge
from harness.run.prepare import Prepared
from harness.run.runner import CellRunner
from harness.run.store import RunStore

SHAPES = failed("RuntimeError", "128 channels, but got 64", {"predictor_conf.idim": 128}, place=MODEL)


MATRIX = Matrix(
    name="mine",
    source=Path("mine.toml"),
    sha256="",
    description="",
    cells=(),
    releases=(),
    variants=(),
    limits=CellLimits(),
    finetune=FinetuneSettings(steps=12, utterances=8, batch_size=2, seeds=2, accumulate=3),
)
"""Of a user who takes few steps."""


class StockRuns:
    """In the place of what runs cells: the cells that it was given, and how they end."""

    def __init__(self, ends: Callable[[Cell], Outcome | None]) -> None:
        self.ends = ends
        self.cells: list[Cell] = []

    def run(
        self, matrix: Matrix, cells: tuple[Cell, ...], _releases: object, **_display: object
    ) -> dict[Cell, Outcome]:
        self.cells += cells
        self.finetune = matrix.finetune
        return {cell: outcome for cell in cells if (outcome := self.ends(cell))}


def passes(cell: Cell) -> Outcome:
    return Outcome(cell=cell, status=Status.PASSED, reason="")


def fails_alike(cell: Cell) -> Outcome:
    return replace(SHAPES, cell=cell, evidence={})


@pytest.fixture
def tried(tmp_path: Path) -> Callable[..., tuple[StockRuns, list[Verdict]]]:
    """Store these outcomes, try stock input, and return what ran and the verdicts then."""

    def attempt(
        outcomes: list[Outcome], ends: Callable[[Cell], Outcome | None] = passes, stock: str = "paraformer"
    ) -> tuple[StockRuns, list[Verdict]]:
        runs = StockRuns(ends)
        prepared = SimpleNamespace(own_variants={"mine": {"stock": stock}}, matrix=MATRIX, releases={})
        with RunStore.open(tmp_path / "run") as store:
            store.begin(run_of().provenance)
            for outcome in outcomes:
                store.append(outcome)
            cells = [outcome.cell for outcome in outcomes]
            try_stock_input(cast(CellRunner, runs), cast(Prepared, prepared), store, cells, KnownIssues())
            return runs, [item.verdict for item in judge(store.load(), KnownIssues())]

    return attempt


def test_a_failure_is_the_users_where_the_stock_variant_passes(tried: Any) -> None:
    runs, verdicts = tried([SHAPES, passes(replace(CELL, release="1.4.15"))])
    assert [cell.id for cell in runs.cells] == [CELL.id.replace("/mine/", "/paraformer/")]
    assert verdicts == [Verdict.YOURS, Verdict.AS_EXPECTED]


def test_the_stock_model_is_trained_as_the_rules_for_learning_expect(tried: Any) -> None:
    """The user's few steps teach no model anything, which would be booked against the release."""
    runs, _ = tried([SHAPES])
    usual = FinetuneSettings()
    assert (runs.finetune.steps, runs.finetune.utterances) == (usual.steps, usual.utterances)
    assert (runs.finetune.seeds, runs.finetune.accumulate) == (1, 3)


def test_a_failure_is_the_releases_where_the_stock_variant_ends_alike(tried: Any) -> None:
    assert tried([SHAPES], fails_alike)[1] == [Verdict.REGRESSION]


def test_one_stock_cell_answers_for_several_of_the_users(tried: Any) -> None:
    blocked = Outcome(
        cell=Cell.parse(CELL.id.replace("finetune", "decode")),
        status=Status.BLOCKED,
        reason="r",
        evidence={"blocked_by": CELL.id},
    )
    deeper = replace(SHAPES, cell=replace(CELL, depth=Depth.FULL))
    runs, verdicts = tried([SHAPES, deeper, blocked])
    assert len(runs.cells) == 1
    assert verdicts == [Verdict.YOURS, Verdict.YOURS, Verdict.YOURS]


def test_rows_alone_are_replaced_by_the_built_in_speech(tried: Any) -> None:
    stock_variant = replace(CELL, variant="paraformer_streaming", device=Device.CUDA, depth=Depth.FULL)
    outcome = replace(failed("IndexError", "index out of range", rows="mine.jsonl", place=MODEL), cell=stock_variant)
    runs, verdicts = tried([outcome])
    assert (runs.cells, verdicts) == ([stock_variant], [Verdict.YOURS])


@pytest.mark.parametrize(
    ("size", "becomes"),
    [("v11-h64", f"v{LEAST_VOCABULARY}-h64"), ("v8404-h7", "v8404-h320"), ("v9000-h512", "v9000-h512")],
)
def test_the_stock_variant_has_the_users_dimensions_if_it_can(tried: Any, size: str, becomes: str) -> None:
    runs, _ = tried([replace(SHAPES, cell=replace(CELL, dimensions=Dimensions.parse(size)))])
    assert [str(cell.dimensions) for cell in runs.cells] == [becomes]


def test_sense_voices_labels_have_tokens(tried: Any) -> None:
    runs, _ = tried([replace(SHAPES, cell=replace(CELL, dimensions=Dimensions.parse("v30-h64")))], stock="sense_voice")
    assert [str(cell.dimensions) for cell in runs.cells] == ["v25055-h64"]


def test_the_least_vocabulary_holds_the_built_in_speech() -> None:
    assert make_token_list(build_corpus(default_cache()).texts, LEAST_VOCABULARY)


def test_what_cannot_be_run_on_stock_input_stays_undecided(tried: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def cannot(_cell: Cell) -> Outcome:
        raise CorpusError("no room for the built-in speech", next_step="n")

    assert tried([SHAPES], cannot)[1] == [Verdict.UNDECIDED]
    assert "not decided whose these failures are: no room for the built-in speech" in capsys.readouterr().err
    assert tried([SHAPES], lambda _cell: None)[1] == [Verdict.UNDECIDED]
    assert tried([SHAPES], stock="")[1] == [Verdict.UNDECIDED]


def test_nothing_runs_where_nothing_of_the_users_failed_or_its_cause_is_known(tried: Any) -> None:
    named = failed("TypeError", "unexpected 'lrr'", {"optim_conf.lrr": 0.1})
    runs, verdicts = tried([passes(CELL), apply_rules(replace(named, cell=replace(CELL, release="1.4.15")))])
    assert (runs.cells, verdicts) == ([], [Verdict.AS_EXPECTED, Verdict.YOURS])
