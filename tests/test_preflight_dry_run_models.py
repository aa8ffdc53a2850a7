"""The dry run of models in their published forms, by real releases; and what is not tried, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from user_folders import inputs_of, model_folder, speech, write_jsonl

from harness.core.cells import Severity
from harness.preflight.dry_run import dry_run
from harness.preflight.dry_run.dry_run_answer import FirstLoss
from harness.preflight.findings import PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ask_all

pytest.importorskip("sentencepiece")
from published_folders import sense_voice_small

Layout = Callable[[str], Path]


def inputs(model: Path, rows: list[dict[str, Any]], install_dir: Path, release: str, **overrides: Any) -> Inputs:
    found = inputs_of(model, install_dir=install_dir, version=release, **overrides)
    train, valid = (write_jsonl(model.parent / f"{name}.jsonl", rows) for name in ("train", "valid"))
    return replace(found, train=train, valid=valid, dry_run=True)


def tried(found: list[Inputs]) -> list[PreflightPart]:
    """The dry runs of one release, in one process tree."""
    plans = [dry_run.plan(one) for one in found]
    assert not any(isinstance(one, str) for one in plans), plans
    outcomes = ask_all(found[0], [one.question for one in plans if not isinstance(one, str)])
    return [
        dry_run.judged(one, made, outcome)
        for one, made, outcome in zip(found, plans, outcomes, strict=True)
        if not isinstance(made, str)
    ]


def facts(part: PreflightPart) -> Mapping[str, str]:
    return {fact.label: fact.value for fact in part.facts}


@pytest.mark.release
def test_whisper_is_not_tried_without_its_library(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "config.yaml").write_text("model: WhisperWarp\n", encoding="utf-8")
    found = inputs_of(tmp_path, install_dir=layout("1.4.16"))
    train = write_jsonl(tmp_path / "train.jsonl", speech(2))
    without = {name: one for name, one in found.environment.libraries.items() if name != "openai-whisper"}
    why = dry_run.plan(replace(found, train=train, environment=replace(found.environment, libraries=without)))
    assert isinstance(why, str)
    assert why.startswith("the code of WhisperWarp needs openai-whisper, which is not installed here")
    there = replace(found.environment, libraries={**without, "openai-whisper": "20250625"})
    assert "openai-whisper" not in str(dry_run.plan(replace(found, train=train, environment=there)))


@pytest.mark.release
@pytest.mark.parametrize("release", ["1.2.7", "1.4.16"])
def test_sense_voice_with_its_sentencepiece_model_and_a_conformer(
    tmp_path: Path, forked: Forked, layout: Layout, release: str
) -> None:
    model = sense_voice_small(forked, layout("1.4.16"), tmp_path / "SenseVoiceSmall")
    if release == "1.4.16":
        # Named otherwise, by configuration.json.
        (model / "config.yaml").rename(model / "finetuned.yaml")
        text = (model / "configuration.json").read_text(encoding="utf-8")
        (model / "configuration.json").write_text(text.replace("config.yaml", "finetuned.yaml"), encoding="utf-8")
    labelled = [{**row, "text_language": "<|zh|>", "emo_target": "<|HAPPY|>"} for row in speech(6)]
    given = {"dataset_conf__data_split_num": 1}
    (tmp_path / "conformer").mkdir()
    other = model_folder(forked, layout("1.4.16"), tmp_path / "conformer" / "model", variant="conformer")
    by_rows = {"dataset_conf__batch_type": "example", "dataset_conf__batch_size": 2}
    found = [
        inputs(model, labelled, layout(release), release, **given),
        inputs(other, speech(6), layout(release), release, **by_rows),
    ]
    parts = tried(found)
    for part in parts:
        assert [one for one in part.findings if one.severity is not Severity.MINOR] == []
        assert part.skipped == ""
        said = facts(part)
        assert int(said["steps"]) >= 2
        assert said["numbers that begin as in the checkpoint"] == "100.0%"
        assert "model.pt.ep1" in said["checkpoints saved"]
    # CTC's loss is for rows, and no guess of one token can be compared with it; a Conformer has an attention loss.
    assert ["loss of a uniform guess" in facts(part) for part in parts] == [False, True]


@pytest.mark.long
@pytest.mark.release
def test_a_conformer_of_1_0_6_trains_and_ends_in_its_validation(tmp_path: Path, forked: Forked, layout: Layout) -> None:
    model = model_folder(forked, layout("1.0.6"), tmp_path / "model", variant="conformer")
    given = {"dataset_conf__batch_size": 2, "dataset_conf__batch_type": "example"}
    (part,) = tried([inputs(model, speech(6), layout("1.0.6"), "1.0.6", **given)])
    (ends,) = [one for one in part.findings if one.severity is not Severity.MINOR]
    assert (ends.rule, ends.place.line) == ("training-ends", 313)
    assert "'error_calculator'" in ends.message
    assert int(facts(part)["steps"]) >= 2
    assert facts(part)["checkpoints saved"] == "none"


def test_the_loss_of_the_text_is_compared() -> None:
    attention = FirstLoss(loss=9.0, stats={"loss_att": 7.0, "loss_ctc": 50.0}, batch="b")
    labels = FirstLoss(loss=60.0, stats={"loss_ctc": 50.0, "loss_rich": 10.0}, batch="b")
    only = FirstLoss(loss=9.0, stats={"acc": 0.0}, batch="b")
    assert [(one.main, one.by_token) for one in (attention, labels, only)] == [(7.0, True), (50.0, False), (9.0, True)]


def test_a_language_model_is_not_tried_and_why(tmp_path: Path) -> None:
    config = "model: FunASRNano\nllm: Qwen3-0.6b\nllm_conf:\n  init_param_path: Qwen3-0.6B\n"
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    (tmp_path / "model.pt").write_bytes(b"0" * (1 << 20))
    rows = speech(2)
    why = dry_run.plan(replace(inputs_of(tmp_path), train=write_jsonl(tmp_path / "train.jsonl", rows)))
    assert isinstance(why, str)
    assert why.startswith("FunASRNano holds a language model, of which no block can be left out here, and a training")
    assert "about 4 MiB (predicted: 4 times model.pt)" in why
    assert "checked instead: the model and its weights by the release's own constructor" in why
    (tmp_path / "config.yaml").write_text("model: Paraformer\n", encoding="utf-8")
    plain = dry_run.plan(replace(inputs_of(tmp_path), train=tmp_path / "train.jsonl"))
    assert "language model" not in str(plain)
