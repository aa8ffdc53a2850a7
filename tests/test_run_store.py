"""The store of outcomes: what a kill, a full disk, a second run or a foreign file does to it."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from strategies import outcomes as any_outcomes

from harness.core.cells import Cell, Outcome, Status
from harness.core.earlier_schemas import SCHEMA
from harness.core.errors import BusyError, StoreError
from harness.run.outcome_lines import line_of
from harness.run.provenance import Provenance
from harness.run.store import RunStore, load_run

NAME = "1.4.{}/paraformer/v8404-h320/reduced/{}/cpu-fp32"

WHERE = Provenance(
    host="Linux-6.1-x86_64",
    processor="Some Processor",
    cpu_count=2,
    memory_bytes=8 * 1024**3,
    gpus=(),
    driver=None,
    python="3.11.7",
    torch="2.13.0+cpu",
    cuda=None,
    libraries={"librosa": "0.11.0"},
    matrix="small",
    matrix_sha256="0" * 64,
    cells=4,
    selected=1,
    selection=(),
    corpus_sha256="1" * 64,
    harness_version="0.1.0",
    harness_commit="a" * 40,
    harness_dirty=False,
    started="2026-01-01T00:00:00Z",
)

Child = Callable[[str], "subprocess.Popen[str]"]


def cell(release: int = 16, check: str = "construct") -> Cell:
    return Cell.parse(NAME.format(release, check))


def outcome(release: int = 16, status: Status = Status.PASSED, check: str = "construct", **changed: Any) -> Outcome:
    reason = "" if status is Status.PASSED else "a reason"
    return Outcome(cell=cell(release, check), status=status, reason=reason, **changed)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Start a Python process that has a store of its own at hand as `folder`, and talks by its standard streams."""
    started: list[subprocess.Popen[str]] = []
    head = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from pathlib import Path
from harness.run.store import RunStore, load_run
from test_run_store import outcome
folder = Path({str(tmp_path)!r}) / "run"
"""

    def start(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", head + textwrap.dedent(body)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str]) -> str:
    """The next line that the process says; waits for it."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        pytest.fail(f"the process ended: {process.communicate()[1]}")
    return line


def test_what_was_appended_is_loaded_again(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        assert store.load() == ()
        store.append(outcome(1))
        store.append(outcome(2, Status.FAILED))
        assert store.load() == (outcome(1), outcome(2, Status.FAILED))
    with RunStore.open(tmp_path) as store:
        assert store.load() == (outcome(1), outcome(2, Status.FAILED))
        assert store.notices == ()


@given(any_outcomes)
def test_every_outcome_is_one_line_of_strict_json(given_outcome: Outcome) -> None:
    line = line_of(given_outcome)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Outcome.from_json(json.loads(line, parse_constant=pytest.fail)) == given_outcome


def test_nan_and_infinity_are_written_as_words(tmp_path: Path) -> None:
    metrics = {"losses": [1.5, math.nan, -math.nan, math.inf, -math.inf], "stats": {"acc": (math.nan,)}, "n": 3}
    with RunStore.open(tmp_path) as store:
        store.append(outcome(metrics=metrics, evidence={"seen": math.inf}, seconds=math.nan))
    text = (tmp_path / "outcomes.jsonl").read_text()
    data = json.loads(text, parse_constant=pytest.fail)
    assert data["metrics"] == {"losses": [1.5, "nan", "nan", "inf", "-inf"], "stats": {"acc": ["nan"]}, "n": 3}
    assert data["evidence"] == {"seen": "inf"}
    assert data["seconds"] == "nan"


def test_texts_that_utf8_or_lines_cannot_hold_come_back_as_they_were(tmp_path: Path) -> None:
    odd = "你好 \ud800 \u2028 \x85 \r \n \x00 \x0b end"
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1, evidence={"log_tail": odd}))
        store.append(outcome(2))
    with RunStore.open(tmp_path) as store:
        assert store.load()[0].evidence["log_tail"] == odd
        assert len(store.load()) == 2


