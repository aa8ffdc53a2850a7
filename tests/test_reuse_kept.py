"""What a run found out serves later ones, and says which checks a change reaches."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from reuse_scene import CELL, COMPONENTS, Ran, changed, fingerprint_of, lay_out, outcome, release, run_cell
from user_folders import NO_ENVIRONMENT

from harness.core.cells import Cell, Check, Outcome, Release
from harness.core.evidence import REUSED
from harness.run import cpu_info
from harness.run.reuse import circumstances, kept
from harness.run.reuse.fingerprint import DependencyKind
from harness.run.reuse.impact import ReachedPart, impact
from harness.run.reuse.kept import KeptOutcomes, KnownOutcome, all_kept
from harness.run.reuse.reuse import Reuse

LAYERS = "funasr/models/layers.py"
OTHER = replace(CELL, release="1.4.17")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("release") / "base")


@pytest.fixture(scope="module")
def ran(folder) -> Ran:
    return run_cell(folder)


@pytest.fixture(scope="module")
def known(folder, ran) -> KnownOutcome:
    return KnownOutcome(outcome=outcome(ran), fingerprint=fingerprint_of(ran, folder))


def reuse_of(folders: dict[str, Path], cache: Path, identity: str = "here") -> Reuse:
    published = {one: Release(label=one, version=one, kind="wheel", filename="", sha256="") for one in folders}
    return Reuse(published, folders, seed=1, kept_outcomes=KeptOutcomes(cache, identity))


def request(cell: Cell, seed: int = 1) -> dict[str, object]:
    return {"release": {"label": cell.release, "components": COMPONENTS}, "seed": seed}


def offers(reuse: Reuse, cells: Sequence[Cell]) -> list[Outcome | None]:
    return [reuse.offer(cell, request(cell)) for cell in cells]


def test_orders_of_registrations_are_kept_by_folder(folder, tmp_path) -> None:
    rows = [["encoder_classes", "Encoder", "funasr.models.encoder", "Encoder", ""]]
    first = reuse_of({CELL.release: folder}, tmp_path)
    assert first.known_orders() == {CELL.release: ()}
    first.learn_order(CELL.release, {"evidence": {"registry": {"registrations": rows}}})
    first.save()
    assert reuse_of({CELL.release: folder}, tmp_path).known_orders() == {CELL.release: (tuple(rows[0][:3]),)}
    assert reuse_of({CELL.release: folder}, tmp_path, "elsewhere").known_orders() == {CELL.release: ()}


def test_outcomes_of_a_processor_with_other_instructions_are_not_reused(monkeypatch) -> None:
    def circumstances_with(described: str) -> str:
        monkeypatch.setattr(cpu_info, "_described", lambda: described)
        return circumstances.circumstances(NO_ENVIRONMENT, 1 << 30)

    here = circumstances_with("model name\t: AMD EPYC\ncpu MHz\t: 2450.0\nflags\t: fma avx2\n")
    assert circumstances_with("model name\t: AMD EPYC\ncpu MHz\t: 2900.0\nflags\t: fma avx2\n") == here
    assert circumstances_with("model name\t: AMD EPYC\ncpu MHz\t: 2450.0\nflags\t: fma avx2 avx512f\n") != here


@pytest.mark.parametrize("result", [{}, {"evidence": {}}, {"evidence": {"registry": {"registrations": [[1]]}}}])
def test_a_result_without_an_order_teaches_nothing(folder, tmp_path, result) -> None:
    reuse = reuse_of({CELL.release: folder}, tmp_path)
    reuse.learn_order(CELL.release, result)
    reuse.save()
    assert reuse.known_orders() == {CELL.release: ()}


def test_a_later_run_reuses_what_an_earlier_one_found_out(folder, ran, tmp_path) -> None:
    first = reuse_of({CELL.release: folder}, tmp_path)
    assert first.offer(CELL, request(CELL)) is None
    first.learn(outcome(ran), request(CELL), ran.used)
    first.save()

    again = [CELL, OTHER, replace(CELL, release="1.4.18")]
    found = offers(reuse_of({cell.release: folder for cell in again}, tmp_path), again)
    # the first that could be reused is drawn
    assert found[0] is None
    assert [one and one.evidence[REUSED]["cell"] for one in found[1:]] == [CELL.id, CELL.id]

    folders = {cell.release: folder for cell in again}
    assert offers(reuse_of(folders, tmp_path, "elsewhere"), again) == [None, None, None]
    other = reuse_of(folders, tmp_path)
    assert [other.offer(cell, request(cell, seed=2)) for cell in again] == [None, None, None]


@pytest.mark.parametrize("differs", [False, True])
def test_a_drawn_cell_is_compared_with_what_it_was_in_an_earlier_run(folder, ran, tmp_path, differs) -> None:
    first = reuse_of({CELL.release: folder}, tmp_path)
    first.learn(outcome(ran), request(CELL), ran.used)
    first.save()
    again = reuse_of({CELL.release: folder}, tmp_path)
    assert again.offer(CELL, request(CELL)) is None
    again.learn(replace(outcome(ran), metrics={"parameters": ran.answer + differs}), request(CELL), ran.used)
    facts = again.count.facts()
    assert (facts.confirmed, facts.refuted) == ((0, (CELL.id,)) if differs else (1, ()))


def test_what_turned_out_wrong_is_forgotten(folder, ran, tmp_path) -> None:
    first = reuse_of({CELL.release: folder}, tmp_path)
    first.learn(outcome(ran), request(CELL), ran.used)
    first.save()
    assert len(list(all_kept(tmp_path))) == 1
    second = reuse_of({OTHER.release: folder}, tmp_path)
    assert second.offer(OTHER, request(OTHER)) is None
    second.learn(replace(outcome(ran), cell=OTHER, metrics={"parameters": 0}), request(OTHER), ran.used)
    second.save()
    assert second.count.facts().refuted == (OTHER.id,)
    assert list(all_kept(tmp_path)) == []


def test_a_record_is_read_as_it_was_written(known, tmp_path) -> None:
    store = KeptOutcomes(tmp_path, "here")
    store.save("key", [known])
    assert [one.to_json() for one in store.load("key")] == [known.to_json()]
    assert store.load("other key") == []


UNREADABLE = {
    "empty": b"",
    "no archive": b"no archive",
    "no JSON": gzip.compress(b"{"),
    "no object": gzip.compress(b"[]"),
    "no outcome": gzip.compress(b'{"schema": 1, "known": [1]}'),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_damaged_record_holds_nothing(known, tmp_path, content) -> None:
    store = KeptOutcomes(tmp_path, "here")
    store.save("key", [known])
    store.path("key").write_bytes(content)
    assert store.load("key") == []


def test_an_outcome_without_its_form_is_not_read(known, tmp_path) -> None:
    store = KeptOutcomes(tmp_path, "here")
    store.save("key", [known])
    data = json.loads(gzip.decompress(store.path("key").read_bytes()))
    data["known"][0]["outcome"]["status"] = "splendid"
    store.path("key").write_bytes(gzip.compress(json.dumps(data).encode()))
    assert store.load("key") == []


def test_what_is_kept_is_bounded(known, tmp_path, monkeypatch) -> None:
    store = KeptOutcomes(tmp_path, "here")
    for number in range(3):
        store.save(f"key {number}", [known])
        os.utime(store.path(f"key {number}"), (number, number))
    size = store.path("key 0").stat().st_size
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * size)
    store.prune()
    assert [len(store.load(f"key {number}")) for number in range(3)] == [0, 1, 1]
    monkeypatch.setattr(kept, "MOST_OF_A_KIND", 1)
    store.save("key 1", [known, replace(known, outcome=replace(known.outcome, cell=OTHER))])
    assert [one.outcome.cell for one in store.load("key 1")] == [OTHER]


def test_the_impact_of_a_change_is_the_functions_that_it_reaches(folder, known, tmp_path) -> None:
    other = changed(folder, LAYERS, "value + self.offset", "value - self.offset", to=tmp_path / "other")
    (found,) = impact([known], release(folder), release(other, version="1.4.17"))
    assert (found.variant, found.check, found.cells) == ("paraformer", Check.CONSTRUCT, 1)
    assert found.reached == (ReachedPart(kind=DependencyKind.FUNCTION, name=f"{LAYERS}:Base.shift"),)
    assert str(found.reached[0]) == f"function: {LAYERS}:Base.shift"


@pytest.mark.parametrize("change", [("# by the offset", "# another"), ("    return value\n", "    return -value\n")])
def test_a_change_that_reaches_nothing_has_no_impact(folder, known, tmp_path, change) -> None:
    other = changed(folder, LAYERS, *change, to=tmp_path / "other")
    (found,) = impact([known], release(folder), release(other, version="1.4.17"))
    assert found.reached == ()
