"""What the runs that lie here know: the newest is believed, and answers to another question are not mixed in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_factory import blocked, cell, loss_failure, outcome, run_of, training
from transitions_scene import BAD, GOOD, asked, release

from harness.compare.transitions.cached_outcomes import folders, on_record
from harness.compare.transitions.cell_answer import CellAnswer, answer_of, curve_of
from harness.compare.transitions.search_space import SearchSpace, row_of_releases
from harness.core.cells import Failure, Outcome, Status
from harness.run.outcome_lines import line_of

MINE = ("atlas", "ab" * 32)


def question(check: str = "loss_contract") -> SearchSpace:
    return row_of_releases(asked(check), [release(f"1.0.{number}") for number in range(3)])


def at(
    row: SearchSpace, number: int, status: Status, signature: str = "", started: str = "2026-01-01T00:00:00Z"
) -> Outcome:
    failure = Failure(type="X", message="m", signature=signature) if signature else None
    of = row.places[number].cell
    assert of is not None
    return replace(outcome(of, status, failure=failure), started=started)


def write(folder: Path, outcomes: list[Outcome], **provenance: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "outcomes.jsonl").write_bytes(b"".join(map(line_of, outcomes)))
    (folder / "run.json").write_text(json.dumps(run_of(**provenance).provenance.to_json()))
    return folder


def test_what_a_run_knows_is_an_answer_with_its_origin(tmp_path: Path) -> None:
    row = question()
    run = write(tmp_path / "old", [at(row, 0, Status.FAILED, BAD.signature), at(row, 2, Status.PASSED)])
    known = on_record(row, [run], matrix="another", sha256="").observations
    assert {number: one.answer for number, one in known.items()} == {0: BAD, 2: GOOD}
    assert known[0].origin == run.as_posix()
    assert known[0].cached


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_runs_the_newest_outcome_is_believed_and_the_contradiction_is_reported(
    tmp_path: Path, order: int
) -> None:
    row = question()
    old = write(tmp_path / "old", [at(row, 0, Status.PASSED, started="2026-01-01T00:00:00Z")])
    new = write(tmp_path / "new", [at(row, 0, Status.FAILED, BAD.signature, started="2026-01-02T00:00:00Z")])
    record = on_record(row, [old, new][::order], matrix="another", sha256="")
    assert record.observations[0].answer == BAD
    assert [notice.partition(" has another answer")[0] for notice in record.notices] == [old.as_posix()]


def test_outcomes_of_other_settings_are_not_put_beside_each_other(tmp_path: Path) -> None:
    row = question("finetune@train")
    mine = write(tmp_path / "mine", [at(row, 0, Status.PASSED)])
    other = write(tmp_path / "other", [at(row, 1, Status.PASSED)], matrix_sha256="99" * 32)
    record = on_record(row, [mine, other], matrix=MINE[0], sha256=MINE[1])
    assert list(record.observations) == [0]
    assert any("other settings" in notice and "other" in notice for notice in record.notices)


def test_a_run_of_other_settings_serves_alone_where_it_asked_every_release(tmp_path: Path) -> None:
    row = question("finetune@train")
    whole = [at(row, number, Status.PASSED) for number in range(3)]
    run = write(tmp_path / "whole", whole, matrix_sha256="99" * 32)
    part = write(tmp_path / "part", whole[:1], matrix_sha256="88" * 32)
    assert len(on_record(row, [run, part], matrix=MINE[0], sha256=MINE[1]).observations) == 3
    assert on_record(row, [part], matrix=MINE[0], sha256=MINE[1]).observations == {}


def test_what_errored_says_nothing(tmp_path: Path) -> None:
    row = question()
    run = write(tmp_path / "run", [at(row, 0, Status.ERRORED)])
    assert on_record(row, [run], matrix="", sha256="").observations == {}


def test_a_run_that_cannot_be_read_is_skipped_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "outcomes.jsonl").write_text("no outcome\n")
    record = on_record(question(), [tmp_path / "broken"], matrix="", sha256="")
    assert len(record.notices) == 1


def test_a_blocked_cell_has_the_answer_of_what_blocks_it() -> None:
    root = outcome(cell("1.0.1", "loss_contract"), Status.FAILED, failure=loss_failure(320, 8404))
    above = blocked(cell("1.0.1", "finetune@train"), root.cell)
    by_id = {one.cell.id: one for one in (root, above)}
    answer = answer_of(above, by_id)
    assert (answer.status, answer.signature, answer.below) == (Status.FAILED, root.failure.signature, "loss_contract")
    assert not answer_of(above, {}).judged


def test_where_a_cell_stood_when_its_time_was_over_is_no_part_of_its_answer() -> None:
    one, other = (
        outcome(
            cell("1.0.1", "loss_contract"),
            Status.TIMED_OUT,
            failure=Failure(type="Timeout", message="", signature=f"Timeout@{place}"),
        )
        for place in ("funasr/a.py:f", "funasr/b.py:g")
    )
    assert answer_of(one, {}) == answer_of(other, {})


def test_an_answer_comes_back_from_json_as_it_was() -> None:
    assert CellAnswer.from_json(BAD.to_json()) == BAD


def test_curves_are_equal_answers_only_to_the_last_digit() -> None:
    def with_losses(*losses: float) -> CellAnswer:
        metrics = {**training(), "losses": list(losses)}
        return curve_of(outcome(cell("1.0.1", "finetune@train"), metrics=metrics), {})

    assert with_losses(10.0, 0.3) == with_losses(10.0, 0.3)
    assert with_losses(10.0, 0.3) != with_losses(10.0, 0.1 + 0.2)
    skipped = outcome(cell("1.0.1", "finetune@train"), Status.SKIPPED)
    assert curve_of(skipped, {}) == answer_of(skipped, {})


def test_runs_are_looked_for_in_runs_reports_and_bisections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reports/atlas", "runs/pr", "runs/bisections/x", "elsewhere/y"):
        write(tmp_path / name, [])
    monkeypatch.chdir(tmp_path)
    assert [path.as_posix() for path in folders()] == ["reports/atlas", "runs/pr", "runs/bisections/x"]
