"""A run reuses outcomes, checks some of what it reused, and runs all of a check where that was wrong."""

from __future__ import annotations

import os
import random
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from execute_scene import make_cell
from reuse_scene import FILES, lay_out, plan_of, published
from test_run_store import WHERE

from harness.commands.run import _execute, _Run
from harness.core import tree_events as events
from harness.core.cells import Cell, Check, Device, Outcome, Status
from harness.core.evidence import REUSED
from harness.run import execute
from harness.run.plan import Plan
from harness.run.reuse.reuse import REUSABLE, Reuse, comparable, key
from harness.run.reuse.sample import ONE_IN, ReuseSample
from harness.run.store import RunStore

RELEASES = tuple(f"9.0.{number}" for number in range(8))
OTHER = "9.0.7"
"""Its encoder shifts by another offset; the others differ in comments."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("releases")
    layers = "funasr/models/layers.py"
    changes = {label: FILES[layers] + f"# {label}\n" for label in RELEASES}
    changes[OTHER] = FILES[layers].replace("offset = 1", "offset = 2")
    return {label: lay_out(root / label, {**FILES, layers: changes[label]}) for label in RELEASES}


def reuse_of(folders: dict[str, Path]) -> Reuse:
    return Reuse(published(folders), folders, seed=5)


def run(
    folders: dict[str, Path],
    workspace: Path,
    *,
    draws_on_label: bool,
    reuse: Reuse | None,
    orders: Mapping[str, object] | None = None,
    on_event: Callable[[events.Event], None] = lambda _: None,
) -> list[Outcome]:
    cells = [make_cell(0, release=label) for label in folders]
    plan = plan_of(
        cells,
        folders,
        workspace,
        lambda _: {"draws_on_label": draws_on_label},
        order_for=lambda label: {"check": "registrations", "rows": orders[label]} if orders else None,
    )
    found: list[Outcome] = []
    execute(plan, found.append, env=dict(os.environ), reuse=reuse, on_event=on_event)
    return found


def last(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    """As the store has it: the last outcome of each cell."""
    return {outcome.cell.release: outcome for outcome in outcomes}


def test_what_is_reused_equals_what_was_run_and_says_from_which_cell(folders, tmp_path) -> None:
    plain = last(run(folders, tmp_path / "plain", draws_on_label=False, reuse=None))
    reuse = reuse_of(folders)
    found = last(run(folders, tmp_path / "reuse", draws_on_label=False, reuse=reuse))
    assert {label: comparable(one) for label, one in found.items()} == {
        label: comparable(one) for label, one in plain.items()
    }
    reused = {label: one.evidence[REUSED]["cell"] for label, one in found.items() if REUSED in one.evidence}
    assert reused
    assert OTHER not in reused
    ran = {one.cell.id for one in found.values() if REUSED not in one.evidence}
    assert set(reused.values()) <= ran
    assert found[OTHER].metrics["parameters"] != found[RELEASES[0]].metrics["parameters"]
    facts = reuse.count.facts()
    assert (facts.reused, facts.refuted, facts.seed) == (len(reused), (), 5)
    assert facts.confirmed >= 1
    assert facts.confirmed >= 0.05 * facts.reused


def test_only_releases_that_may_differ_are_entered_and_those_that_are_drawn(folders, tmp_path) -> None:
    seen: list[events.Event] = []
    reuse = reuse_of(folders)
    found = last(run(folders, tmp_path / "reuse", draws_on_label=False, reuse=reuse, on_event=seen.append))
    ran = {label for label, one in found.items() if REUSED not in one.evidence}
    # one of those that are alike, the other one, and the first that could be reused
    assert len(ran) == 3
    assert OTHER in ran
    assert len([one for one in seen if isinstance(one, events.Entering)]) == len(ran)


def test_the_order_of_registrations_is_found_out_before_it_is_known_what_need_not_run(tmp_path) -> None:
    also = {**FILES, "funasr/models/other_encoder.py": FILES["funasr/models/other_encoder.py"]}
    folders = {label: lay_out(tmp_path / label, also) for label in RELEASES[:6]}
    first, second = (["encoder_classes", "Encoder", f"funasr.models.{name}"] for name in ("encoder", "other_encoder"))
    orders = {label: [second, first] if place % 2 else [first, second] for place, label in enumerate(folders)}
    reuse = reuse_of(folders)
    found = last(run(folders, tmp_path / "reuse", draws_on_label=False, reuse=reuse, orders=orders))
    assert not {Status.ERRORED, Status.BLOCKED} & {one.status for one in found.values()}
    values = [found[label].metrics["parameters"] for label in folders]
    assert values == values[:2] * 3
    assert values[0] != values[1]
    assert reuse.count.facts().reused == 3
    assert reuse.count.facts().refuted == ()


def test_an_order_that_cannot_be_found_out_blocks_nothing(folders, tmp_path) -> None:
    chosen = {label: folders[label] for label in RELEASES[:4]}
    found = last(
        run(chosen, tmp_path / "reuse", draws_on_label=False, reuse=reuse_of(chosen), orders=dict.fromkeys(chosen))
    )
    assert [one.status for one in found.values()] == [Status.PASSED] * 4


def test_where_a_drawn_cell_ends_otherwise_every_cell_of_the_check_is_run(folders, tmp_path) -> None:
    reuse = reuse_of(folders)
    found = last(run(folders, tmp_path / "reuse", draws_on_label=True, reuse=reuse))
    assert not [label for label, one in found.items() if REUSED in one.evidence]
    assert all(one.status is Status.PASSED for one in found.values())
    values = {label: one.metrics["parameters"] for label, one in found.items()}
    assert len({values[label] for label in RELEASES[:-1]}) == len(RELEASES) - 1
    facts = reuse.count.facts()
    assert facts.refuted
    assert facts.reused == 0


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_an_interrupted_run_keeps_what_it_found_out_about_reuse(folders, tmp_path, wrong: bool) -> None:
    class Runner:
        def reuse(self, _prepared: object, *, alone: bool, not_reusable: Collection[Check]) -> Reuse:
            assert not alone
            return Reuse(published(folders), folders, seed=5, not_reusable=not_reusable)

        def plan(self, _prepared: object, cells: Sequence[Cell], workspace: Path, **_: object) -> Plan:
            own = {cell.release: folders[cell.release] for cell in cells}
            return plan_of(cells, own, workspace, lambda _: {"draws_on_label": wrong})

        def execute(
            self, plan: Plan, _prepared: object, keep: Callable[[Outcome], None], *, reuse: Reuse, **_: object
        ) -> None:
            def keep_until_found_out(outcome: Outcome) -> None:
                keep(outcome)
                if len(plan.cells) == len(folders) and (
                    reuse.count.refuted if wrong else reuse.count.reused.total() > 1
                ):
                    raise KeyboardInterrupt

            execute(plan, keep_until_found_out, env=dict(os.environ), reuse=reuse)

    cells = [make_cell(0, release=label) for label in folders]
    prepared = _Run(
        options=Namespace(reuse=True), bounds=None, runner=Runner(), prepared=None, selected=tuple(cells), shard=None,
        cluster=None,
    )  # fmt: skip
    with RunStore.open(tmp_path / "run") as store:
        first = store.begin(WHERE)
        with pytest.raises(KeyboardInterrupt):
            _execute(prepared, cells, store, tmp_path / "first", first)
    with RunStore.open(tmp_path / "run") as store:
        resumed = store.begin(WHERE)
        assert resumed.reuse is not None
        assert resumed.reuse.reused == store.reused() > 0
        assert bool(resumed.reuse.refuted) == wrong
        assert {cell for cell in store.remaining(cells) if cell.id in {one.cell.id for one in store.load()}} == {
            one.cell for one in store.load() if wrong and REUSED in one.evidence
        }
        ended = _execute(prepared, store.remaining(cells), store, tmp_path / "second", resumed)
        assert store.remaining(cells) == ()
        assert ended.reuse is not None
        assert ended.reuse.reused == store.reused()
        assert bool(store.reused()) != wrong
        assert ended.reuse.refuted == resumed.reuse.refuted


def draws(seed: int, number: int) -> list[bool]:
    sample = ReuseSample(REUSABLE, random.Random(seed))
    return [sample.draws(make_cell(0, release=f"9.1.{place}")) for place in range(number)]


def test_enough_cells_are_drawn_whatever_their_number() -> None:
    for number in range(1, 200):
        drawn = sum(draws(number, number))
        assert drawn >= number / 20
        assert drawn <= 1 + -(-number // ONE_IN) + number // 20


def test_which_cells_are_drawn_depends_on_the_seed() -> None:
    assert draws(1, 60) == draws(1, 60)
    assert len({tuple(draws(seed, 60)) for seed in range(8)}) > 1


def test_of_a_drawn_release_every_cell_runs_and_counts_for_its_check() -> None:
    sample = ReuseSample(REUSABLE, random.Random(1))
    first, later = make_cell(0, release="9.1.0"), make_cell(0, release="9.1.0", check=Check.LOSS_CONTRACT)
    assert sample.draws(first)
    assert not sample.draws(make_cell(0, release="9.1.1", check=Check.LOSS_CONTRACT))
    assert sample.draws(later)
    assert sample.has(later)


def test_a_check_of_which_nothing_was_drawn_is_made_up_for() -> None:
    sample = ReuseSample(REUSABLE, random.Random(1))
    assert sample.draws(make_cell(0, release="9.1.0"))
    unpredicted = make_cell(0, release="9.1.0", check=Check.LOSS_CONTRACT)
    sample.ran(unpredicted, predicted=False)
    assert sample.draws(make_cell(0, release="9.1.1", check=Check.LOSS_CONTRACT))


@pytest.mark.parametrize(
    "cell",
    [
        make_cell(0, device=Device.CUDA),
        make_cell(0, check=Check.IMPORT),
        make_cell(0, check=Check.FINETUNE),
        make_cell(0, check=Check.PROPERTIES),
    ],
    ids=lambda cell: cell.id,
)
def test_what_draws_on_the_clock_the_machine_or_a_gpu_is_not_reused(cell: Cell) -> None:
    assert not Reuse({}, {}, seed=1).answers(cell)


def test_only_what_is_the_releases_is_left_out_of_a_request() -> None:
    release = {"label": "1", "version": "1", "install_dir": "/1", "components": [], "whole": False}
    request = {"release": release, "seed": 1}
    same = {"release": {**release, "label": "2", "version": "2", "install_dir": "/2"}, "seed": 1}
    assert key(request) == key(same)
    assert key(request) != key({**request, "seed": 2})
    assert key(request) != key({**request, "release": {**release, "whole": True}})
    assert key(request) != key({**request, "release": {**release, "components": [["a", "b"]]}})


def test_times_and_prints_are_no_difference_and_everything_else_is() -> None:
    one = Outcome(cell=make_cell(0), status=Status.PASSED, reason="", metrics={"peak_resident_bytes": 1}, seconds=1.0)
    assert comparable(one) == comparable(replace(one, metrics={"peak_resident_bytes": 2}, seconds=2.0))
    assert comparable(one) != comparable(replace(one, metrics={"parameters": 1}))
    assert comparable(one) != comparable(replace(one, shims=("cuda-calls-stay-on-cpu",)))
    assert comparable(one) != comparable(replace(one, status=Status.FAILED))
