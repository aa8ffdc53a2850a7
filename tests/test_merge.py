"""`run --shard` and `merge`: one run out of shards, and a refusal of what does not belong together."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_scene import CELL, World, make_world
from report_factory import outcome, run_of

from harness.commands.arguments import make_parser
from harness.config.shards import Shard, split
from harness.core.cells import Cell, Failure, Status
from harness.core.errors import HarnessError, InputError, StoreError
from harness.performance.baselines.keys import NoKey, key_of
from harness.report.run_info import read_run_info
from harness.run.merging import read_shards, write_merged
from harness.run.store import LoadedRun, RunStore, load_run

CONSTRUCT, LOSS = CELL.format("construct"), CELL.format("loss_contract")
FAILURE = Failure(type="E", message="m", signature="E@funasr/x.py:f")
FAILED: dict[str, Any] = {"status": Status.FAILED, "reason": "it fails", "failure": FAILURE}
ONE, TWO, MERGED = "runs/small-shard-1-of-2", "runs/small-shard-2-of-2", "runs/small"
CELLS = [Cell.parse(name.replace("1.4.16", label)) for label in ("1.4.15", "1.4.16") for name in (CONSTRUCT, LOSS)]


@pytest.fixture(scope="session")
def merge_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(
    tmp_path: Path, merge_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    return make_world(tmp_path / "user", merge_cache, capsys, monkeypatch)


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is the current one, with the runs of two shards of four cells."""
    monkeypatch.chdir(tmp_path)
    parts = split(CELLS, 2, lambda cell: 1.0)
    for number, folder in enumerate((ONE, TWO), 1):
        shard = Shard(number=number, count=2)
        described = run_of(matrix="small", arguments=("small",), selected=2, shard=parts.origin(shard), finished=None)
        with RunStore.open(tmp_path / folder) as store:
            store.begin(described.provenance)
            for cell in parts.part(shard):
                store.append(outcome(cell))
            store.finish(described.provenance, "2026-01-01T09:10:00Z")
    return tmp_path


def merge(*folders: str, fresh: bool = False) -> LoadedRun:
    """Merge into a folder, and read that."""
    write_merged(read_shards([Path(folder) for folder in folders]), Path(MERGED), fresh=fresh)
    return load_run(Path(MERGED))