def test_the_last_outcome_of_a_cell_counts(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        for status in (Status.ERRORED, Status.PASSED):
            store.append(outcome(1, status))
    with RunStore.open(tmp_path) as store:
        assert store.load() == (outcome(1),)


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    with RunStore.open(tmp_path / "some" / "where"):
        assert (tmp_path / "some" / "where" / "outcomes.jsonl").read_bytes() == b""


def test_cells_that_have_an_outcome_are_not_run_again_whatever_it_is(tmp_path: Path) -> None:
    settled = [Status.PASSED, Status.FAILED, Status.SKIPPED, Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY]
    cells = [cell(number) for number in range(len(settled) + 1)]
    with RunStore.open(tmp_path) as store:
        for number, status in enumerate(settled):
            store.append(outcome(number, status))
        assert store.remaining(cells) == (cells[-1],)


def test_errored_cells_are_run_again_and_what_they_block(tmp_path: Path) -> None:
    low, middle, high = (cell(1, check) for check in ("construct", "loss_contract", "finetune@train"))
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1, Status.ERRORED))
        store.append(outcome(1, Status.BLOCKED, "loss_contract", evidence={"blocked_by": low.id}))
        store.append(outcome(1, Status.BLOCKED, "finetune@train", evidence={"blocked_by": middle.id}))
        assert store.remaining([low, middle, high]) == (low, middle, high)
        store.append(outcome(1, Status.FAILED))
        assert store.remaining([low, middle, high]) == ()
        store.append(outcome(1, Status.PASSED))
        assert store.remaining([low, middle, high]) == (middle, high)


def test_blocked_cells_whose_blocker_is_unknown_or_themselves_are_run_again(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1, Status.BLOCKED))
        store.append(outcome(2, Status.BLOCKED, evidence={"blocked_by": cell(3).id}))
        store.append(outcome(4, Status.BLOCKED, evidence={"blocked_by": cell(4).id}))
        assert store.remaining([cell(1), cell(2), cell(4)]) == (cell(1), cell(2), cell(4))


def test_a_writer_that_is_killed_loses_at_most_what_it_was_writing(tmp_path: Path, child: Child) -> None:
    process = child(
        """
        import os
        from harness.run.outcome_lines import line_of
        store = RunStore.open(folder)
        store.append(outcome(1))
        store.append(outcome(2))
        half = line_of(outcome(3))[:-40]
        os.write(store._descriptor, half)
        print("half", flush=True)
        sys.stdin.read()
        """
    )
    assert told(process) == "half"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunStore.open(tmp_path / "run") as store:
        [notice] = store.notices
        assert "outcomes.torn-1.jsonl" in notice
        assert store.load() == (outcome(1), outcome(2))
        assert store.remaining([cell(2), cell(3)]) == (cell(3),)
        store.append(outcome(3))
    assert (tmp_path / "run" / "outcomes.torn-1.jsonl").read_bytes() == line_of(outcome(3))[:-40]
    with RunStore.open(tmp_path / "run") as store:
        assert store.notices == ()
        assert store.load() == (outcome(1), outcome(2), outcome(3))


def test_a_writer_killed_at_any_moment_leaves_a_store_that_goes_on(tmp_path: Path, child: Child) -> None:
    process = child(
        """
        store = RunStore.open(folder)
        number = 0
        while True:
            number += 1
            store.append(outcome(number, evidence={"text": "x" * 20000}))
            print(number, flush=True)
        """
    )
    while (last := int(told(process))) < 20:
        pass
    process.send_signal(signal.SIGKILL)
    # What it had said when it died was on disk before.
    rest, _ = process.communicate()
    last = max([last, *(int(line) for line in rest.splitlines() if line)])
    with RunStore.open(tmp_path / "run") as store:
        written = [one.cell.release for one in store.load()]
        assert written[:last] == [f"1.4.{number}" for number in range(1, last + 1)]
        store.append(outcome(0))


