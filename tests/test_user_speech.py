"""A user's own files: kept byte for byte, and what is said about them before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from own_scene import fields, line, write_audio, write_rows

from harness.core.errors import CorpusError, StoreError
from harness.corpus import user_speech as own_speech
from harness.corpus.notices import notices_of
from harness.corpus.row_limits import RowLimits
from harness.corpus.user_files import MOST_ROWS, OwnRows, carry, lay_out, write_corrected
from harness.corpus.user_speech import OwnSpeech, read_own


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's working directory, with a recording of 1.5 seconds."""
    folder = tmp_path / "mine"
    write_audio(folder / "one.wav")
    monkeypatch.chdir(folder)
    return folder


def laid_out(speech: OwnSpeech, tmp_path: Path, *, rows: int | None = None, **limits: Any) -> OwnRows:
    return lay_out(
        speech, tmp_path / "speech", limits={"paraformer": RowLimits(max_token_length=2048, **limits)}, rows=rows
    )


def said(*rows: dict[str, Any]) -> list[str]:
    return list(notices_of(read_own(write_rows(Path("mine.jsonl"), *rows)).train))


def test_every_byte_reaches_the_file_that_trainers_are_given(tmp_path: Path) -> None:
    rows = [
        line(fields("one.wav", target="两  个", emotion="高兴", source_len=30_000), "\r\n"),
        b'  {"target":"\\u4eca ", "source" : "./\xe8\xaf\xad/\xe9\x9f\xb3.wav", "source_len": 1.5e2}\n',
        line(fields("one.wav", key=None, target_len=99), ""),
    ]
    write_audio(Path("语/音.wav"))
    Path("好的 {x}.jsonl").write_bytes(b"".join(rows))
    Path("valid.jsonl").write_bytes(rows[2])
    own = laid_out(read_own(Path("好的 {x}.jsonl"), valid=Path("valid.jsonl")), tmp_path)
    assert own.train.read_bytes() == own.whole.read_bytes() == b"".join(rows)
    assert own.train.name == "好的 {x}.jsonl"
    assert own.valid.read_bytes() == rows[2]
    assert own.root == Path.cwd()


def test_without_a_validation_set_the_training_rows_are_given(tmp_path: Path) -> None:
    own = laid_out(read_own(write_rows(Path("mine.jsonl"), fields("one.wav"))), tmp_path)
    assert own.valid == own.train
    assert own.notices == ()


def test_absolute_paths_need_no_working_directory(tmp_path: Path) -> None:
    own = laid_out(read_own(write_rows(Path("mine.jsonl"), fields(str(Path("one.wav").absolute())))), tmp_path)
    assert own.root is None


def test_relative_paths_are_read_from_the_working_directory_as_funasr_does(here: Path) -> None:
    write_rows(here / "data" / "mine.jsonl", fields("one.wav"))
    (recording,) = read_own(Path("data/mine.jsonl")).train.recordings.values()
    assert recording.path == here / "one.wav"


def test_a_recording_beside_the_file_is_not_what_funasr_reads(here: Path) -> None:
    write_audio(here / "data" / "two.wav")
    write_rows(here / "data" / "mine.jsonl", fields("two.wav"))
    with pytest.raises(
        CorpusError, match=r"no such audio file: two\.wav .*working directory.*run the command in"
    ) as told:
        read_own(Path("data/mine.jsonl"))
    assert str(here / "data") in str(told.value)


def test_a_part_of_the_rows_is_taken_whole_line_by_whole_line_and_said(tmp_path: Path) -> None:
    write_rows(Path("mine.jsonl"), *(fields("one.wav", key=f"k{n}", extra="a  b") for n in range(10)))
    own = laid_out(read_own(Path("mine.jsonl")), tmp_path, rows=3)
    lines = Path("mine.jsonl").read_bytes().splitlines(keepends=True)
    assert own.train.read_bytes() == lines[0] + lines[3] + lines[6]
    assert own.whole.read_bytes() == Path("mine.jsonl").read_bytes()
    assert own.valid == own.train
    assert own.notices == (
        "mine.jsonl: finetune trains on 3 of its 10 rows, evenly spaced from line 1 to line 7; --rows 10 takes all.",
    )


@pytest.mark.parametrize(("listed", "given"), [(MOST_ROWS, MOST_ROWS), (MOST_ROWS + 1, MOST_ROWS)])
def test_a_long_file_is_trained_on_in_part_unless_it_is_said_otherwise(tmp_path: Path, listed: int, given: int) -> None:
    write_rows(Path("mine.jsonl"), *(fields("one.wav", key=f"k{n}") for n in range(listed)))
    own = laid_out(read_own(Path("mine.jsonl")), tmp_path)
    assert len(own.given.rows) == given
    assert bool(own.notices) == (given < listed)
    again = lay_out(own.speech, tmp_path / "again", limits={}, rows=listed)
    assert len(again.given.rows) == listed
    assert again.notices == ()


