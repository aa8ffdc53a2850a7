"""`gate --reuse`: of a changed copy only what the change reaches is run, and some of the rest, in real processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from execute_scene import make_cell
from reuse_scene import FILES, changed, lay_out, plan_of, published

from harness.compare.gate.pairs import Result, pair, questions
from harness.core.cells import Cell, Check, Entry, Outcome, Status
from harness.core.evidence import REUSED
from harness.run import execute
from harness.run.reuse import reuse
from harness.run.reuse.kept import KeptOutcomes
from harness.run.reuse.reuse import Reuse, ReuseCount

BASE, SOURCE = "9.0.0", "9.0.1"
LOSS, TRAINER = "funasr/losses.py", "funasr/train.py"
RELEASE = {
    **FILES,
    LOSS: "def smoothed(value):\n    return value * 10\n",
    TRAINER: "def train(value):\n    # once\n    return value + 1000\n",
}
CALLS: Mapping[Check, tuple[str, ...]] = {
    Check.CONSTRUCT: (),
    Check.LOSS_CONTRACT: ("funasr.losses:smoothed",),
    Check.FINETUNE: ("funasr.losses:smoothed", "funasr.train:train"),
}
MODELS = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("gate") / "base", RELEASE)


@dataclass(frozen=True, kw_only=True)
class Gated:
    """What came of both sides."""

    outcomes: Mapping[Cell, Outcome]
    count: ReuseCount

    def of(self, release: str, check: Check, *, reused: bool) -> int:
        """How many cells of the release and check were reused, or ran."""
        mine = [one for cell, one in self.outcomes.items() if (cell.release, cell.check) == (release, check)]
        return sum((REUSED in one.evidence) is reused for one in mine)

    def ran(self, release: str) -> dict[Check, int]:
        """Of each check, how many cells ran."""
        return {check: self.of(release, check, reused=False) for check in CALLS}


def gate(
    folders: Mapping[str, Path],
    workspace: Path,
    *,
    seed: int = 1,
    kept: KeptOutcomes | None = None,
    hidden: bool = False,
    more: Mapping[str, object] | None = None,
) -> Gated:
    """Both releases, two models, three checks; with `hidden` the source differs in what no fingerprint holds.

    With one folder only, a run of that release alone.
    """
    matrix = [
        make_cell(number, check=check, entry=Entry.TRAIN if check is Check.FINETUNE else None)
        for number in range(MODELS)
        for check in CALLS
    ]
    base = BASE if len(folders) > 1 else ""
    decides = Reuse(published(folders), folders, seed=seed, kept_outcomes=kept, base=base, alone=not base)
    plan = plan_of(
        [cell for each in questions(matrix, SOURCE, BASE) for cell in each if cell.release in folders],
        folders,
        workspace,
        lambda cell: {
            "model": str(cell.dimensions),
            "draws_on_label": hidden,
            "seconds": 0.0,
            "calls": CALLS[cell.check],
            **(more or {}),
        },
        jobs=2,
    )
    found: dict[Cell, Outcome] = {}
    execute(plan, lambda one: found.update({one.cell: one}), env=dict(os.environ), reuse=decides)
    decides.save()
    assert all(one.status is Status.PASSED for one in found.values()), [one.reason for one in found.values()]
    return Gated(outcomes=found, count=decides.count)


@pytest.mark.parametrize(
    ("file", "before", "after", "ran"),
    [
        # a comment reaches nothing: the drawn model runs, and what is no question of code alone
        (TRAINER, "# once", "# one time", {Check.CONSTRUCT: 1, Check.LOSS_CONTRACT: 1, Check.FINETUNE: 2}),
        (TRAINER, "1000", "2000", {Check.CONSTRUCT: 1, Check.LOSS_CONTRACT: 1, Check.FINETUNE: 2}),
        (LOSS, "* 10", "* 11", {Check.CONSTRUCT: 1, Check.LOSS_CONTRACT: 2, Check.FINETUNE: 2}),
        ("funasr/models/layers.py", "offset = 1", "offset = 2", dict.fromkeys(CALLS, 2)),
    ],
    ids=["nothing", "trainer", "loss", "encoder"],
)
def test_of_the_source_runs_what_the_change_reaches_and_one_drawn_model(
    base: Path, tmp_path: Path, file: str, before: str, after: str, ran: Mapping[Check, int]
) -> None:
    source = changed(base, file, before, after, to=tmp_path / "source")
    found = gate({BASE: base, SOURCE: source}, tmp_path / "tree")
    assert found.ran(BASE) == dict.fromkeys(CALLS, MODELS)
    assert found.ran(SOURCE) == ran
    facts = found.count.facts()
    assert (facts.reused, facts.refuted) == (3 * MODELS - sum(ran.values()), ())
    assert facts.confirmed == (2 if file == TRAINER else 1 if file == LOSS else 0)
    for cell, one in found.outcomes.items():
        if REUSED in one.evidence:
            assert one.evidence[REUSED]["cell"] == cell.id.replace(SOURCE, BASE)
    pairs = [
        pair(one, found.outcomes[other])
        for cell, one in found.outcomes.items()
        for other in found.outcomes
        if cell.release == SOURCE and other.id == cell.id.replace(SOURCE, BASE)
    ]
    assert [one.result for one in pairs] == [Result.SAME] * 3 * MODELS
    assert sum(one.reused for one in pairs) == facts.reused


def test_a_later_gate_takes_the_releases_cells_from_an_earlier_one_and_draws_on_both_sides(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no training is drawn
    monkeypatch.setattr(reuse, "by_itself", lambda _source: False)
    kept = KeptOutcomes(tmp_path / "cache", "here")
    first = changed(base, TRAINER, "1000", "2000", to=tmp_path / "first")
    gate({BASE: base, SOURCE: first}, tmp_path / "tree", kept=kept)
    second = changed(base, TRAINER, "1000", "3000", to=tmp_path / "second")
    found = gate({BASE: base, SOURCE: second}, tmp_path / "tree", kept=kept)
    drawn = {Check.CONSTRUCT: 1, Check.LOSS_CONTRACT: 1}
    assert found.ran(BASE) == {**drawn, Check.FINETUNE: 0}
    assert found.ran(SOURCE) == {**drawn, Check.FINETUNE: MODELS}
    assert (found.count.facts().confirmed, found.count.facts().refuted) == (4, ())


def test_of_one_new_release_that_earlier_runs_show_one_model_runs(base: Path, tmp_path: Path) -> None:
    kept = KeptOutcomes(tmp_path / "cache", "here")
    gate({BASE: base}, tmp_path / "tree", kept=kept)
    new = changed(base, TRAINER, "1000", "2000", to=tmp_path / "new")
    found = gate({SOURCE: new}, tmp_path / "tree", kept=kept)
    assert found.ran(SOURCE) == {Check.CONSTRUCT: 1, Check.LOSS_CONTRACT: 1, Check.FINETUNE: MODELS}
    assert (found.count.facts().reused, found.count.facts().confirmed) == (2 * MODELS - 2, 2)


def test_a_drawn_cell_that_ends_otherwise_has_every_cell_of_its_check_run(base: Path, tmp_path: Path) -> None:
    source = changed(base, TRAINER, "# once", "# one time", to=tmp_path / "source")
    found = gate({BASE: base, SOURCE: source}, tmp_path / "tree", hidden=True)
    assert found.ran(SOURCE) == dict.fromkeys(CALLS, MODELS)
    assert found.count.facts().refuted


def test_which_model_is_drawn_is_a_matter_of_chance() -> None:
    cells = dict(enumerate(make_cell(number, release=label) for label in (BASE, SOURCE) for number in range(8)))
    orders = {
        tuple(number for number, cell in Reuse({}, {}, seed=seed, base=BASE).in_drawing_order(cells))
        for seed in range(8)
    }
    assert len(orders) == 8
    assert {tuple(sorted(order)) for order in orders} == {tuple(cells)}
    assert Reuse({}, {}, seed=1).in_drawing_order(cells) == list(cells.items())
