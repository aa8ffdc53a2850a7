"""A short form of `nox -s harden`: every parser gives a clear error in time, whatever a file has in it.

The known gaps are numbers of 5,000 digits, nesting, 50,000 dotted keys, YAML's timestamps, tags, alias bombs and
cycles, versions that are none or endless, paths that no file can have, and code of 200,000 signs.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.core.documents import UnreadableDocumentError, parse_json, parse_toml, parse_yaml, read_bytes
from harness.core.errors import MatrixError
from harness.core.paths import UnusablePathError, path_of
from tests.fuzz.campaign import fuzz
from tests.fuzz.targets import Parser, parsers


@pytest.mark.parametrize("parser", parsers(), ids=lambda parser: parser.name)
def test_mutated_and_hostile_inputs(parser: Parser) -> None:
    result = fuzz(parser, 8)
    assert result.faults == []
    assert result.inputs >= 8 + len(parser.hostile)
    assert result.accepted, "not even a valid document was read"


def test_a_fault_of_a_parser_is_seen() -> None:
    """Otherwise the test above could not fail."""

    def careless(_folder: Path, content: bytes) -> object:
        return content.decode("utf-8")

    found = fuzz(Parser(name="careless", seeds=("é".encode() * 50,), call=careless), 200)
    assert any("UnicodeDecodeError" in fault for fault in found.faults)

    def slow(_folder: Path, content: bytes) -> object:
        end = time.process_time() + (2.1 if content == b"slow" else 0)
        while time.process_time() < end:
            pass
        return content

    found = fuzz(Parser(name="slow", seeds=(b"a",), call=slow, hostile={"a slow one": b"slow"}), 1)
    assert any("a slow one" in fault for fault in found.faults)


def test_a_matrix_of_a_million_cells_is_refused_with_its_size(tmp_path: Path) -> None:
    matrix = next(one for one in parsers() if one.name == "matrix")
    with pytest.raises(MatrixError, match=r"2,[0-9]{3},[0-9]{3} cells, .* at most 50,000"):
        matrix.call(tmp_path, matrix.hostile["a million cells"])


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_json, '{"a": {"b": [1, 1e999]}}', "a.b.1: a number"),
        (parse_json, '{"a": }', "line 1 column 7"),
        (parse_toml, "a = 1\nb = = 1\nc = 2", "line 2"),
        (parse_toml, "a = 1\n" + "b." * 40 + "c = 1", r"more than 32 parts \(at line 2\)"),
        (parse_yaml, "a: 1\nb: ]", "line 2"),
        (parse_yaml, "a:\n  b: " + "9" * 400, "a.b: a number that is not of 64 bits"),
        (parse_yaml, "a: !!binary aGk=", "a: a value of the type bytes"),
    ],
)
def test_an_error_says_where(parse, text: str, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnreadableDocumentError, match=said):
        parse(text)


def test_sound_documents_are_read() -> None:
    assert parse_yaml("a: 2020-01-02\nb: &x {c: 1}\nd: *x\ne: {<<: *x, f: .inf}") == {
        "a": "2020-01-02",
        "b": {"c": 1},
        "d": {"c": 1},
        "e": {"c": 1, "f": float("inf")},
    }
    assert parse_toml("a.b.c = 1\nd = 2026-01-31")["a"] == {"b": {"c": 1}}
    assert parse_json(b'{"a": [-9223372036854775808, 0.5]}') == {"a": [-(2**63), 0.5]}


def test_a_pipe_and_a_device_are_no_documents(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UnreadableDocumentError, match="no regular file"):
            read_bytes(path, 1000)
    (tmp_path / "large").write_bytes(b"x" * 1001)
    with pytest.raises(UnreadableDocumentError, match="larger"):
        read_bytes(tmp_path / "large", 1000)


def test_paths() -> None:
    assert path_of("a/b c/中文.yaml") == Path("a/b c/中文.yaml")
    assert path_of("~/x") == Path.home() / "x"
    for text in ("a\0b", "~nosuchuser/x", "a" * 5000, "a/" * 2500, "\ud800"):
        with pytest.raises(UnusablePathError):
            path_of(text)