@pytest.mark.parametrize("tail", [b"{", line_of(outcome(9))[:-1], b"\0" * 100, "你".encode()[:2]])
def test_each_truncated_tail_is_set_aside_under_a_name_of_its_own(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "outcomes.jsonl"
    for number in (1, 2):
        with RunStore.open(tmp_path) as store:
            store.append(outcome(number))
        with path.open("ab") as file:
            file.write(tail)
    with RunStore.open(tmp_path) as store:
        assert len(store.load()) == 2
    assert path.read_bytes() == line_of(outcome(1)) + line_of(outcome(2))
    assert [(tmp_path / f"outcomes.torn-{number}.jsonl").read_bytes() for number in (1, 2)] == [tail, tail]


def test_a_file_that_is_one_truncated_line_is_set_aside_whole(tmp_path: Path) -> None:
    (tmp_path / "outcomes.jsonl").write_bytes(b'{"schema": 1')
    with RunStore.open(tmp_path) as store:
        assert store.load() == ()
    assert (tmp_path / "outcomes.torn-1.jsonl").read_bytes() == b'{"schema": 1'


GOOD = json.loads(line_of(outcome(2)))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"\0\0\0",
        json.dumps(GOOD | {"schema": SCHEMA + 1}).encode(),
        json.dumps(GOOD | {"id": "1.4.2"}).encode(),
        json.dumps(GOOD | {"status": "fine"}).encode(),
        json.dumps(GOOD | {"failure": {"type": "x"}}).encode(),
        json.dumps({key: value for key, value in GOOD.items() if key != "status"}).encode(),
        json.dumps(GOOD | {"cell": GOOD["cell"] | {"release": "1.4.3"}}).encode(),
        json.dumps(GOOD | {"seconds": math.nan}).encode(),
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_whole_line_that_is_no_outcome_stops_everything_and_is_named(tmp_path: Path, line: bytes, last: bool) -> None:
    text = line_of(outcome(1)) + line + b"\n" + (b"" if last else line_of(outcome(3)))
    (tmp_path / "outcomes.jsonl").write_bytes(text)
    with pytest.raises(StoreError, match=r"line 2 of .*outcomes\.jsonl is not an outcome"):
        RunStore.open(tmp_path)
    assert (tmp_path / "outcomes.jsonl").read_bytes() == text
    # The lock was let go of: the same error comes again, not another.
    with pytest.raises(StoreError):
        RunStore.open(tmp_path)


def test_two_processes_do_not_write_to_one_place(tmp_path: Path, child: Child) -> None:
    process = child(
        """
        store = RunStore.open(folder)
        print("open", flush=True)
        sys.stdin.readline()
        store.close()
        print("closed", flush=True)
        sys.stdin.readline()
        """
    )
    assert told(process) == "open"
    with pytest.raises(BusyError, match=f"process {process.pid}") as caught:
        RunStore.open(tmp_path / "run")
    assert "-o" in caught.value.next_step
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert told(process) == "closed"
    RunStore.open(tmp_path / "run").close()


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path, child: Child) -> None:
    process = child('store = RunStore.open(folder); print("open", flush=True); sys.stdin.read()')
    assert told(process) == "open"
    process.kill()
    process.wait()
    RunStore.open(tmp_path / "run").close()


def test_a_process_started_by_the_writer_does_not_keep_a_closed_place(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as other:
        store.close()
        RunStore.open(tmp_path).close()
        other.communicate(b"\n")


def test_a_place_kept_by_the_child_of_a_killed_writer_is_reported_from_one_in_use(tmp_path: Path, child: Child) -> None:
    process = child(
        """
        import os
        store = RunStore.open(folder)
        forked = os.fork()
        if forked:
            print(forked, flush=True)
        sys.stdin.read()
        """
    )
    forked = int(told(process))
    process.kill()
    process.wait()
    try:
        with pytest.raises(BusyError, match=f"process {process.pid}") as caught:
            RunStore.open(tmp_path / "run")
        assert "it has ended, but a process that it started still runs" in caught.value.cause
    finally:
        os.kill(forked, signal.SIGKILL)


def test_two_stores_of_one_process_do_not_write_to_one_place(tmp_path: Path) -> None:
    with RunStore.open(tmp_path), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        RunStore.open(tmp_path)


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.begin(WHERE)
        store.append(outcome(1))
        assert load_run(tmp_path).outcomes == (outcome(1),)


def test_a_limit_on_the_size_of_files_stops_the_run_with_all_that_was_measured(tmp_path: Path, child: Child) -> None:
    limit = 50_000
    process = child(
        f"""
        import resource
        from harness.core.errors import StoreError
        store = RunStore.open(folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        number = 0
        try:
            while True:
                number += 1
                store.append(outcome(number, evidence={{"text": "x" * 7000}}))
        except StoreError as error:
            print(number, str(error).replace(chr(10), " "), flush=True)
        """
    )
    number, _, text = told(process).partition(" ")
    assert "outcomes.jsonl cannot be written: File too large" in text
    assert "ulimit -f" in text
    assert process.wait() == 0
    assert int(number) > 2
    with RunStore.open(tmp_path / "run") as store:
        assert len(store.load()) == int(number) - 1
        assert store.notices == ()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_the_run_with_a_word_on_what_to_do(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1))
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, store._descriptor or 0)
        os.close(full)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            store.append(outcome(2))
        assert caught.value.cause == "the disk is full"
        assert "run the same command again" in caught.value.next_step
        assert store.load() == (outcome(1),)
        # What cannot be cut back to whole lines takes no more of them.
        with pytest.raises(StoreError, match="takes no more outcomes"):
            store.append(outcome(3))
    with RunStore.open(tmp_path) as store:
        assert store.load() == (outcome(1),)


