"""Runs packed for keeping: the same bytes within, read by everything, unpacked when a run goes on."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from test_run_store import WHERE, outcome

from harness.cli import main
from harness.core.durable import take_lock
from harness.core.errors import BusyError, StoreError
from harness.run.archive import PACKED, pack, read_outcomes
from harness.run.repeat_commands import near
from harness.run.store import RunStore, holds_run, known_runs, load_run, run_folders, run_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "reports" / "atlas"
    with RunStore.open(place) as store:
        store.begin(WHERE)
        store.append(outcome(1))
        store.append(outcome(2))
    return place


def test_a_packed_run_reads_as_before(folder: Path) -> None:
    before, raw = load_run(folder), (folder / "outcomes.jsonl").read_bytes()
    sizes = pack(folder)
    assert not (folder / "outcomes.jsonl").exists()
    assert sizes == (len(raw), (folder / PACKED).stat().st_size)
    assert lzma.decompress((folder / PACKED).read_bytes()) == raw
    assert load_run(folder) == before
    assert holds_run(folder)
    assert list(run_folders(folder.parent)) == [folder]


def test_a_run_that_an_earlier_version_packed_is_read_and_continued(folder: Path) -> None:
    before, raw = load_run(folder), (folder / "outcomes.jsonl").read_bytes()
    earlier = folder / "outcomes.jsonl.gz"
    earlier.write_bytes(gzip.compress(raw))
    (folder / "outcomes.jsonl").unlink()
    assert load_run(folder) == before
    with RunStore.open(folder) as store:
        store.append(outcome(3))
    assert not earlier.exists()
    assert len(load_run(folder).outcomes) == 3


def test_a_file_that_asks_for_gigabytes_of_memory_is_refused(folder: Path) -> None:
    pack(folder)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    (folder / PACKED).write_bytes(lzma.compress(b"{}", filters=filters))
    with pytest.raises(StoreError, match="is damaged: Memory usage limit exceeded"):
        load_run(folder)


def test_a_folder_without_runs_has_the_committed_ones(
    committed_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = known_runs()
    assert known == sorted(run_folders(committed_runs))
    assert "reports/atlas" in map(run_name, known)
    assert near(committed_runs / "atlas") == "reports/atlas"
    own = tmp_path / "runs" / "first"
    with RunStore.open(own) as store:
        store.begin(WHERE)
    assert [run_name(one) for one in known_runs() if one not in known] == ["runs/first"]


def test_a_run_of_the_working_folder_is_looked_at_in_place_of_the_committed_one(
    committed_runs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.name == "atlas"
    monkeypatch.chdir(folder.parents[1])
    known = known_runs()
    assert Path("reports/atlas") in known
    assert [one.name for one in known].count("atlas") == 1
    assert len(known) == len(list(run_folders(committed_runs)))


def test_in_a_checkout_each_committed_run_is_found_once(committed_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(committed_runs.parent)
    names = [run_name(one) for one in known_runs()]
    assert names.count("reports/atlas") == 1
    assert not [name for name in names if name.startswith("/")]


def test_equal_outcomes_pack_to_equal_files(folder: Path, tmp_path: Path) -> None:
    raw = (folder / "outcomes.jsonl").read_bytes()
    pack(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "outcomes.jsonl").write_bytes(raw)
    pack(other)
    assert (other / PACKED).read_bytes() == (folder / PACKED).read_bytes()


def test_a_run_that_goes_on_is_unpacked_and_loses_nothing(folder: Path) -> None:
    raw = (folder / "outcomes.jsonl").read_bytes()
    pack(folder)
    with RunStore.open(folder) as store:
        assert [one.cell for one in store.load()] == [outcome(1).cell, outcome(2).cell]
        assert not (folder / PACKED).exists()
        store.append(outcome(3))
    assert (folder / "outcomes.jsonl").read_bytes().startswith(raw)
    assert len(load_run(folder).outcomes) == 3


def test_fresh_sets_a_packed_run_aside(folder: Path) -> None:
    raw = (folder / "outcomes.jsonl").read_bytes()
    pack(folder)
    with RunStore.open(folder, fresh=True) as store:
        assert store.load() == ()
    assert (folder / "outcomes.before-1.jsonl").read_bytes() == raw
    assert not (folder / PACKED).exists()


def test_what_was_measured_since_goes_before_what_was_packed(folder: Path) -> None:
    raw = (folder / "outcomes.jsonl").read_bytes()
    pack(folder)
    (folder / "outcomes.jsonl").write_bytes(raw.splitlines(keepends=True)[0])
    assert len(load_run(folder).outcomes) == 1
    with RunStore.open(folder) as store:
        assert len(store.load()) == 1


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda _: b"no xz", lambda content: content[:-8] + b"\0" * 8],
    ids=["cut short", "of another kind", "another checksum"],
)
def test_a_damaged_file_is_one_clear_error(folder: Path, damage) -> None:  # type: ignore[no-untyped-def]
    pack(folder)
    packed = folder / PACKED
    packed.write_bytes(damage(packed.read_bytes()))
    for deed in (load_run, RunStore.open):
        with pytest.raises(StoreError, match=r"outcomes\.jsonl\.xz is damaged"):
            deed(folder)
    assert packed.exists()


def test_a_small_file_that_unpacks_to_hundreds_of_megabytes_is_refused_before_it_is_read(folder: Path) -> None:
    pack(folder)
    bomb = lzma.compress(b" " * (64 << 20))
    (folder / PACKED).write_bytes(bomb)
    assert len(bomb) < 1 << 17
    with pytest.raises(StoreError, match="more than any run of its size"):
        read_outcomes(folder / "outcomes.jsonl")


def test_what_unpacks_to_more_than_a_run_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(folder)
    monkeypatch.setattr("harness.run.archive._MOST_BYTES", 10)
    with pytest.raises(StoreError, match="more than any run of its size"):
        load_run(folder)


def test_packing_refuses_what_is_being_written(folder: Path) -> None:
    lock = take_lock(folder / "lock")
    with pytest.raises(BusyError):
        pack(folder)
    assert lock


def test_packing_refuses_a_line_that_is_cut_short(folder: Path) -> None:
    raw = (folder / "outcomes.jsonl").read_bytes()
    (folder / "outcomes.jsonl").write_bytes(raw[:-5])
    with pytest.raises(StoreError, match="cut short"):
        pack(folder)
    assert (folder / "outcomes.jsonl").read_bytes() == raw[:-5]


def test_the_command_says_what_it_saved_and_refuses_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(folder)]) == 0
    assert "outcomes.jsonl.xz: " in capsys.readouterr().err
    assert main(["pack", str(folder)]) != 0
    assert "packed already" in capsys.readouterr().err
