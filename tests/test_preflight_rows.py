"""Preflight's findings about rows: each planted fault is named with its line, and sound rows are not accused."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import soundfile
from forked import Forked
from own_scene import write_audio
from preflight_inputs import rules, user_inputs
from released import asker, refuse
from user_folders import inputs_of, model_folder, speech, write_jsonl

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight import rows as rows_part
from harness.preflight.findings import Place, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.rows import check, data_files, measured, texts
from harness.preflight.rows.fixed import write_fixed
from harness.preflight.rows.samplers import sampler_that_ends

pytestmark = pytest.mark.release

BATCHES = {"dataset_conf.batch_type": "example", "dataset_conf.batch_size": 2, "train_conf.max_epoch": 2}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One release with a model folder."""

    model: Path
    install_dir: Path
    room: Path

    def inputs(
        self, train: Path, valid: Path | None = None, overrides: Mapping[str, Any] | None = None, **given: Any
    ) -> Inputs:
        return user_inputs(
            self.model,
            self.install_dir,
            train=train,
            valid=valid or self.valid,
            overrides={**BATCHES, **(overrides or {})},
            **given,
        )

    @property
    def valid(self) -> Path:
        return self.room / "val.jsonl"


@pytest.fixture(scope="module")
def scenes(
    layout: Callable[[str], Path], forked: Forked, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Scene]:
    made: dict[str, Scene] = {}

    def scene(version: str, variant: str = "paraformer") -> Scene:
        if (name := f"{version} {variant}") not in made:
            room, install_dir = tmp_path_factory.mktemp("user"), layout(version)
            # The folder of one release serves for all: its rows are what is looked at.
            made[name] = Scene(
                model=model_folder(forked, layout("1.4.16"), room / "model", variant=variant),
                install_dir=install_dir,
                room=room,
            )
            write_jsonl(made[name].valid, speech(4, first=8))
        return made[name]

    return scene


@pytest.fixture(autouse=True)
def _without_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "ask_release", refuse)


@pytest.fixture
def asked(forked: Forked, monkeypatch: pytest.MonkeyPatch, _without_release: None) -> None:
    """The release answers."""
    monkeypatch.setattr(measured, "ask_release", asker(forked))


def grave(part: PreflightPart) -> list[PreflightFinding]:
    return [one for one in part.findings if one.severity is not Severity.MINOR]


def copied(rows: Sequence[dict[str, Any]], folder: Path, suffix: str = ".wav") -> list[dict[str, Any]]:
    """The rows with recordings of their own."""
    folder.mkdir(exist_ok=True)
    found = []
    for row in rows:
        samples, rate = soundfile.read(row["source"], dtype="int16")
        path = folder / f"{row['key']}{suffix}"
        soundfile.write(path, samples, rate)
        found.append({**row, "source": str(path)})
    return found


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("version", ["1.0.6", "1.2.7", "1.4.16"])
def test_sound_rows_are_not_accused(scenes: Callable[[str], Scene], tmp_path: Path, version: str) -> None:
    scene = scenes(version)
    # 1.0.6 drops the last batch of an epoch.
    rows = copied(speech(7), tmp_path / "wav") + copied(speech(7, first=7), tmp_path / "flac", ".flac")
    rows += [{**row, "key": f"again-{row['key']}"} for row in speech(7, first=14)]
    relative = [{**row, "source": str(Path(row["source"]).relative_to(tmp_path))} for row in rows[:14]]
    train = write_jsonl(tmp_path / "train.jsonl", relative + rows[14:])
    part = check(scene.inputs(train, scene.valid if version != "1.0.6" else train, root=tmp_path))
    assert not grave(part), part.findings
    (arriving,) = [fact.value for fact in part.facts if fact.label == "training rows"]
    if version != "1.0.6":
        assert arriving == f"{len(rows)} of {len(rows)} arrive in a batch"