def test_after_a_failed_write_the_next_line_begins_where_it_should(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1))
        size = (tmp_path / "outcomes.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            with pytest.raises(StoreError, match="File too large"):
                store.append(outcome(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "outcomes.jsonl").stat().st_size == size
        store.append(outcome(3))
    assert (tmp_path / "outcomes.jsonl").read_bytes() == line_of(outcome(1)) + line_of(outcome(3))


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be opened"):
            RunStore.open(path)


def test_a_folder_in_the_place_of_the_outcomes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "outcomes.jsonl").mkdir()
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        RunStore.open(tmp_path)
    assert caught.value.cause == "there is a folder of that name"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold for root")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        RunStore.open(tmp_path / "run")
    assert caught.value.cause == "no permission"


def test_a_closed_store_takes_no_outcome_and_may_be_closed_twice(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="takes no more outcomes"):
        store.append(outcome(1))


def test_a_run_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        assert store.begin(WHERE) == WHERE
        store.append(outcome(1))
        done = store.finish(WHERE, "2026-01-01T01:00:00Z")
    run = load_run(tmp_path)
    assert run.provenance == done == replace(WHERE, finished="2026-01-01T01:00:00Z")
    assert run.outcomes == (outcome(1),)
    assert run.notices == ()


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"selected": 3}, 2),
        ({"selected": 1}, 0),
        # Before the number was noted, a run over the whole matrix said how many cells that has.
        ({"selected": None, "selection": (), "cells": 4}, 3),
        ({"selected": None, "selection": (), "cells": 1}, 0),
        ({"selected": None, "selection": ("*",), "cells": 4}, 0),
    ],
)
def test_a_run_says_how_many_cells_have_no_outcome(tmp_path: Path, changed: dict[str, Any], missing: int) -> None:
    with RunStore.open(tmp_path) as store:
        store.begin(replace(WHERE, **changed))
        store.append(outcome(1))
    run = load_run(tmp_path)
    assert run.missing == missing
    said = f"{missing} of {missing + 1} cells have no outcome: the run was broken off, or is still going on; "
    assert run.notices == ((said + "what was not measured is no success",) if missing else ())


def test_what_an_earlier_part_of_a_run_still_owes_is_not_forgotten(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.begin(replace(WHERE, selected=5))
        store.append(outcome(1))
    with RunStore.open(tmp_path) as store:
        store.begin(replace(WHERE, selected=2))
        store.append(outcome(2))
    assert load_run(tmp_path).missing == 3


def test_reading_a_truncated_run_leaves_it_as_it_is_and_says_so(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.begin(WHERE)
        store.append(outcome(1))
    with (tmp_path / "outcomes.jsonl").open("ab") as file:
        file.write(b'{"schema"')
    before = (tmp_path / "outcomes.jsonl").read_bytes()
    run = load_run(tmp_path)
    assert run.outcomes == (outcome(1),)
    assert "cut short" in run.notices[0]
    assert (tmp_path / "outcomes.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "outcomes.jsonl", "run.json"]


def test_where_there_is_no_run_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        load_run(tmp_path / "gone")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 3}', '{"schema": 2}', '{"schema": 1}', "\udcff"])
def test_a_run_of_damaged_provenance_is_an_error(tmp_path: Path, text: str) -> None:
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1))
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"run\.json does not say"):
        load_run(tmp_path)
    with RunStore.open(tmp_path) as store, pytest.raises(StoreError, match=r"run\.json does not say"):
        store.begin(WHERE)


