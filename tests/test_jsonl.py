"""FunASR's jsonl form, read and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.speech.jsonl import read_rows, row
from harness.tables import Problems


def read(tmp_path: Path, content: str | bytes) -> tuple[list[tuple[str, str, str]], list[str]]:
    """The rows of a file as triples, and what is wrong with it."""
    file = tmp_path / "train.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = Problems(source=file.name)
    rows = read_rows(file, problems)
    return [(row.key, row.source, row.target) for row in rows], problems.found


GOOD = '{"key": "a", "source": "a.wav", "source_len": 9, "target": "你好", "target_len": 2}'


def test_a_row_as_funasr_writes_it_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + "\n") == ([("a", "a.wav", "你好")], [])


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_the_end_of_the_file_may_be_any(tmp_path: Path, end: str) -> None:
    assert read(tmp_path, GOOD + end) == ([("a", "a.wav", "你好")], [])


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())[1] == []


def test_spaces_between_words_are_kept_and_superfluous_ones_dropped(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, GOOD.replace("你好", "  今天  天气 "))
    assert rows == [("a", "a.wav", "今天 天气")]
    assert problems == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON: "),
        ("[1]", "expected a JSON object, found list"),
        ("[" * 100_000, "not JSON: "),
        ('{"key": "a", "target": "好"}', "no `source`"),
        ('{"key": "a", "source": "a.wav"}', "no `target`"),
        ('{"key": "a", "source": "a.wav", "txt": "好", "taget": "好"}', 'no `target` (did you mean "taget"?)'),
        ('{"source": "a.wav", "target": "好"}', "no `key`"),
        ('{"key": "a", "source": "a.wav", "target": ["好"]}', "`target` must be a text, found ["),
        ('{"key": "a", "source": null, "target": "好"}', "`source` must be a text, found null"),
        ('{"key": "a", "source": "a.wav", "target": " "}', "`target` is empty"),
        ('{"key": "a", "source": "", "target": "好"}', "`source` is empty"),
        ('{"key": "a", "source": "a.wav", "target": "你\\u3000好"}', "other than the ordinary space (U+3000)"),
        ('{"key": "a", "source": "a.wav", "target": "你\\t好"}', "other than the ordinary space (U+0009)"),
        ('{"key": "a", "source": "a.wav", "target": "\\ud800"}', "half a character"),
    ],
)
def test_each_fault_of_a_row_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    _, problems = read(tmp_path, f"{GOOD}\n{line}\n")
    assert len(problems) == 1
    assert problems[0].startswith("line 2: ")
    assert told in problems[0]


def test_all_faults_of_all_rows_are_told_at_once(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, f"{{}}\n{GOOD}\nno json\n{GOOD}\n")
    assert [problem.split(":")[0] for problem in problems] == ["line 1", "line 1", "line 1", "line 3", "line 4"]
    assert "the key 'a' is already that of line 2" in problems[-1]
    assert len(rows) == 1


def test_a_line_that_is_not_utf8_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, b"\xff\n" + GOOD.encode())
    assert problems == ["line 1: not UTF-8"]
    assert len(rows) == 1


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    assert "no rows" in read(tmp_path, content)[1][0]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    problems = Problems(source="absent.jsonl")
    assert read_rows(tmp_path / "absent.jsonl", problems) == ()
    assert problems.found == ["file: cannot be read: No such file or directory"]


@pytest.mark.parametrize(("target", "length"), [("今天天气真好", 6), ("今天 天气", 2), ("今天 ok 了", 3), ("ok", 2)])
def test_target_len_counts_characters_or_words_as_scp2jsonl_does(target: str, length: int) -> None:
    assert json.loads(row("a", Path("/a.wav"), 1000.0, target))["target_len"] == length


@given(samples=st.integers(min_value=0, max_value=16_000 * 600))
def test_source_len_is_scp2jsonls_to_the_frame(samples: int) -> None:
    written = json.loads(row("a", Path("/a.wav"), samples * 1000 / 16000, "好"))
    assert written["source_len"] == int(samples * 1000 / 16000 / 10)


def test_a_written_row_holds_what_each_dialect_asks_for() -> None:
    assert json.loads(row("a", Path("/x/a.wav"), 2390.0, "今天天气真好")) == {
        "key": "a",
        "prompt": "<ASR>",
        "source": "/x/a.wav",
        "source_len": 239,
        "target": "今天天气真好",
        "target_len": 6,
    }