def edit_run(folder: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change `run.json` of a shard."""
    path = Path(folder) / "run.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(*folders: str) -> str:
    """What is said; nothing is written."""
    with pytest.raises(HarnessError) as caught:
        merge(*folders)
    assert not Path(MERGED).exists()
    assert isinstance(caught.value, StoreError) or caught.value.next_step
    return str(caught.value)


def test_shards_make_the_run_that_the_whole_matrix_makes(world: World) -> None:
    world.tree.failing = {LOSS: FAILED}
    whole = world.run("-o", "runs/whole")
    parts = [world.run("--shard", f"{number}/2") for number in (1, 2)]
    merged = world.call("merge", TWO, ONE)
    assert sorted(said.status for said in parts) == [0, 1]
    assert (whole.status, merged.status) == (1, 1), merged.err
    alike = [{one.cell.id: one.to_json() for one in load_run(Path(f)).outcomes} for f in (MERGED, "runs/whole")]
    assert alike[0] == alike[1]
    assert "4 cells of 2 shards" in merged.err
    for line in whole.out.splitlines()[:3]:
        assert line in merged.out
    provenance = load_run(Path(MERGED)).provenance
    assert (provenance.shard, provenance.other_machines, provenance.selected) == (None, (), 4)
    assert provenance.finished
    assert (Path(MERGED) / "compatibility.html").is_file()


def test_list_prints_the_cells_of_a_shard(world: World) -> None:
    parts = [world.call("list", "small", "--shard", f"{number}/2").out.split() for number in (1, 2)]
    assert [len(part) for part in parts] == [2, 2]
    assert sorted(parts[0] + parts[1]) == sorted(world.call("list", "small").out.split())


def test_a_shard_says_which_it_is_and_is_resumed_as_that_only(world: World) -> None:
    world.run("--shard", "1/2")
    run = load_run(Path(ONE))
    assert run.provenance.shard
    assert (run.provenance.shard.name, run.provenance.selected, run.missing) == ("1/2", 2, 0)
    assert (
        "This is shard 1/2 of 4 cells; `merge` makes one run of all shards."
        in read_run_info(run.provenance, ()).notices
    )
    assert "--shard 1/2" in (Path(ONE) / "compatibility.html").read_text()
    asked = len(world.tree.asked)
    assert world.run("--shard", "1/2").status == 0
    assert len(world.tree.asked) == asked
    said = world.run("--shard", "2/2", "-o", ONE)
    assert said.status == 3
    assert "shard: 1/2 of the split" in said.err
    assert "2/2 of the split" in said.err


def test_an_empty_shard_runs_nothing_and_is_merged(world: World) -> None:
    said = world.run("--shard", "5/5")
    assert said.status == 0, said.err
    assert "shard 5/5 has no cells" in said.err
    folder = "runs/small-shard-5-of-5"
    assert load_run(Path(folder)).missing == 0
    merged = world.call("merge", folder)
    assert merged.status == 3
    assert "Shards 1, 2, 3 and 4 of 5 are missing" in merged.err


def test_shards_are_split_by_the_recorded_durations(world: World) -> None:
    store = world.folder / "reports" / "small"
    with RunStore.open(store) as written:
        for cell in CELLS:
            written.append(outcome(cell, seconds=60.0 if cell.release == "1.4.15" else 1.0))
    world.write_matrix('variant = ["paraformer"]', 'variant = ["paraformer", "paraformer_streaming"]')
    for durations in ([], ["--durations", "reports/small"]):
        listed = world.call("list", "small", "--shard", "1/2", *durations).out.split()
        assert listed == [cell.id for cell in CELLS if cell.release == "1.4.15"]
    shutil.rmtree(store)
    assert len(world.call("list", "small", "--shard", "1/2").out.split()) == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--shard", "3/2"], "expected a shard such as 2/5"),
        (["--durations", "reports/small"], "--durations balances shards"),
        (["--shard", "1/2", "--durations", "runs/none"], "runs/none holds no run"),
    ],
)
def test_a_shard_that_cannot_be_made_is_one_clear_error(world: World, options: list[str], text: str) -> None:
    world.never("execute")
    said = world.run(*options)
    assert said.status in (2, 3)
    assert text in said.err
    assert not Path("runs").exists()


def test_a_missing_shard_is_named_and_counted(shards: Path) -> None:
    run = merge(TWO)
    assert read_shards([Path(TWO)]).lacking == ("shard 1 of 2 is missing",)
    assert (run.missing, run.provenance.finished) == (2, None)
    assert run.provenance.notices == ("Shard 1 of 2 is missing.",)
    with pytest.raises(StoreError, match="has a run already") as caught:
        merge(ONE, TWO)
    assert "--fresh" in caught.value.next_step
    whole = merge(ONE, TWO, fresh=True)
    assert (whole.missing, whole.provenance.notices) == (0, ())
    assert whole.provenance.finished == "2026-01-01T09:10:00Z"


def test_a_shard_that_was_broken_off_is_named(shards: Path) -> None:
    path = Path(TWO) / "outcomes.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    edit_run(TWO, lambda data: data.update(finished=None))
    assert read_shards([Path(ONE), Path(TWO)]).lacking == (f"shard 2/2 ({TWO}) has no outcome of 1 of its 2 cells",)
    run = merge(ONE, TWO)
    assert (run.missing, run.provenance.finished) == (1, None)


def test_a_shard_given_twice_is_one_and_with_other_outcomes_is_refused(shards: Path) -> None:
    same = Path("runs/same")
    shutil.copytree(ONE, same)
    assert len(read_shards([Path(ONE), same, Path(TWO), Path(ONE)]).outcomes) == 4
    lines = [json.loads(line) for line in (same / "outcomes.jsonl").read_text().splitlines()]
    lines[0]["seconds"] = 99.0
    (same / "outcomes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = refused(ONE, "runs/same", TWO)
    assert f"{lines[0]['id']} has different outcomes in {ONE} and in runs/same" in text
    assert "1 problem" in text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"matrix_sha256": "f" * 64}, "matrix sha256: "),
        ({"matrix": "other"}, f"matrix: small in {ONE}, other in {TWO}"),
        ({"python": "3.12.1"}, f"python: 3.11.2 in {ONE}, 3.12.1 in {TWO}"),
        ({"torch": "2.12.0"}, "torch: "),
        ({"cuda": "13.0"}, f"cuda: none in {ONE}, 13.0 in {TWO}"),
        ({"libraries": {}}, f"numpy: 2.4.0 in {ONE}, none in {TWO}"),
        ({"corpus_sha256": "2" * 64}, "corpus: sha256 "),
        ({"harness_commit": "b" * 40}, f"{'b' * 40} in {TWO}"),
        ({"harness_dirty": True}, f"0123456789abcdef+ in {TWO}"),
        ({"selection": ["*construct*"]}, f"selection: all in {ONE}, *construct* in {TWO}"),
        ({"arguments": ["small", "--rows", "3"]}, f"small --rows 3 in {TWO}"),
    ],
)
def test_what_is_of_another_command_is_refused(shards: Path, change: dict[str, Any], text: str) -> None:
    edit_run(TWO, lambda data: data.update(change))
    told = refused(ONE, TWO)
    assert "these runs cannot be merged" in told
    assert text in told


def test_shards_of_other_splits_are_refused(shards: Path) -> None:
    edit_run(TWO, lambda data: data["shard"].update(split_sha256="0" * 64))
    assert f"{ONE} and {TWO} are of different splits" in refused(ONE, TWO)
    edit_run(TWO, lambda data: data["shard"].update(count=3))
    assert f"number of shards: 2 in {ONE}, 3 in {TWO}" in refused(ONE, TWO)
    edit_run(TWO, lambda data: data["shard"].pop("selected"))
    assert "run.shard.selected: a key is missing" in refused(ONE, TWO)


def test_what_is_no_shard_is_refused(shards: Path) -> None:
    shutil.copytree(ONE, "runs/whole")
    edit_run("runs/whole", lambda data: data.update(shard=None))
    told = refused(ONE, "runs/whole")
    assert "these runs are no shards" in told
    assert "runs/whole" in told
    assert "--shard K/N" in told
    assert "runs/none holds no run" in refused(ONE, "runs/none")
    with pytest.raises(InputError, match="the folder of one of the shards"):
        write_merged(read_shards([Path(ONE), Path(TWO)]), Path(TWO), fresh=True)
    assert len(load_run(Path(TWO)).outcomes) == 2


def test_shards_of_other_machines_are_merged_and_the_report_says_so(shards: Path) -> None:
    edit_run(TWO, lambda data: data.update(processor="Another CPU", cpu_count=64))
    run = merge(ONE, TWO)
    assert [one.processor for one in run.provenance.other_machines] == ["Another CPU"]
    (notice,) = read_run_info(run.provenance, ()).notices
    assert notice.startswith("The cells ran on 2 machines (Imaginary CPU @ 2.00GHz; Another CPU)")
    assert isinstance(key_of(run.outcomes[0], run.provenance), NoKey)
    alone = replace(run.provenance, other_machines=())
    assert not isinstance(key_of(run.outcomes[0], alone), NoKey)


def test_the_nightly_workflow_speaks_the_command_line() -> None:
    text = (Path(__file__).parent.parent / ".github" / "workflows" / "nightly.yml").read_text("utf-8")
    lines = re.findall(r"nox -s harness -- (.+)$", text, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["releases", "run", "merge"]
    for line in lines:
        words = line.replace("${{ matrix.shard }}", "2").replace('"${durations[@]}"', "--durations last").split()
        make_parser().parse_args(words)
    ((shards, count),) = re.findall(r"shard: \[([0-9, ]+)\][\s\S]*--shard \$\{\{ matrix\.shard \}\}/(\d+)", text)
    assert shards.split(", ") == [str(number) for number in range(1, int(count) + 1)]
    assert f"runs/nightly-shard-${{{{ matrix.shard }}}}-of-{count}" in text