def test_of_a_long_file_some_recordings_are_opened_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_speech, "HEADERS", 4)
    monkeypatch.setattr("harness.corpus.notices.HEADERS", 4)
    write_rows(Path("mine.jsonl"), *(fields("one.wav", key=f"k{n}", target=chr(0x4E00 + n)) for n in range(10)))
    speech = read_own(Path("mine.jsonl"))
    assert list(speech.train.recordings) == [1, 3, 6, 8]
    assert len(speech.corpus.utterances) == 4
    assert len(set(speech.corpus.texts)) == 10, "the token list holds every row's text"
    assert list(notices_of(speech.train))[-1] == (
        "mine.jsonl: of 10 recordings 4 were opened, evenly spaced over the file."
    )


def test_few_rows_that_every_release_trains_on_are_installed_for_other_trainings(tmp_path: Path) -> None:
    write_rows(
        Path("mine.jsonl"),
        fields("one.wav", source_len=2040, target_len=20),
        fields("one.wav", key=None, target="好  的", speaker="x"),
        fields("one.wav", source_len=3000),
    )
    own = laid_out(read_own(Path("mine.jsonl")), tmp_path)
    (one,) = map(json.loads, own.small["paraformer"].read_text("utf-8").splitlines())
    absolute = str(Path("one.wav").absolute())
    assert one == {
        **fields(absolute, key="line2", target="好  的", speaker="x"),
        "prompt": "<ASR>",
    }


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "speech").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        laid_out(read_own(write_rows(Path("mine.jsonl"), fields("one.wav"))), tmp_path)


def test_the_hash_follows_every_byte_and_the_recording_but_not_the_place(here: Path) -> None:
    def hash_of(name: str = "x.wav", samples: int = 24_000, **changed: Any) -> str:
        write_audio(here / name, samples=samples)
        return read_own(write_rows(here / "mine.jsonl", fields(name, key="a", **changed))).corpus.sha256

    base = hash_of()
    assert hash_of("elsewhere/y.wav") == base
    others = [hash_of(target="好"), hash_of(speaker="b"), hash_of(source_len=150.0), hash_of(samples=24_001)]
    assert len({base, *others}) == 5
    with_valid = read_own(here / "mine.jsonl", valid=here / "mine.jsonl").corpus.sha256
    assert with_valid != read_own(here / "mine.jsonl").corpus.sha256


def test_every_fault_of_a_users_file_is_said_at_once() -> None:
    write_audio(Path("short.wav"), samples=399)
    write_audio(Path("short8.wav"), samples=199, rate=8_000)
    Path("no.wav").write_text("this is text")
    rows = [fields(name) for name in ("one.wav", "absent.wav", "short.wav", "short8.wav", "no.wav", ".")]
    with pytest.raises(CorpusError) as caught:
        read_own(write_rows(Path("own.jsonl"), *rows, fields("https://example.org/a.wav")))
    told = str(caught.value)
    for expected in (
        "line 2: no such audio file: absent.wav",
        "line 3: short.wav has 399 samples; one analysis window needs 400",
        "line 4: short8.wav has 199 samples; one analysis window needs 200",
        "line 5: no.wav cannot be read as audio: Format not recognised",
        "line 6: no such audio file: .",
        "line 7: `source` is an address, not a file",
    ):
        assert expected in told
    assert "6 problems" in told
    assert caught.value.exit_code == 2


def test_an_endless_list_of_faults_is_cut() -> None:
    rows = [fields("absent.wav", key=str(number)) for number in range(60)]
    with pytest.raises(CorpusError, match="60 problems") as caught:
        read_own(write_rows(Path("own.jsonl"), *rows))
    assert "… and 10 more" in str(caught.value)


def test_a_recording_of_another_rate_is_passed_on_with_its_true_length(tmp_path: Path) -> None:
    write_audio(Path("slow.wav"), rate=8_000, samples=12_000, channels=2)
    speech = read_own(write_rows(Path("mine.jsonl"), fields("slow.wav")))
    assert speech.corpus.utterances[0].samples == 24_000
    assert list(notices_of(speech.train)) == []


def test_a_sound_file_has_nothing_said_of_it(tmp_path: Path) -> None:
    rows = [fields("one.wav", target=target, target_len=None) for target in ("今天天气", "今天 天气", "it is fine")]
    rows += [fields("one.wav", key="b", source_len=None), fields("one.wav", source_len=148)]
    for number, row in enumerate(rows):
        row["source"] = str(write_audio(Path(f"{number}.wav")))
    own = laid_out(read_own(write_rows(Path("mine.jsonl"), *rows)), tmp_path)
    assert own.notices == ()
    assert write_corrected(own.speech.train, tmp_path) is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"target": "两  个"}, "line 2 (odd): spaces at an end of the text or next to one another"),
        ({"target": " 两个"}, "line 2 (odd): spaces at an end"),
        ({"target": ""}, "line 2 (odd): an empty text"),
        ({"target": "你\u3000好"}, "line 2 (odd): white space other than the ordinary space"),
        ({"target": "你\x00好"}, "line 2 (odd): white space other than the ordinary space, or control characters"),
        ({"target": "字" * 60}, "line 2 (odd) has 60 characters on 1.50 s"),
        ({"source_len": 90}, "line 2 says 90, its recording has 150"),
    ],
)
def test_what_is_odd_about_a_row_is_said_with_its_line(row: dict[str, Any], told: str) -> None:
    write_audio(Path("two.wav"))
    (notice,) = said(fields("one.wav"), fields("two.wav", key="odd", **row))
    assert notice.startswith("mine.jsonl: ")
    assert told in notice