@pytest.mark.usefixtures("asked")
def test_a_list_of_files_is_taken_where_the_release_takes_it(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    parts = [write_jsonl(tmp_path / f"part{n}.jsonl", speech(4, first=4 * n)) for n in range(2)]
    listing = tmp_path / "train.list"
    listing.write_text("".join(f"{path}\n" for path in parts), encoding="utf-8")
    part = check(scene.inputs(listing))
    assert not part.findings
    assert any(fact.value.startswith("8 of 8") for fact in part.facts)
    rows = tmp_path / "train.txt"
    shutil.copy(parts[0], rows)
    assert rules(check(scene.inputs(rows)))["data-file-name"].severity is Severity.BROKEN


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("factor", "unit", "severity"),
    [(160, "samples", Severity.BROKEN), (0.01, "seconds", Severity.WRONG)],
)
def test_source_len_in_another_unit(
    scenes: Callable[[str], Scene], tmp_path: Path, factor: float, unit: str, severity: Severity
) -> None:
    scene = scenes("1.4.16")
    rows = [{**row, "source_len": row["source_len"] * factor} for row in speech(8)]
    inputs = scene.inputs(write_jsonl(tmp_path / "train.jsonl", rows))
    found = rules(check(inputs))["source-len-unit"]
    assert (found.severity, found.place.line, found.count) == (severity, 1, 8)
    assert f"is in {unit}" in found.message
    fixed = write_fixed(inputs, tmp_path / "fixed.jsonl")
    assert (fixed.rows, fixed.lengths) == (8, 8)
    assert [json.loads(line) for line in (tmp_path / "fixed.jsonl").read_text("utf-8").splitlines()] == speech(8)
    if factor == 160:
        assert not check(scene.inputs(tmp_path / "fixed.jsonl")).findings
    with pytest.raises(InputError):
        write_fixed(inputs, tmp_path / "fixed.jsonl")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("overrides", "count", "severity"),
    [({"dataset_conf.max_token_length": 100}, 8, Severity.BROKEN), ({"dataset_conf.max_token_length": 500}, 0, None)],
)
def test_a_limit_that_counts_frames_is_named_with_what_it_counts(
    scenes: Callable[[str], Scene], tmp_path: Path, overrides: dict[str, Any], count: int, severity: Severity | None
) -> None:
    scene = scenes("1.4.16")
    part = check(scene.inputs(write_jsonl(tmp_path / "train.jsonl", speech(8)), overrides=overrides))
    found = rules(part).get("rows-left-out")
    assert (found.count if found else 0, found.severity if found else None) == (count, severity)
    if found:
        assert any("frames of 10 ms and characters together, not tokens" in line for line in found.evidence)
        assert "max_token_length=" in found.remedy
        assert found.place.key == "dataset_conf.max_token_length"


@pytest.mark.usefixtures("asked")
def test_each_bad_row_is_named_with_its_reason(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    rows = copied(speech(8), tmp_path / "wav")
    write = {"long": 25 * 16000, "short": 6400, "silent": 32000}
    for name, samples in write.items():
        noise = numpy.random.default_rng(0).normal(0, 0.0 if name == "silent" else 0.1, samples)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16000)
        rows.append(
            {
                "key": name,
                "source": str(tmp_path / f"{name}.wav"),
                "source_len": samples // 160,
                "target": speech(1)[0]["target"] * (10 if name == "short" else 1),
                "target_len": 6,
            }
        )
    rows.append({**rows[0], "key": "other-text", "target": rows[1]["target"], "target_len": len(rows[1]["target"])})
    rows.append({**speech(1, first=11)[0], "key": "empty", "target": "", "target_len": 0})
    rows.append({**speech(1, first=12)[0], "key": "unknown", "target": "ÐÐ你好，ＡＢ", "target_len": 8})
    found = rules(check(scene.inputs(write_jsonl(tmp_path / "train.jsonl", rows))))
    assert found["rows-left-out"].place.line == 9
    assert "25.0 s" in found["rows-left-out"].evidence[-1]
    assert found["text-longer-than-frames"].place.key == "short"
    assert found["audio-silent"].place.key == "silent"
    assert found["recording-with-two-texts"].count == 2
    assert found["text-empty"].place.key == "empty"
    assert any("unknown" in line for line in found["text-unknown-tokens"].evidence)
    assert any("Ð×2" in line for line in found["text-unknown-tokens"].evidence)
    assert {found[rule].severity for rule in found} <= {Severity.WRONG, Severity.MINOR}


