"""FunASR's jsonl form: read by its rules, kept byte for byte, written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.config.toml_tables import Problems
from harness.corpus.jsonl import (
    LONGEST_LINE,
    MOST_PROBLEMS,
    JsonlRow,
    completed,
    read_rows,
    row,
    value_span,
    with_value,
)


def read(tmp_path: Path, content: str | bytes, name: str = "train.jsonl") -> tuple[tuple[JsonlRow, ...], list[str]]:
    """The rows of a file, and what is wrong with it."""
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = Problems(source=file.name)
    return read_rows(file, problems), problems.found


def only_row(tmp_path: Path, content: str | bytes) -> JsonlRow:
    (one,), problems = read(tmp_path, content)
    assert problems == []
    return one


GOOD = '{"key": "a", "source": "a.wav", "source_len": 9, "target": "你好", "target_len": 2}'


def test_a_row_as_funasr_writes_it_is_read(tmp_path: Path) -> None:
    assert only_row(tmp_path, GOOD + "\n") == JsonlRow(
        line=1,
        content=(GOOD + "\n").encode(),
        key="a",
        source="a.wav",
        target="你好",
        source_len=9.0,
        target_len=2.0,
        text_language="",
        lacking=("prompt",),
    )


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_lines_may_end_as_pythons_text_files_do(tmp_path: Path, end: str) -> None:
    rows, problems = read(tmp_path, f"{GOOD}\n{GOOD}{end}")
    assert problems == []
    assert [one.line for one in rows] == [1, 2]
    assert b"".join(one.content for one in rows) == f"{GOOD}\n{GOOD}{end}".encode()


def test_an_old_mac_file_has_as_many_rows_as_python_reads(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, "\r".join([GOOD] * 3))
    assert (len(rows), problems) == (3, [])


@pytest.mark.parametrize(
    "line",
    [
        '{"source": "a.wav", "target": "好"}',
        '{"key": 7, "source": "a.wav", "target": "好"}',
        '{"key": "a", "source": "a.wav", "target": ""}',
        '{"key": "a", "source": "a.wav", "target": " 两  个 "}',
        '{"key": "a", "source": "a.wav", "target": "你\\u3000好\\t\\u2028"}',
        '{"key": "a", "source": "a.wav", "source_len": 1.87, "target": "好", "speaker": {"name": "b"}}',
        '  {"source" : "a.wav" , "target":"好"}  ',
        '{"key": "a", "target": "好"}',
    ],
)
def test_what_funasr_accepts_is_a_row(tmp_path: Path, line: str) -> None:
    rows, problems = read(tmp_path, f"{GOOD}\n{line}\n")
    assert problems == []
    assert rows[1].content == f"{line}\n".encode()
    assert rows[1].target == json.loads(line).get("target", "") * bool(rows[1].source)


def test_two_rows_of_one_key_are_two_rows(tmp_path: Path) -> None:
    assert len(read(tmp_path, f"{GOOD}\n{GOOD}\n")[0]) == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON: "),
        ("[1]", "expected a JSON object, found list"),
        ("null", "expected a JSON object, found NoneType"),
        ("[" * 100_000, "not JSON: "),
        ("", "a blank line"),
        ("  ", "a blank line"),
        ('{"source": "a\0.wav", "target": "好"}', "not JSON: "),
        ('{"source": "a\\u0000.wav", "target": "好"}', "`source` holds a NUL"),
        ('{"key": "a", "source": "a.wav"}', "no `target`"),
        ('{"key": "a", "source": "a.wav", "txt": "好", "taget": "好"}', 'no `target` (did you mean "taget"?)'),
        ('{"key": "a", "source": "a.wav", "target": ["好"]}', '`target` must be a text, found ["好"]'),
        ('{"key": "a", "source": null, "target": "好"}', "`source` must be a text, found null"),
        ('{"key": "a", "source": "", "target": "好"}', "`source` is empty"),
        ('{"key": "a", "source": "a.wav", "target": "\\ud800"}', "half a character"),
        ('{"source": "a.wav", "target": "好", "source_len": "187"}', '`source_len` must be a number, found "187"'),
        ('{"source": "a.wav", "target": "好", "target_len": null}', "`target_len` must be a number, found null"),
        ('{"source": "a.wav", "target": "好", "text": "好"}', "a field `text`"),
        (f'{{"source": "a.wav", "target": "好", "source_len": {"9" * 5000}}}', "not JSON: "),
    ],
)
def test_what_funasr_would_raise_on_is_said_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    _, problems = read(tmp_path, f"{GOOD}\n{line}\n{GOOD}\n")
    assert len(problems) == 1
    assert problems[0].startswith("line 2: ")
    assert told in problems[0]


def test_all_faults_of_all_rows_are_said_at_once(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, f"no json\n{GOOD}\n\n[]\n")
    assert [problem.split(":")[0] for problem in problems] == ["line 1", "line 3", "line 4"]
    assert len(rows) == 1


def test_a_line_that_is_not_utf8_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, b"\xff\n" + GOOD.encode())
    assert problems == ["line 1: not UTF-8"]
    assert len(rows) == 1


def test_a_byte_order_mark_is_said_where_funasr_raises_on_it(tmp_path: Path) -> None:
    _, problems = read(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())
    assert len(problems) == 1
    assert problems[0].startswith("line 1: a byte-order mark")
    with pytest.raises(json.JSONDecodeError, match="BOM"):
        json.loads((b"\xef\xbb\xbf" + GOOD.encode()).decode("utf-8"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_file_of_another_encoding_is_one_problem(tmp_path: Path, encoding: str) -> None:
    _, problems = read(tmp_path, f"\ufeff{GOOD}\n{GOOD}\n".encode(encoding))
    assert problems == ["line 1: the file is UTF-16: FunASR reads UTF-8"]


def test_reading_stops_at_a_line_that_is_no_row(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, GOOD.encode() + b"\n" + b"x" * 2**20 + b"\n" + GOOD.encode())
    assert problems == [f"line 2: longer than {LONGEST_LINE} bytes: no row of speech"]
    assert len(rows) == 1


def test_a_file_of_something_else_is_not_read_to_its_end(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, b"\xff\x00\n" * 100_000)
    assert rows == ()
    assert len(problems) == MOST_PROBLEMS + 1
    assert problems[-1] == f"line {MOST_PROBLEMS}: reading stopped here, after {MOST_PROBLEMS} lines that are no rows"


@pytest.mark.parametrize("content", ["", '{"key": "a", "target": "好"}\n'])
def test_a_file_of_which_nothing_can_be_trained_is_refused(tmp_path: Path, content: str) -> None:
    assert "no row" in read(tmp_path, content)[1][0]


@pytest.mark.parametrize("name", ["train.txt", "train.list", "train"])
def test_a_file_whose_name_funasr_takes_for_a_list_is_refused(tmp_path: Path, name: str) -> None:
    (problem,) = read(tmp_path, GOOD, name)[1]
    assert "must end in .jsonl or .json" in problem


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    problems = Problems(source="absent.jsonl")
    assert read_rows(tmp_path / "absent.jsonl", problems) == ()
    assert problems.found == ["file: cannot be read: No such file or directory"]


@pytest.mark.parametrize(("target", "length"), [("今天天气真好", 6), ("今天 天气", 2), ("今天 ok 了", 3), ("ok", 2)])
def test_target_len_counts_characters_or_words_as_scp2jsonl_does(target: str, length: int) -> None:
    assert json.loads(row("a", Path("/a.wav"), 1000.0, target))["target_len"] == length


@settings(deadline=None)
@given(samples=st.integers(min_value=0, max_value=16_000 * 600))
def test_source_len_is_scp2jsonls_to_the_frame(samples: int) -> None:
    written = json.loads(row("a", Path("/a.wav"), samples * 1000 / 16000, "好"))
    assert written["source_len"] == int(samples * 1000 / 16000 / 10)


def test_a_written_row_holds_the_fields_of_every_release() -> None:
    assert json.loads(row("a", Path("/x/a.wav"), 2390.0, "今天天气真好")) == {
        "key": "a",
        "prompt": "<ASR>",
        "source": "/x/a.wav",
        "source_len": 239,
        "target": "今天天气真好",
        "target_len": 6,
    }


def test_a_row_is_completed_and_keeps_what_it_says(tmp_path: Path) -> None:
    one = only_row(tmp_path, '{"source": "a.wav", "target": " 两  个", "source_len": 5, "emotion": "glad"}')
    assert json.loads(completed(one, Path("/x/a.wav"), 2390.0)) == {
        "key": "line1",
        "prompt": "<ASR>",
        "source": "/x/a.wav",
        "source_len": 5,
        "target": " 两  个",
        "target_len": 2,
        "emotion": "glad",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fields=st.dictionaries(st.text(), JSON, max_size=4),
    value=st.text(),
    other=st.text(),
    separators=st.sampled_from([(", ", ": "), (",", ":"), (" , ", "\t:  ")]),
    plain=st.booleans(),
)
def test_one_value_is_replaced_and_no_other_byte(
    fields: dict[str, object], value: str, other: str, separators: tuple[str, str], plain: bool
) -> None:
    text = json.dumps({**fields, "source": value, "last": 1}, separators=separators, ensure_ascii=plain)
    begin, end = value_span(text, "source")
    assert json.loads(text[begin:end]) == value
    assert json.loads(text[:begin] + json.dumps(other) + text[end:]) == {**fields, "source": other, "last": 1}


def test_of_two_values_of_one_name_the_last_counts_as_for_json(tmp_path: Path) -> None:
    one = only_row(tmp_path, '{"source": "a.wav", "target": "好", "source" : "b.wav"}\r\n')
    assert one.source == "b.wav"
    assert (
        with_value(one, "source", "c 语.wav")
        == '{"source": "a.wav", "target": "好", "source" : "c 语.wav"}\r\n'.encode()
    )


def test_a_field_that_is_not_there_has_no_place() -> None:
    with pytest.raises(KeyError):
        value_span('{"a": {"source": 1}}', "source")