@pytest.mark.parametrize("place", ["aishell/x.wav", "cpfs01/x.wav"])
def test_paths_that_funasr_takes_otherwise_are_said(here: Path, place: str) -> None:
    path = write_audio(here / place)
    (notice,) = said(fields(str(path), target="今天 天气"))
    assert f"contains {'`aishell`' if 'aishell' in place else '/cpfs01'}" in notice


def test_silence_and_two_texts_of_one_recording_are_said() -> None:
    import wave

    with wave.open("still.wav", "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(16_000)
        audio.writeframes(bytes(48_000))
    pairs, silence = said(fields("one.wav"), fields("still.wav"), fields("one.wav", target="别的"))
    assert pairs == "mine.jsonl: one recording with several texts: line 1 and line 3."
    assert silence == "mine.jsonl: the recording is silence: line 2."


@pytest.mark.parametrize(
    ("stated", "unit"),
    [
        (24_000, "samples"),
        (48_044, "bytes"),
        (1500, "milliseconds"),
        (1.5, "seconds"),
        (1, "seconds"),
        (25, "stacked frames of 60 ms"),
    ],
)
def test_the_unit_of_source_len_is_found_and_a_corrected_copy_written(tmp_path: Path, stated: float, unit: str) -> None:
    rows = [{**fields("one.wav", key="a"), "source_len": stated, "target": "今  天"} for _ in range(3)]
    speech = read_own(write_rows(Path("mine.jsonl"), *rows))
    notices = list(notices_of(speech.train))
    assert notices[0] == (
        f"mine.jsonl: `source_len` is in {unit} (line 1 says {stated:g}, for 1.50 s); "
        "FunASR counts frames of 10 ms, 150 in that line."
    )
    corrected = write_corrected(speech.train, tmp_path)
    assert corrected == tmp_path / "mine.corrected.jsonl"
    wanted = Path("mine.jsonl").read_bytes().replace(f'"source_len": {stated}'.encode(), b'"source_len": 150')
    assert corrected.read_bytes() == wanted


def test_where_lengths_are_in_one_unit_but_for_one_both_are_said() -> None:
    rows = [fields("one.wav", source_len=24_000) for _ in range(10)]
    unit, odd = said(*rows, fields("one.wav", source_len=777))
    assert "is in samples" in unit
    assert odd == (
        "mine.jsonl: `source_len` is not the recording's length in frames of 10 ms: "
        "line 11 says 777, its recording has 150."
    )


def test_one_row_that_the_first_releases_cannot_read_costs_them_the_file() -> None:
    rows = [fields("one.wav", prompt="<ASR>"), fields("one.wav"), fields("one.wav", source_len=9000, prompt="<ASR>")]
    file = read_own(write_rows(Path("mine.jsonl"), *rows)).train
    limits = RowLimits(max_token_length=2048.0)
    assert [(one.line, one.reason) for one in file.left_out(limits, "1.0.5")] == [
        (1, "line 2 lacks `prompt`, and the file is not read (KeyError)"),
        (2, "no `prompt`, which releases up to 1.0.5 require of every row (KeyError)"),
        (3, "source_len + target_len is 9004, above max_token_length 2048"),
    ]
    assert [one.line for one in file.left_out(limits, "1.0.6")] == [3]
    assert file.left_out(limits, "1.0.6") is file.left_out(limits, "1.0.17"), "a long file is looked at once"


def test_a_bundle_carries_the_rows_with_other_places_and_no_other_byte(tmp_path: Path) -> None:
    Path("mine.jsonl").write_bytes(
        line(fields("one.wav", target="两  个"), "\r\n") + line(fields(str(Path("one.wav").absolute()), key="b"), "")
    )
    write_rows(Path("valid.jsonl"), fields("one.wav"))
    speech = read_own(Path("mine.jsonl"), valid=Path("valid.jsonl"))
    folder = tmp_path / "inputs"
    folder.mkdir()
    carry(speech, folder, ("own", "own_valid"))
    old = Path("mine.jsonl").read_bytes()
    places = old.replace(f'"source": "{Path("one.wav").absolute()}"'.encode(), b'"source": "one.wav"')
    wanted = places.replace(b'"source": "one.wav"', b'"source": "audio/00000.wav"')
    assert (folder / "own" / "mine.jsonl").read_bytes() == wanted
    assert len(list((folder / "audio").iterdir())) == 1
    there = read_own(folder / "own" / "mine.jsonl", valid=folder / "own_valid" / "valid.jsonl", root=folder)
    assert there.corpus.sha256 == speech.corpus.sha256