def test_a_seg_dict_without_the_characters_is_to_blame_and_not_the_token_list(tmp_path: Path) -> None:
    """CharTokenizer makes `<unk>` of a character that its seg_dict lacks, whatever the token list has."""
    tokens = ["<blank>", "<s>", "</s>", "今", "天", "<unk>"]
    (tmp_path / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    (tmp_path / "seg_dict").write_text("hello h@@ ello\n", encoding="utf-8")
    (tmp_path / "config.yaml").write_text("model: Paraformer\ntokenizer: CharTokenizer\n", encoding="utf-8")

    def blamed(*pieces: tuple[str, int], **settings: Any) -> Path | None:
        became = measured.TextTokens(rows=(0,), tokens=(9,), unknown=(9,), pieces=pieces)
        return texts._seg_dict_without(inputs_of(tmp_path, **settings), became)

    assert blamed(("今", 4), ("天", 4), ("龘", 1)) == tmp_path / "seg_dict"
    assert blamed(("今", 1), ("龘", 4)) is None
    assert blamed(("今", 4), tokenizer="SentencepiecesTokenizer") is None
    (tmp_path / "seg_dict").unlink()
    assert blamed(("今", 4)) is None


def test_a_name_cannot_put_a_command_into_a_line_to_type(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path)
    missing = data_files._missing(inputs, "train", "/x/$(touch owned).jsonl", Place(), "missing")
    assert missing.remedy == "'++train_data_set_list=\"/ABSOLUTE/PATH/$(touch owned).jsonl\"'"
    rows = tmp_path / "my; touch owned.json"
    write_jsonl(rows, [{"source": "a.wav", "target": "好"}])
    (misnamed,) = data_files._listed(inputs, "train", str(rows), rows)
    assert isinstance(misnamed, PreflightFinding)
    assert misnamed.remedy == "mv -- 'my; touch owned.json' 'my; touch owned.jsonl'"


FAULTS: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "byte-order mark": (lambda text: b"\xef\xbb\xbf" + text, "jsonl-byte-order-mark"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "jsonl-encoding"),
    "GB18030": (lambda text: text.decode().encode("gb18030"), "jsonl-encoding"),
    "blank line": (lambda text: text.replace(b"\n", b"\n\n", 1), "jsonl-blank-line"),
    "comma": (lambda text: text.replace(b'", "source"', b'" "source"', 1), "jsonl-not-json"),
    "array": (lambda text: b"[1]\n" + text, "jsonl-not-json"),
    "long line": (lambda text: text + b"x" * 600_000 + b"\n", "jsonl-line-too-long"),
    "no target": (lambda text: text.replace(b'"target":', b'"txt":', 1), "row-without-target"),
    "no source": (lambda text: text.replace(b'"source":', b'"wav":', 1), "row-without-source"),
    "length in quotes": (lambda text: text.replace(b'"source_len": 187', b'"source_len": "187"', 1), "row-field-type"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_line_that_cannot_be_read_is_named(scenes: Callable[[str], Scene], tmp_path: Path, name: str) -> None:
    spoil, rule = FAULTS[name]
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    train.write_bytes(spoil(train.read_bytes()))
    part = check(scene.inputs(train))
    assert rule in rules(part), part
    assert rules(part)[rule].severity is not Severity.MINOR
    assert rules(part)[rule].place.line is not None


def test_line_ends_of_windows_are_no_fault(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    train.write_bytes(train.read_bytes().replace(b"\n", b"\r\n"))
    assert not check(scene.inputs(train)).findings


def test_recordings_that_are_not_there_or_not_audio(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    rows = copied(speech(8), tmp_path / "wav")
    (tmp_path / "wav" / f"{rows[0]['key']}.wav").unlink()
    Path(rows[1]["source"]).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    Path(rows[2]["source"]).write_bytes(b"")
    whole = Path(rows[3]["source"]).read_bytes()
    Path(rows[3]["source"]).write_bytes(whole[: len(whole) // 2])
    samples, rate = soundfile.read(rows[4]["source"])
    soundfile.write(rows[4]["source"], numpy.column_stack([samples, samples])[::2], rate // 2)
    os.mkfifo(tmp_path / "pipe.wav")
    rows[5]["source"] = str(tmp_path / "pipe.wav")
    soundfile.write(rows[6]["source"], numpy.full(20000, numpy.nan), 16000, subtype="FLOAT")
    rows[7]["source"] = "\0/../../etc/passwd"
    soundfile.write(tmp_path / "tiny.wav", numpy.full(100, 0.1), 16000)
    rows.append({**rows[7], "source": str(tmp_path / "tiny.wav"), "key": "tiny"})
    found = rules(check(scene.inputs(write_jsonl(tmp_path / "train.jsonl", rows))))
    assert (found["audio-missing"].severity, found["audio-missing"].count) == (Severity.BROKEN, 3)
    assert "git lfs pull" in " ".join(found["audio-unreadable"].evidence)
    assert found["audio-empty"].place.line == 3
    assert found["audio-truncated"].place.line == 4
    assert found["audio-channels"].severity is found["audio-sampling-rate"].severity is Severity.MINOR
    assert (found["audio-not-finite"].severity, found["audio-not-finite"].place.line) == (Severity.BROKEN, 7)
    assert (found["audio-too-short"].severity, found["audio-too-short"].place.line) == (Severity.WRONG, 9)


def test_relative_paths_are_looked_for_where_funasr_looks(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    data = tmp_path / "data"
    data.mkdir()
    rows = [{**row, "source": f"wav/{Path(row['source']).name}"} for row in copied(speech(8), data / "wav")]
    train = write_jsonl(data / "train.jsonl", rows)
    found = rules(check(scene.inputs(train, root=tmp_path)))["audio-missing"]
    assert found.severity is Severity.BROKEN
    assert any("8 of 8 are there relative to the jsonl's folder" in line for line in found.evidence)
    assert not check(scene.inputs(train, root=data)).findings


def test_a_streamed_wav_header_is_no_truncation(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    rows = copied(speech(8), tmp_path / "wav")
    for row in rows:
        path = Path(row["source"])
        data = bytearray(path.read_bytes())
        place = data.index(b"data") + 4
        data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
        path.write_bytes(bytes(data))
    assert not check(scene.inputs(write_jsonl(tmp_path / "train.jsonl", rows))).findings


def test_a_set_that_is_not_there(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    missing = check(scene.inputs(train, tmp_path / "no.jsonl"))
    assert rules(missing)["data-file"].severity is Severity.BROKEN
    named = user_inputs(
        scene.model, scene.install_dir, overrides={"train_data_set_list": "", "valid_data_set_list": ""}
    )
    assert list(rules(check(named))) == ["no-training-set"]
    assert not check(user_inputs(scene.model, scene.install_dir)).findings


@pytest.mark.usefixtures("asked")
def test_batches_by_frames_that_are_too_small_have_an_empty_one(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    by_token = {"dataset_conf.batch_type": "token", "dataset_conf.batch_size": 32}
    assert rules(check(scene.inputs(train, overrides=by_token)))["batch-empty"].severity is Severity.BROKEN
    assert not check(scene.inputs(train, overrides={**by_token, "dataset_conf.batch_size": 6000})).findings


@pytest.mark.usefixtures("asked")
def test_processes_with_different_numbers_of_batches(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(9))
    by_token = {"dataset_conf.batch_type": "token", "dataset_conf.batch_size": 260}
    found = rules(check(scene.inputs(train, overrides=by_token, gpus=2)))
    assert found["ranks-uneven"].severity is Severity.BROKEN
    assert not grave(check(scene.inputs(train, overrides={**by_token, "dataset_conf.sort_size": 64}, gpus=2)))


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("kind", "size", "accused"),
    [("example", 8, True), ("token", 64, True), ("token", 6000, False)],
)
def test_rows_that_sense_voice_replaces_or_cuts(
    scenes: Callable[..., Scene], tmp_path: Path, kind: str, size: int, *, accused: bool
) -> None:
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    overrides = {
        "dataset": "SenseVoiceCTCDataset",
        "dataset_conf.batch_type": kind,
        "dataset_conf.batch_size": size,
        "frontend_conf.lfr_n": 6,
    }
    found = {one.rule for one in grave(check(scene.inputs(train, overrides=overrides)))}
    assert (accused and bool(found & {"rows-replaced-or-cut", "batch-empty"})) or not found


@pytest.mark.usefixtures("asked")
def test_rows_that_the_index_changes(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    rows = copied(speech(8), tmp_path / "aishell")
    # Spaces between Chinese characters are no tokens; between Latin words they are.
    rows[0]["target"], rows[1]["target"] = "你 好", "hello world"
    found = rules(check(scene.inputs(write_jsonl(tmp_path / "train.jsonl", rows))))
    assert (found["row-target-changed"].count, found["row-target-changed"].place.line) == (1, 2)


@pytest.mark.usefixtures("asked")
def test_recordings_whose_path_the_release_changes(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    found = {}
    for name in ("cpfs01", "cpfs02"):
        (tmp_path / name).mkdir()
        rows = copied(speech(8), tmp_path / name / "wav")
        found[name] = rules(check(scenes("1.4.16").inputs(write_jsonl(tmp_path / f"{name}.jsonl", rows))))
    changed = found["cpfs01"]["row-source-changed"]
    assert (changed.severity, changed.count) == (Severity.BROKEN, 8)
    assert found["cpfs02"] == {}


@pytest.mark.usefixtures("asked")
def test_what_the_first_releases_require_of_rows(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.0.5")
    plain = write_jsonl(tmp_path / "plain.jsonl", speech(8))
    raised = rules(check(scene.inputs(plain, plain)))["rows-cannot-be-read"]
    assert raised.severity is Severity.BROKEN
    assert "KeyError" in raised.message
    whole = write_jsonl(tmp_path / "whole.jsonl", [{**row, "prompt": "<ASR>"} for row in speech(8)])
    assert "rows-cannot-be-read" not in rules(check(scene.inputs(whole, whole)))


@pytest.mark.usefixtures("asked")
def test_validation_rows_that_are_drawn_by_the_training_sets_length(
    scenes: Callable[[str], Scene], tmp_path: Path
) -> None:
    rows = [{**row, "prompt": "<ASR>"} for row in speech(8)]
    train, three = write_jsonl(tmp_path / "train.jsonl", rows), write_jsonl(tmp_path / "three.jsonl", rows[:3])
    known = {"dataset_conf.batch_sampler": "DynamicBatchLocalShuffleSampler"}
    found = rules(check(scenes("1.0.5").inputs(train, three, overrides=known)))["valid-sampled-by-train"]
    assert (found.severity, found.place.file) == (Severity.BROKEN, str(three))
    # As many rows as the training set has; and the first release that draws by the validation set's length.
    for version, valid in (("1.0.5", train), ("1.0.6", three)):
        part = check(scenes(version).inputs(train, valid, overrides=known))
        assert "valid-sampled-by-train" not in rules(part), version
    # A sampler that 1.0.5 does not have ends the training before its validation.
    unknown = rules(
        check(scenes("1.0.5").inputs(train, three, overrides={"dataset_conf.batch_sampler": "BatchSampler"}))
    )
    assert unknown["data-class-unknown"].severity is Severity.BROKEN
    assert "valid-sampled-by-train" not in unknown


@pytest.mark.usefixtures("asked")
def test_a_release_that_drops_the_last_batch_is_said(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.0.6")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    few = rules(check(scene.inputs(train, train, overrides={"dataset_conf.batch_size": 4})))
    assert (few["rows-not-drawn"].severity, few["rows-not-drawn"].count) == (Severity.WRONG, 4)
    none = rules(check(scene.inputs(train, train, overrides={"dataset_conf.batch_size": 8})))
    assert (none["rows-not-drawn"].severity, none["rows-not-drawn"].count) == (Severity.BROKEN, 8)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("version", "rows", "rule"),
    [
        ("1.0.6", 3, "rows-not-drawn"),
        ("1.0.6", 6, "batch-is-a-row"),
        ("1.0.17", 6, "batch-is-a-row"),
        ("1.0.18", 6, ""),
    ],
)
def test_a_sampler_that_gives_a_row_in_place_of_a_batch(
    scenes: Callable[[str], Scene], tmp_path: Path, version: str, rows: int, rule: str
) -> None:
    train, few = (write_jsonl(tmp_path / f"{count}.jsonl", speech(count)) for count in (rows, 2))
    wanted = {"dataset_conf.batch_sampler": "RankFullLocalShuffleDynamicBatchSampler"}
    inputs = scenes(version).inputs(train, few, overrides=wanted)
    found = [one for one in check(inputs).findings if one.rule not in ("valid-in-train", "valid-no-batch")]
    assert [one.rule for one in found] == [rule] * bool(rule), found
    if rule == "batch-is-a-row":
        assert (found[0].severity, found[0].place.key) == (Severity.BROKEN, "dataset_conf.batch_sampler")
        assert "after 1 batch" in found[0].message
    # Without running it: with few rows, too, there is no training that it is sound for.
    assert [one.rule for one in sampler_that_ends(inputs)] == ["batch-is-a-row"] * (version != "1.0.18")
    assert not [*sampler_that_ends(scenes(version).inputs(train))]


@pytest.mark.usefixtures("asked")
def test_a_limit_that_is_compared_with_another_row(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    rows = copied(speech(8), tmp_path / "wav")
    (tmp_path / "long").mkdir()
    long = write_audio(tmp_path / "long" / "long.wav", samples=17 * 16_000)
    train = write_jsonl(tmp_path / "train.jsonl", [{**rows[0], "source": str(long), "source_len": 1700}, *rows])
    of_1_0_6, of_1_0_18 = (scenes(version) for version in ("1.0.6", "1.0.18"))
    few = {"dataset_conf.batch_size": 4, "dataset_conf.max_token_length": 1500, "train_conf.max_epoch": 8}
    shuffled = rules(check(of_1_0_6.inputs(train, train, overrides=few)))
    assert (shuffled["limit-of-another-row"].severity, shuffled["limit-of-another-row"].count) == (Severity.WRONG, 1)
    assert "shuffle=false" in shuffled["limit-of-another-row"].remedy
    # Of nine rows one is left out for the limit, and of the other eight the last batch of four never comes.
    assert (shuffled["rows-not-drawn"].count, shuffled["rows-not-drawn"].message[:6]) == (4, "4 of 8")
    for scene, overrides in ((of_1_0_6, {"dataset_conf.shuffle": False}), (of_1_0_18, {})):
        found = rules(check(scene.inputs(train, train, overrides={**few, **overrides})))
        assert "limit-of-another-row" not in found
        assert found["rows-left-out"].count == 1


def test_a_class_that_the_release_has_not(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    scene = scenes("1.4.16")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    found = rules(check(scene.inputs(train, overrides={"dataset": "AudioDatset"})))["data-class-unknown"]
    assert found.severity is Severity.BROKEN
    assert "AudioDataset" in found.remedy


@pytest.mark.usefixtures("asked")
def test_rows_that_are_odd_are_named_and_their_sound_neighbours_are_not(
    scenes: Callable[[str], Scene], tmp_path: Path
) -> None:
    scene = scenes("1.4.16")
    rows = copied(speech(12), tmp_path / "wav")
    loud = numpy.sign(numpy.sin(numpy.arange(32_000) / 20)) * 0.999999
    soundfile.write(tmp_path / "clipped.wav", loud, 16_000)
    rows[1] = {**rows[1], "source_len": 3 * rows[1]["source_len"]}
    del rows[2]["source_len"]
    rows[3] = {**rows[3], "target_len": 40}
    rows[5] = dict(rows[4])
    rows[7] = {**rows[7], "key": rows[6]["key"]}
    rows[8] = {**rows[8], "source": str(tmp_path / "clipped.wav"), "source_len": 200}
    rows[9] = {**rows[9], "target": rows[9]["target"] * 12, "target_len": len(rows[9]["target"]) * 12}
    rows[11] = {**rows[11], "source": "https://example.org/a.wav"}
    # Only ffmpeg reads it.
    (tmp_path / "other.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + b"\0" * 64)
    rows.append({**speech(1, first=13)[0], "key": "m4a", "source": str(tmp_path / "other.m4a")})
    # Of validation rows the tokens are not counted.
    sound, fast = speech(2, first=14)
    fast |= {"target": fast["target"] * 12, "target_len": len(fast["target"]) * 12}
    valid = write_jsonl(tmp_path / "valid.jsonl", [rows[10], sound, fast])
    found = rules(check(scene.inputs(write_jsonl(tmp_path / "train.jsonl", rows), valid)))
    lines = {rule: one.place.line for rule, one in found.items()}
    expected = {
        "source-len": 2,
        "source-len-missing": 3,
        "target-len": 4,
        "audio-clipped": 9,
        "text-longer-than-frames": 10,
        "text-too-fast": 3,
        "audio-format-unknown": 13,
    }
    assert expected.items() <= lines.items(), lines
    assert {"row-repeated", "key-repeated", "valid-in-train", "audio-address"} <= set(lines), lines
    assert 1 not in [one.place.line for one in found.values() if one.place.file.endswith("train.jsonl")]


def test_a_file_without_rows_is_named(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    empty = write_jsonl(tmp_path / "train.jsonl", [])
    assert rules(check(scenes("1.4.16").inputs(empty)))["data-no-rows"].severity is Severity.BROKEN


@pytest.mark.usefixtures("asked")
def test_validation_rows_that_vanish_are_named(scenes: Callable[[str], Scene], tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    long = [{**row, "source_len": 100 * row["source_len"]} for row in speech(4, first=8)]
    found = rules(check(scenes("1.4.16").inputs(train, write_jsonl(tmp_path / "valid.jsonl", long))))
    assert {"valid-rows-left-out", "valid-no-batch"} & set(found), found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "there is no readable config.yaml"),
        ({"model": "Paraformer"}, "cannot be run on its own ('NoneType' object"),
    ],
)
def test_rows_that_were_not_measured_say_why(settings: dict[str, str], message: str) -> None:
    """Without a config.yaml the release's exception says nothing that a user could act on."""
    failure = {"signature": "TypeError@funasr/x.py:f", "message": "'NoneType' object is not callable"}
    measurement: Any = SimpleNamespace(files=SimpleNamespace(why_not=""), arrivals=SimpleNamespace(failure=failure))
    inputs: Any = SimpleNamespace(config=SimpleNamespace(by_path=settings))
    assert message in rows_part._skipped(measurement, inputs)
