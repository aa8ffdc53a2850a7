"""Failed cells with a user's own variant or file run again on stock input, which says whose the failure is.

Stock input is the harness's own variant of the same model, and its own speech. What it means is for
`harness/rules/stock_input.py` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.config.matrix import Matrix
from harness.config.settings import FinetuneSettings
from harness.core.cells import Cell, Depth, Device, Dimensions, Outcome, Verdict
from harness.core.errors import HarnessError
from harness.rules.apply import apply_rules
from harness.rules.known_issues import KnownIssues
from harness.rules.stock_input import ON_STOCK_INPUT, awaits_stock_input
from harness.rules.verdicts import judge
from harness.run.prepare import Prepared
from harness.run.progress import Display
from harness.run.runner import CellRunner
from harness.run.store import RunStore
from harness.text.terminal import say
from harness.text.units import plural
from harness.variants.catalogue import load_variant
from harness.variants.variant import Variant, dimension_problems

LEAST_VOCABULARY = 1200
"""Tokens that hold every character of the built-in speech."""

USUAL_DIMENSIONS = "v8404-h320"
"""For a variant that cannot have the dimensions of the user's."""

MOST_LABELS = 25055
"""Tokens of SenseVoice, whose labels have ids up to 25017."""


def try_stock_input(
    runner: CellRunner, prepared: Prepared, store: RunStore, cells: Iterable[Cell], issues: KnownIssues
) -> None:
    """Run on stock input what decides failures with a user's own, and write these outcomes again with the answer."""
    undecided = _undecided(store, frozenset(cells), issues)
    stock_cells = {
        outcome.cell: cell
        for outcome in undecided
        if (cell := _stock_cell(outcome.cell, prepared.own_variants)) is not None
    }
    if not stock_cells:
        return
    say(
        f"{plural(len(stock_cells), 'failed cell')} may be the doing of your own input; the same checks run on stock "
        "input now, to decide that"
    )
    to_run = tuple(dict.fromkeys(stock_cells.values()))
    try:
        with Display(total=len(to_run)) as display:
            outcomes = runner.run(_with_usual_recipe(prepared.matrix), to_run, prepared.releases, display=display)
    except HarnessError as error:
        say(f"not decided whose these failures are: {error.what}", style="bold yellow")
        return
    for outcome in undecided:
        if (stock := outcomes.get(stock_cells.get(outcome.cell, outcome.cell))) is not None:
            answered = {
                "cell": stock.cell.id,
                "status": str(stock.status),
                "signature": stock.failure.signature if stock.failure else "",
                "reason": stock.reason,
            }
            store.append(apply_rules(replace(outcome, evidence={**outcome.evidence, ON_STOCK_INPUT: answered})))


def _with_usual_recipe(matrix: Matrix) -> Matrix:
    """The matrix with the trainings that the rules for learning were measured with.

    A matrix of fewer steps teaches the stock model no more than the user's, which speaks against no release.
    """
    own = matrix.finetune
    recipe = FinetuneSettings(seed=own.seed, seeds=1, accumulate=own.accumulate, processes=own.processes)
    return replace(matrix, finetune=recipe)


def _undecided(store: RunStore, cells: frozenset[Cell], issues: KnownIssues) -> list[Outcome]:
    """As they are stored; no known issue explains them."""
    stored = {outcome.cell: outcome for outcome in store.load()}
    return [
        stored[item.outcome.cell]
        for item in judge(tuple(stored.values()), issues)
        if item.verdict is Verdict.UNDECIDED
        and item.outcome.cell in cells
        and awaits_stock_input(stored[item.outcome.cell])
    ]


def _stock_cell(cell: Cell, own_variants: Mapping[str, Mapping[str, object]]) -> Cell | None:
    """The cell that asks the same of stock input; None where the harness has no variant of this model."""
    if cell.variant is None or cell.dimensions is None:
        return None
    depth = Depth.REDUCED if cell.device is Device.CPU else cell.depth
    if cell.variant not in own_variants:
        return cell
    name = str(own_variants[cell.variant].get("stock") or "")
    if not name:
        return None
    return replace(cell, variant=name, dimensions=_dimensions(cell.dimensions, load_variant(name)), depth=depth)


def _dimensions(own: Dimensions, variant: Variant) -> Dimensions:
    """The user's own, where the variant can have them and the vocabulary holds the built-in speech."""
    usual = Dimensions.parse(USUAL_DIMENSIONS)
    candidates = (
        replace(own, vocab_size=max(own.vocab_size, LEAST_VOCABULARY)),
        replace(own, vocab_size=MOST_LABELS),
        usual,
        replace(usual, vocab_size=MOST_LABELS),
    )
    return next((size for size in candidates if not dimension_problems(variant, size)), usual)
