"""A user's own file through the trainers of real releases, by the command line: byte for byte, and row by row."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from own_scene import line

from harness import cli
from harness.config.toml_tables import Problems
from harness.corpus.corpus import build_corpus
from harness.corpus.jsonl import read_rows
from harness.releases import default_cache
from harness.worker.release import importer

pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parent.parent
MATRIX = """
schema = 1
name = "own"
description = "A user's own speech."

[axes]
release = {releases}
variant = ["paraformer"]
vocab_size = [8404]
hidden_size = [64]
depth = ["reduced"]
check = {checks}
device = ["cpu"]

# A busy machine is no finding.
[limits]
timeout_seconds = {{ data = 900, finetune = 1200 }}

[finetune]
steps = 12
utterances = 16
seeds = 1
accumulate = 1
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of one command."""

    status: int
    outcomes: dict[str, dict[str, Any]]
    """By release and check."""
    notices: list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's working directory, with recordings in it."""
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    folder = tmp_path_factory.mktemp("mine")
    (folder / "语 音").mkdir()
    for number, utterance in enumerate(build_corpus(default_cache()).utterances[:5]):
        shutil.copyfile(utterance.path, folder / "语 音" / f"{number}.wav")
    return folder


def own_row(number: int, **changed: Any) -> dict[str, Any]:
    utterance = build_corpus(default_cache()).utterances[number]
    usual = {
        "key": f"u{number}",
        "source": f"语 音/{number}.wav",
        "source_len": utterance.samples // 160,
        "target": utterance.text,
        "target_len": len(utterance.text),
    }
    return {**usual, **changed}


def run(folder: Path, output: Path, content: bytes, *, releases: str, checks: str, name: str = "我的.jsonl") -> Run:
    (folder / name).write_bytes(content)
    matrix = output.parent / f"{output.name}.toml"
    matrix.write_text(MATRIX.format(releases=releases, checks=checks), encoding="utf-8")
    before = sorted(folder.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        lock, issues = (str(ROOT / "matrices" / name) for name in ("releases.lock.toml", "known_issues.toml"))
        places = ("--lock", lock, "--known-issues", issues, "-o", str(output))
        status = cli.main(["run", str(matrix), "--jsonl", name, *places])
    assert sorted(folder.rglob("*")) == before, "a trainer that runs in the user's folder writes nothing there"
    assert (folder / name).read_bytes() == content
    lines = (output / "outcomes.jsonl").read_text("utf-8").splitlines()
    outcomes = [json.loads(one) for one in lines]
    return Run(
        status=status,
        outcomes={f"{one['cell']['release']}/{one['cell']['check']}": one for one in outcomes},
        notices=json.loads((output / "run.json").read_text("utf-8"))["notices"],
    )


def test_an_odd_file_reaches_the_trainers_unchanged_and_each_row_is_accounted_for(folder: Path, tmp_path: Path) -> None:
    content = b"".join(
        (
            line(own_row(0, speaker="甲", emotion={"glad": True}), "\r\n"),
            line(own_row(1, target="我们  一起"), "\n"),
            line(own_row(2, source_len=2500), "\n"),
            line({**own_row(3), "key": 7, "target_len": 3000}, "\r\n"),
            b'  {"target":"\\u8fd9\\u672c\\u4e66", "source" : "./\xe8\xaf\xad \xe9\x9f\xb3/4.wav" }  ',
        )
    )
    releases = '["1.0.17", "1.0.18", "1.4.16"]'
    made = run(folder, tmp_path / "run", content, releases=releases, checks='["finetune@train", "data@train"]')
    for version, gone in (("1.0.17", {3}), ("1.0.18", {3}), ("1.4.16", {3, 4})):
        outcome = made.outcomes[f"{version}/finetune"]
        rows, stated = outcome["metrics"]["user_rows"], outcome["evidence"]["user_rows"]
        assert rows["sha256"] == hashlib.sha256(content).hexdigest(), version
        assert (stated["listed"], stated["trainable"]) == (5, 5 - len(gone))
        assert {one["line"] for one in stated["reasons"]} == gone
        assert rows["unforeseen"] == []
        (own,) = [one for one in outcome_of(made, version, "data")["questions"] if one["name"] == "own_rows"]
        assert own["status"] == "listed"
        if version == "1.0.17":
            # Its last batch never comes, which here is the only one.
            assert (outcome["metrics"]["steps"], rows["arrived"]) == (0, 0)
            assert outcome["failure"]["signature"] == "NotTrained@steps"
            continue
        assert outcome["metrics"]["steps"] == outcome["metrics"]["steps_expected"] > 0
        assert (rows["arrived"], rows["missed_count"]) == (5 - len(gone), 0)
    assert any(notice.startswith("我的.jsonl: line 2 (u1): spaces at an end") for notice in made.notices)
    assert any("line 3 says 2500" in notice for notice in made.notices)


def outcome_of(made: Run, version: str, check: str) -> dict[str, Any]:
    evidence: dict[str, Any] = made.outcomes[f"{version}/{check}"]["evidence"]
    return evidence


def test_a_file_of_which_no_row_is_trained_is_the_users_and_never_a_pass(folder: Path, tmp_path: Path) -> None:
    content = b"".join(line(own_row(n, source_len=own_row(n)["source_len"] * 160)) for n in range(5))
    made = run(folder, tmp_path / "run", content, releases='["1.0.18", "latest"]', checks='["finetune@train"]')
    assert made.status == 2
    assert len(made.outcomes) == 2
    for outcome in made.outcomes.values():
        assert (outcome["status"], outcome["metrics"]["steps"]) == ("failed", 0)
        assert "source_len" in outcome["evidence"]["yours"]["reason"]
    assert "is in samples" in made.notices[0]
    assert "FunASR trains on no row" in made.notices[1]


def index_of(install_dir: str, path: str) -> str:
    """What the release's index makes of a file: the rows' number, or what it raises."""
    importer.import_components_only(install_dir, "")
    __import__("funasr.datasets.audio_datasets.index_ds")
    from funasr.register import tables

    try:
        return str(len(tables.index_ds_classes["IndexDSJsonl"](path)))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("version", ["1.0.0", "1.0.18", "1.4.16"])
@pytest.mark.parametrize(
    ("content", "raised"),
    [
        (b"\xef\xbb\xbf{}\n", "JSONDecodeError"),
        (b"{}\n\n{}\n", "JSONDecodeError"),
        (b"{}\n\n", "JSONDecodeError"),
        (b"{}\n{\n", "JSONDecodeError"),
        (b"{}\n\xff\n", "UnicodeDecodeError"),
        (b'{"source": "a.wav", "prompt": "", "source_len": 1, "target_len": 1}\n', "KeyError"),
    ],
)
def test_releases_raise_where_the_reader_says_so(
    version: str, content: bytes, raised: str, tmp_path: Path, layout: Callable[[str], Path], forked: Forked
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    problems = Problems(source="rows.jsonl")
    read_rows(tmp_path / "rows.jsonl", problems)
    assert problems.found
    assert forked(index_of, install_dir=str(layout(version)), path=str(tmp_path / "rows.jsonl")) == raised
