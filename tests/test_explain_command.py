"""The command `explain`: where it reads from, what it prints and writes, and the status it returns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import cli

CASES = Path(__file__).parent / "explain_cases"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["explain", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_file_is_explained_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, str(CASES / "seed.log"))
    assert status == 0
    assert "streaming-hidden-states-into-loss" in out
    assert out.rstrip().endswith("Explained.")


def test_a_sound_log_has_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, str(CASES / "sound_1.4.16.log"))
    assert status == 0
    assert "Nothing wrong was found" in out


def test_what_is_not_known_has_status_1_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, str(CASES / "report_2502.log"))
    assert status == 1
    assert "The cause is not known, and none is guessed." in out


def test_a_pasted_text_in_several_words_is_one_text(capsys: pytest.CaptureFixture[str]) -> None:
    words = "AssertionError: assert x.size(2) == self.size"
    for arguments in ((words,), words.split(" ")):
        status, out, _ = call(capsys, "--release", "1.0.14", *arguments)
        assert status == 0
        assert "FunASR 1.0.14 (as you say)" in out
        assert "1.0.14/paraformer_streaming" in out


def test_the_named_release_decides_whether_an_issue_can_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "--release", "v1.2.7", "AssertionError: assert x.size(2) == self.size")
    assert status == 1
    assert "streaming-hidden-states" not in out.splitlines()[3]


def test_the_standard_input_is_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ((), ("-",)):
        data = io.BytesIO((CASES / "freeze.log").read_bytes())
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=data, isatty=lambda: False))
        status, out, _ = call(capsys, *arguments)
        assert status == 0
        assert "freeze-param-name" in out


def test_the_record_has_what_the_text_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    call(capsys, str(CASES / "optimizer_key.log"), "--json", str(file))
    _, out, _ = call(capsys, str(CASES / "optimizer_key.log"), "--json", "-")
    record = json.loads(out)
    assert record == json.loads(file.read_text("utf-8"))
    (one,) = record["explanations"]
    assert (one["rule"], one["owner"], one["severity"]) == ("optimizer-key-unknown", "yours", "broken")
    assert one["commands"] == ["funasr-harness preflight MODEL --script finetune.sh --release 1.4.16"]
    assert record["all_explained"] is True


def test_verbose_shows_more(capsys: pytest.CaptureFixture[str]) -> None:
    _, short, _ = call(capsys, str(CASES / "cif.log"))
    _, long, _ = call(capsys, "-v", str(CASES / "cif.log"))
    assert len(long) > len(short)
    assert "modelscope/FunASR#1818" in long


@pytest.mark.parametrize("content", [b"", b"\n \n", b"PK\x03\x04" + b"x" * 50])
def test_what_is_no_log_has_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    status, _, err = call(capsys, str(file))
    assert status == 2
    assert "model.pt" in err


@pytest.mark.parametrize("arguments", [("nowhere/train.log",), ("train.log",), (".",), ("--release", "new", "x: y")])
def test_what_cannot_be_read_has_status_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert "next:" in err


def test_a_text_without_anything_of_a_training_is_said_to_have_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("buy milk\n", encoding="utf-8")
    status, out, _ = call(capsys, str(file))
    assert status == 0
    assert "no line of FunASR's trainers" in out