def test_a_run_without_provenance_is_an_error(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.append(outcome(1))
    with pytest.raises(StoreError, match=r"run\.json is missing"):
        load_run(tmp_path)
    with (
        RunStore.open(tmp_path) as store,
        pytest.raises(StoreError, match="nothing says where they come from") as caught,
    ):
        store.begin(WHERE)
    assert "--fresh" in caught.value.next_step


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"matrix": "other"}, "matrix: small there, other now"),
        ({"matrix_sha256": "f" * 64}, "matrix sha256"),
        ({"python": "3.12.1"}, "python: 3.11.7 there, 3.12.1 now"),
        ({"torch": "2.12.0"}, "torch"),
        ({"cuda": "13.0"}, "cuda: none there, 13.0 now"),
        ({"gpus": ("Some GPU",)}, "gpus: none there, Some GPU now"),
        ({"driver": "580.1"}, "driver"),
        ({"processor": "Another"}, "processor"),
        ({"cpu_count": 4}, "cpu count"),
        ({"host": "Linux-5"}, "host"),
        ({"corpus_sha256": "2" * 64}, "corpus: sha256 "),
        ({"libraries": {"librosa": "0.10.0"}}, "librosa: 0.11.0 there, 0.10.0 now"),
        ({"libraries": {}}, "librosa: 0.11.0 there, none now"),
        ({"libraries": {"librosa": "0.11.0", "jieba": "0.42"}}, "jieba: none there, 0.42 now"),
    ],
)
def test_what_cannot_be_compared_is_not_mixed(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    with RunStore.open(tmp_path) as store:
        store.begin(WHERE)
        store.append(outcome(1))
    before = (tmp_path / "run.json").read_bytes()
    with RunStore.open(tmp_path) as store, pytest.raises(StoreError, match="must not be mixed") as caught:
        store.begin(replace(WHERE, **changed))
    assert text in str(caught.value)
    assert "--fresh" in caught.value.next_step
    assert "-o" in caught.value.next_step
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_run_without_outcomes_may_be_begun_anew_with_another_stack(tmp_path: Path) -> None:
    other = replace(WHERE, torch="2.12.0")
    with RunStore.open(tmp_path) as store:
        store.begin(WHERE)
        assert store.begin(other) == other


def test_a_resumed_run_keeps_its_beginning(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        store.begin(replace(WHERE, selection=("*import*",), corpus_sha256=None))
        store.append(outcome(1))
        store.finish(WHERE, "2026-01-01T01:00:00Z")
    later = replace(WHERE, started="2026-01-02T00:00:00Z", selection=("*construct*",), harness_commit="b" * 40)
    with RunStore.open(tmp_path) as store:
        (tmp_path / "run.json").write_text(
            json.dumps(replace(WHERE, selection=("*import*",), harness_dirty=True).to_json())
        )
        merged = store.begin(later)
    assert merged.started == WHERE.started
    assert merged.finished is None
    assert merged.selection == ("*import*", "*construct*")
    assert merged.harness_commit == "b" * 40
    assert merged.earlier_commits == ("a" * 40 + "+",)
    assert merged.merge_resumed(WHERE).earlier_commits == ("a" * 40 + "+", "b" * 40)


def test_going_on_with_all_cells_means_all_cells() -> None:
    part = replace(WHERE, selection=("*import*",))
    assert part.merge_resumed(WHERE).selection == ()
    assert WHERE.merge_resumed(part).selection == ()


def test_a_corpus_that_was_not_needed_before_may_be_added() -> None:
    without = replace(WHERE, corpus_sha256=None)
    assert without.differences(WHERE) == ()
    assert WHERE.merge_resumed(without).corpus_sha256 == WHERE.corpus_sha256


def test_starting_afresh_sets_aside_what_was_there(tmp_path: Path) -> None:
    for number in (1, 2):
        with RunStore.open(tmp_path, fresh=True) as store:
            store.begin(replace(WHERE, torch=f"2.{number}"))
            store.append(outcome(number))
    with RunStore.open(tmp_path, fresh=True) as store:
        assert store.load() == ()
        assert "outcomes.before-2.jsonl" in " ".join(store.notices)
    for number in (1, 2):
        assert (tmp_path / f"outcomes.before-{number}.jsonl").read_bytes() == line_of(outcome(number))
        assert json.loads((tmp_path / f"run.before-{number}.json").read_text())["torch"] == f"2.{number}"


def test_a_provenance_that_cannot_be_written_is_an_error_and_leaves_no_draft(tmp_path: Path) -> None:
    with RunStore.open(tmp_path) as store:
        (tmp_path / "run.json").mkdir()
        with pytest.raises(StoreError, match=r"run\.json cannot be written"):
            store.begin(WHERE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "outcomes.jsonl", "run.json"]
