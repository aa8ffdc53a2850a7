"""The whole of preflight on ten sound folders in three releases: nothing above `minor` may be found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from forked import Forked
from preflight_inputs import user_inputs
from published_folders import sense_voice_small
from test_preflight_weights import TINY, rewrite
from user_folders import NARROW, SOUND, model_folder, speech, stored_folders, write_jsonl

from harness.core.cells import Severity
from harness.preflight import preflight
from harness.preflight.findings import Report
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ask_all

pytestmark = [pytest.mark.release, pytest.mark.long]

Layout = Callable[[str], Path]
RELEASES = ("1.2.7", "1.3.30", "1.4.16")
DATASETS = {"seaco_paraformer": "AudioDatasetHotword", "contextual_paraformer": "AudioDatasetHotword"}
BY_FRAMES = ("sense_voice", "SenseVoiceSmall")
"""Whose config makes batches by frames."""


def folders(forked: Forked, layout: Layout, room: Path) -> dict[str, Path]:
    """As published, narrow, and as a trainer leaves them."""
    newest = layout("1.4.16")
    made = {name: shutil.copytree(path, room / name) for name, path in stored_folders(forked, newest, SOUND).items()}
    made["contextual_paraformer"] = model_folder(
        forked, newest, room / "contextual_paraformer", variant="contextual_paraformer"
    )
    made["SenseVoiceSmall"] = sense_voice_small(forked, newest, room / "SenseVoiceSmall")
    made["narrow paraformer"] = model_folder(forked, newest, room / "narrow", dimensions=NARROW)
    made["trainer's checkpoint"] = model_folder(forked, newest, room / "trained", dimensions=TINY)
    forked(rewrite, folders={"trainer": str(room / "trained")})
    return made


def sound_inputs(name: str, folder: Path, install_dir: Path, room: Path) -> Inputs:
    """A command as its recipe has it, on rows of the built-in speech."""
    rows = [{**row, "text_language": "<|zh|>", "emo_target": "<|HAPPY|>"} for row in speech(12)]
    overrides: dict[str, object] = {"train_conf.max_epoch": 2, "output_dir": str(room / "out")}
    if name not in BY_FRAMES:
        overrides["dataset_conf.batch_size"] = 4
    if name in DATASETS:
        overrides["dataset"] = DATASETS[name]
    return user_inputs(
        folder,
        install_dir,
        train=write_jsonl(room / "train.jsonl", rows[:8]),
        valid=write_jsonl(room / "valid.jsonl", rows[8:]),
        overrides=overrides,
        root=room,
    )


def reports(of: Mapping[str, Inputs]) -> dict[str, Report]:
    """All questions in one process tree, which imports the release once."""
    first, *others = of.values()
    ask_all(first, [asked for one in of.values() for make in preflight.questions() if (asked := make(one))])
    for one in others:
        one.answers.update(first.answers)
    return {name: preflight.examine(one) for name, one in of.items()}


@pytest.mark.parametrize("release", RELEASES)
def test_ten_sound_folders_have_nothing_above_minor(
    forked: Forked, layout: Layout, tmp_path: Path, release: str
) -> None:
    made = folders(forked, layout, tmp_path)
    assert len(made) == 10
    of = {name: sound_inputs(name, path, layout(release), tmp_path) for name, path in made.items()}
    accused = []
    for name, report in reports(of).items():
        assert report.faults == ()
        assert report.unanswered == ()
        accused += [f"{name}: {one.rule}: {one.message}" for one in report.findings if one.severity != Severity.MINOR]
    assert not accused, "\n".join(accused)
