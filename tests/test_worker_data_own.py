"""The question about a user's own file, put to loaders in miniature."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from own_scene import write_rows

from harness.core.evidence.questions import AnswerStatus, Question
from harness.worker.checks.data import limits
from harness.worker.checks.data.context import ReleaseRaised

ROWS = [{"source": f"{n}.wav", "target": "字", "source_len": n} for n in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(write_rows(tmp_path / "mine.jsonl", *ROWS))


def ask(
    path: str, drawn: list[list[int]], *, kept: Any = None, left_out: tuple[int, ...] = (), in_main: bool = False
) -> Question:
    """The answer where the release keeps `kept` and draws these, and its limits leave out these lines."""
    asked: list[dict[str, Any]] = []
    index = SimpleNamespace(contents=ROWS if kept is None else kept)
    loader = SimpleNamespace(dataset=SimpleNamespace(index_ds=index), batch_sampler=drawn)

    def capture_loaders(source: str, **conf: Any) -> Any:
        asked.append({"source": source, **conf})
        return SimpleNamespace(build=lambda: SimpleNamespace(train=loader))

    context: Any = SimpleNamespace(
        user_file={
            "path": path,
            "name": "mine.jsonl",
            "left_out_count": len(left_out),
            "left_out": [{"line": line, "reason": "it is long"} for line in left_out],
        },
        capture_loaders=capture_loaders,
        run_release=lambda work: work(),
        dataset_options=SimpleNamespace(loaders_in_main=in_main),
    )
    (answer,) = limits.check_own_rows(context)
    assert asked == [{"source": path, "batch_size": 1, "buffer_size": 1, "shuffle": False}]
    return answer


def test_all_rows_arrive(path: str) -> None:
    answer = ask(path, [[0], [1], [2], [3], [4]])
    assert (answer.status, answer.message) == (AnswerStatus.HOLDS, "all 5 rows of mine.jsonl arrive")


def test_rows_that_the_limits_leave_out_are_listed_with_their_reason(path: str) -> None:
    answer = ask(path, [[0], [1], [2]], kept=[ROWS[0], ROWS[1], ROWS[4]], left_out=(3, 4))
    assert answer.status is AnswerStatus.LISTED
    assert answer.message == "2 of 5 rows of mine.jsonl are left out by the limits in force"
    assert answer.example["file"] == "line 3: it is long"


@pytest.mark.parametrize(
    ("drawn", "left_out", "line"),
    [([[0], [1], [3], [4]], (), 3), ([[0], [1], [2], [3]], (4,), 5), ([[0], [2], [4]], (4,), 2)],
)
def test_a_row_that_the_limits_allow_and_that_is_not_drawn_is_the_releases(
    path: str, drawn: list[list[int]], left_out: tuple[int, ...], line: int
) -> None:
    answer = ask(path, drawn, left_out=left_out)
    assert answer.status is AnswerStatus.FAILS
    assert answer.example["utterance"] == f"line {line}"


def test_a_last_batch_that_never_comes_is_another_questions(path: str) -> None:
    answer = ask(path, [[0], [1], [2], [3]], in_main=True)
    assert answer.status is AnswerStatus.LISTED
    assert answer.message == "4 of 5 rows of mine.jsonl arrive; the last batch of an epoch never arrives"
    assert ask(path, [[0], [1], [2]], in_main=True).status is AnswerStatus.FAILS


def test_where_the_index_keeps_something_else_nothing_is_said(path: str) -> None:
    assert ask(path, [], kept=[{"source": "other.wav", "target": ""}]).status is AnswerStatus.NOT_TESTED


@pytest.mark.parametrize(("left_out", "status"), [((1, 2, 3, 4, 5), AnswerStatus.LISTED), ((), AnswerStatus.FAILS)])
def test_a_file_that_cannot_be_read_is_the_releases_unless_that_was_foreseen(
    path: str, left_out: tuple[int, ...], status: AnswerStatus
) -> None:
    def raising(_work: Any) -> Any:
        raise ReleaseRaised({"type": "KeyError", "message": "'prompt'", "signature": "KeyError@"})

    context: Any = SimpleNamespace(
        user_file={
            "path": path,
            "name": "mine.jsonl",
            "left_out_count": len(left_out),
            "left_out": [{"line": line, "reason": "no `prompt`"} for line in left_out],
        },
        capture_loaders=lambda *_, **__: SimpleNamespace(build=None),
        run_release=raising,
    )
    (answer,) = limits.check_own_rows(context)
    assert answer.status is status
    assert "KeyError: 'prompt'" in answer.message


def test_the_harnesss_own_speech_is_not_asked_about() -> None:
    context: Any = SimpleNamespace(user_file=None)
    assert list(limits.check_own_rows(context)) == []
