"""Each file of a model folder is what its name says, or is named; no release runs here."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from user_folders import inputs_of

from harness.core.cells import Severity
from harness.preflight.command.hydra_words import override, path_to_type
from harness.preflight.command.words import Word
from harness.preflight.findings import PreflightFinding
from harness.preflight.folder.file_kinds import FileKind, content_of
from harness.preflight.folder.folder import check
from harness.preflight.forecast.checkpoints import plan
from harness.preflight.rows.measured import Steps

TOKENS = ["<blank>", "<s>", "</s>", "的", "一", "是", "<unk>"]
CONFIG = {
    "model": "Paraformer",
    "model_conf": {"lsm_weight": 0.1},
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": 16000, "n_mels": 80, "lfr_m": 7, "lfr_n": 6},
}
METAS = {
    "init_param": "model.pt",
    "config": "config.yaml",
    "tokenizer_conf": {"token_list": "tokens.json", "seg_dict_file": "seg_dict"},
    "frontend_conf": {"cmvn_file": "am.mvn"},
}


def mvn(size: int = 560, *, shift: str = "-8.3", scale: str = "0.15") -> str:
    shifts, scales = " ".join([shift] * size), " ".join([scale] * size)
    head = f"<Nnet>\n<Splice> {size} {size}\n[ 0 ]\n<AddShift> {size} {size}\n"
    return f"{head}<LearnRateCoef> 0 [ {shifts} ]\n<Rescale> {size} {size}\n<LearnRateCoef> 0 [ {scales} ]\n</Nnet>\n"


def weights() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("model/data/0", b"\x00" * 4096)
    return content.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound one, in the form of the published ones."""
    made = tmp_path / "model"
    made.mkdir()
    texts = {
        "config.yaml": yaml.safe_dump(CONFIG, sort_keys=False),
        "configuration.json": json.dumps({"model": {"type": "funasr"}, "file_path_metas": METAS}),
        "tokens.json": json.dumps(TOKENS, ensure_ascii=False),
        "seg_dict": "的 的\nhello hello\n",
        "am.mvn": mvn(),
        "README.md": "<!DOCTYPE html>",
    }
    for name, text in texts.items():
        (made / name).write_text(text, encoding="utf-8")
    (made / "model.pt").write_bytes(weights())
    return made


def found(folder: Path, **overrides: Any) -> list[PreflightFinding]:
    return list(check(inputs_of(folder, **overrides)).findings)


def rules(folder: Path, **overrides: Any) -> dict[str, Severity]:
    return {one.rule: one.severity for one in found(folder, **overrides)}


def tokens(content: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (folder / "tokens.json").write_text(text, encoding="utf-8")

    return write


def writes(name: str, content: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def renames(before: str, after: str) -> Callable[[Path], None]:
    def rename(folder: Path) -> None:
        (folder / before).rename(folder / after)

    return rename


def renamed_tokens(name: str) -> Callable[[Path], None]:
    def rename(folder: Path) -> None:
        (folder / "tokens.json").rename(folder / name)
        metas(tokenizer_conf={"token_list": name, "seg_dict_file": "seg_dict"})(folder)

    return rename


def metas(**changes: Any) -> Callable[[Path], None]:
    content = json.dumps({"file_path_metas": {**METAS, **changes}})
    return writes("configuration.json", content)


def removes(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 880502012\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
FAULTS: list[tuple[str, Callable[[Path], None], str, Severity]] = [
    ("pointer", writes("model.pt", POINTER), "lfs-pointer", Severity.BROKEN),
    ("pointer for statistics", writes("am.mvn", POINTER), "lfs-pointer", Severity.BROKEN),
    ("page", writes("model.pt", PAGE), "error-page", Severity.BROKEN),
    ("XML", writes("model.pt", "<?xml version='1.0'?><Error>AccessDenied</Error>"), "error-page", Severity.BROKEN),
    ("JSON", writes("model.pt", '{"Code":10010205001,"Message":"no"}'), "error-page", Severity.BROKEN),
    ("empty", writes("model.pt", ""), "file-empty", Severity.BROKEN),
    ("empty tokens", writes("tokens.json", ""), "file-empty", Severity.BROKEN),
    ("cut off", writes("model.pt", weights()[:3000]), "checkpoint-truncated", Severity.BROKEN),
    ("preallocated", writes("model.pt", weights()[:3000] + b"\x00" * 70000), "checkpoint-truncated", Severity.BROKEN),
    ("gzip", writes("model.pt", b"\x1f\x8b\x08" + b"x" * 50), "checkpoint-of-another-format", Severity.BROKEN),
    (
        "safetensors",
        writes("model.pt", (20).to_bytes(8, "little") + b'{"__metadata__":{}}   '),
        "checkpoint-of-another-format",
        Severity.BROKEN,
    ),
    ("ONNX", writes("model.pt", b"\x08\x07\x12\x07pytorch"), "checkpoint-of-another-format", Severity.BROKEN),
    ("pickle", writes("model.pt", b"\x80\x04\x95\x00"), "checkpoint-of-another-format", Severity.BROKEN),
    ("YAML", writes("config.yaml", "model: Paraformer\n  x: [1\n"), "config-unreadable", Severity.BROKEN),
    ("no model", writes("config.yaml", "encoder: x\n"), "config-without-model", Severity.BROKEN),
    ("JSON cut off", writes("configuration.json", '{"a": '), "configuration-unreadable", Severity.BROKEN),
    ("no paths", writes("configuration.json", '{"task": "x"}'), "configuration-without-config", Severity.BROKEN),
    ("other case", metas(init_param="Model.pt"), "configuration-path-missing", Severity.WRONG),
    ("backslash", metas(frontend_conf={"cmvn_file": ".\\am.mvn"}), "configuration-path-missing", Severity.WRONG),
    ("other machine", metas(config="/home/a/m/config.yaml"), "configuration-path-missing", Severity.BROKEN),
    ("no seg_dict", removes("seg_dict"), "configuration-path-missing", Severity.WRONG),
    ("average alone", renames("model.pt", "model.pt.avg10"), "configuration-path-missing", Severity.WRONG),
    ("hub's other names", metas(init_param="pytorch_model.bin"), "configuration-path-missing", Severity.WRONG),
    ("outside", metas(frontend_conf={"cmvn_file": "../model/../am.mvn"}), "configuration-outside", Severity.MINOR),
    ("dict of ids", tokens({t: n for n, t in enumerate(TOKENS)}), "tokens-not-a-list", Severity.BROKEN),
    ("dict of tokens", tokens(dict(enumerate(TOKENS))), "tokens-not-a-list", Severity.BROKEN),
    ("numbers", tokens([*TOKENS, 7]), "tokens-not-strings", Severity.BROKEN),
    ("duplicate", tokens([*TOKENS[:-1], "的", "<unk>"]), "tokens-duplicate", Severity.BROKEN),
    ("no unknown", tokens(TOKENS[:-1]), "tokens-without-unknown", Severity.BROKEN),
    ("no specials", tokens(["的", "一", "是", "<unk>"]), "tokens-special-ids", Severity.WRONG),
    ("byte-order mark", tokens("\ufeff" + json.dumps(TOKENS)), "tokens-unreadable", Severity.BROKEN),
    ("broken JSON", tokens('["<blank>",\n"<s>"'), "tokens-unreadable", Severity.BROKEN),
    ("a token per line", tokens("\n".join(TOKENS) + "\n"), "tokens-unreadable", Severity.BROKEN),
    ("line ends", tokens([f"{token}\n" for token in TOKENS[:-1]] + ["<unk>"]), "tokens-with-spaces", Severity.WRONG),
    ("another file name", renamed_tokens("tokens.vocab"), "tokens-file-name", Severity.BROKEN),
    ("another size", writes("am.mvn", mvn(80)), "statistics-size", Severity.BROKEN),
    ("larger", writes("am.mvn", mvn(880)), "statistics-size", Severity.WRONG),
    ("garbage", writes("am.mvn", "no statistics\n"), "statistics-unreadable", Severity.BROKEN),
    ("blank line", writes("am.mvn", "\n" + mvn()), "statistics-unreadable", Severity.BROKEN),
    ("binary", writes("am.mvn", b"\x00\xff" * 100), "file-of-another-kind", Severity.BROKEN),
    ("nan", writes("am.mvn", mvn(shift="nan")), "statistics-not-finite", Severity.BROKEN),
    ("blank line in seg_dict", writes("seg_dict", "的 的\n\n一 一\n"), "seg-dict-blank-line", Severity.BROKEN),
    ("zero", writes("am.mvn", mvn(scale="0")), "statistics-scale", Severity.WRONG),
]


@pytest.mark.parametrize(("plant", "rule", "severity"), [one[1:] for one in FAULTS], ids=[one[0] for one in FAULTS])
def test_a_planted_fault_is_named(folder: Path, plant: Callable[[Path], None], rule: str, severity: Severity) -> None:
    if rule == "configuration-outside":
        (folder.parent / "am.mvn").write_text(mvn(), encoding="utf-8")
    plant(folder)
    named = found(folder)
    assert {one.rule: one.severity for one in named}.get(rule) is severity, named
    assert len(named) == 1, named
    assert named[0].remedy
    assert Path(named[0].place.file).parent == folder


def test_a_file_that_is_not_what_its_name_says_is_the_place_and_not_who_names_it(folder: Path) -> None:
    spaced = folder.rename(folder.with_name("my model"))
    (spaced / "model.pt").write_text(POINTER, encoding="utf-8")
    (one,) = found(spaced)
    assert str(one.place) == "model.pt"
    # A line to type, also where the path has a space.
    assert one.remedy == f"git -C '{spaced}' lfs pull"
    other = spaced.with_name("other.pt")
    other.write_text(POINTER, encoding="utf-8")
    (one,) = found(spaced, init_param=str(other))
    assert str(one.place) == "command line, init_param"


def test_a_missing_start_names_the_checkpoint_that_is_there(folder: Path) -> None:
    saved = ["model.pt.ep2", "model.pt.ep10", "model.pt.ep10.500"]
    for name in saved:
        (folder / name).write_bytes(weights())
    (folder / "model.pt").unlink()
    (one,) = found(folder)
    assert one.remedy == '"init_param": "model.pt.ep10.500"'
    (folder / "model.pt.best").write_bytes(weights())
    (folder / "model.pt.avg5").write_bytes(weights())
    (one,) = found(folder)
    assert one.remedy == '"init_param": "model.pt.avg5"'
    # Of a trainer's output folder: one that exists.
    outputs = folder.parent / "my outputs"
    outputs.mkdir()
    (outputs / "model.pt.ep3").write_bytes(weights())
    (one,) = found(outputs)
    assert one.remedy.endswith(f"add \"++init_param='{outputs}/model.pt.ep3'\"")


@pytest.mark.parametrize(
    "document", [{token: number for number, token in enumerate(TOKENS)}, dict(enumerate(TOKENS)), "\n".join(TOKENS)]
)
def test_the_line_to_type_makes_a_list_of_the_tokens(folder: Path, document: Any) -> None:
    tokens(document)(folder)
    (one,) = found(folder)
    line = one.remedy.partition(": ")[2]
    assert line.startswith("python -c '")
    subprocess.run(["bash", "-c", line], cwd=folder, check=True)
    assert json.loads((folder / "tokens.json").read_text(encoding="utf-8")) == TOKENS
    assert found(folder) == []


def test_a_name_cannot_put_a_command_into_a_line_to_type(folder: Path) -> None:
    name = "a'$(touch owned)`touch owned`;touch owned;'.safetensors"
    (folder / name).write_bytes((20).to_bytes(8, "little") + b'{"__metadata__":{}}   ')
    (one,) = found(folder, init_param=str(folder / name))
    words = one.remedy.partition("python -c ")[2].partition(", and give")[0]
    assert shlex.split(words)[1:] == [name]
    hostile = folder.rename(folder.with_name("$(touch owned) 数据 (1)"))
    (one,) = found(hostile / "model.pt")
    assert one.remedy == f"name its folder, {hostile}"
    line = path_to_type("init_param", hostile / "model.pt")
    (word,) = shlex.split(line)
    assert override(Word(text=word, line=1)).value == str(hostile / "model.pt")
    shown = subprocess.run(["bash", "-c", f"printf %s {line}"], capture_output=True, text=True, check=True).stdout
    assert shown == word


def test_no_disk_space_is_predicted_from_a_pointer_or_a_cut_download(folder: Path) -> None:
    steps = Steps(epochs=2, per_epoch=(4,), total=8, exact=True, accumulation=1)
    assert plan(inputs_of(folder), steps).bytes_each == 3 * len(weights())
    for content in (POINTER.encode(), weights()[:3000]):
        (folder / "model.pt").write_bytes(content)
        assert plan(inputs_of(folder), steps).bytes_each is None


def test_a_sound_folder_is_not_accused_in_either_form(folder: Path) -> None:
    assert found(folder) == []
    (folder / "configuration.json").unlink()
    assert found(folder) == []
    (folder / "tokens.json").unlink()
    (folder / "tokens.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    assert found(folder) == []
    (folder / "seg_dict").unlink()
    assert found(folder) == []


def test_a_list_of_espnets_form_and_a_checkpoint_of_old_torch_are_sound(folder: Path) -> None:
    tokens(["<blank>", "<unk>", "的", "一", "<sos/eos>"])(folder)
    # Id 2, the end of a sentence unless configured otherwise, would be an ordinary token.
    assert found(folder, model_conf__sos=4, model_conf__eos=4) == []
    assert rules(folder) == {"tokens-special-ids": Severity.WRONG}
    (folder / "model.pt").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest")
    assert content_of(folder / "model.pt").kind is FileKind.TORCH_LEGACY


def test_ids_beyond_the_list_are_named(folder: Path) -> None:
    assert rules(folder, model_conf__eos=8403) == {"special-id-beyond-tokens": Severity.BROKEN}


def test_tokens_txt_with_ids_is_named(folder: Path) -> None:
    (folder / "configuration.json").unlink()
    (folder / "tokens.json").unlink()
    (folder / "tokens.txt").write_text("".join(f"{t} {n}\n" for n, t in enumerate(TOKENS)), encoding="utf-8")
    assert rules(folder) == {"tokens-with-ids": Severity.BROKEN}


def test_what_is_no_model_folder_is_named_with_the_folder_to_give(folder: Path, tmp_path: Path) -> None:
    (one,) = found(folder / "model.pt")
    assert (one.rule, str(folder) in one.remedy) == ("model-is-a-file", True)
    (one,) = found(tmp_path)
    assert (one.rule, one.remedy) == ("model-folder-is-further-down", f"name {folder}")
    (one,) = found(tmp_path / "iic" / "speech_paraformer-large")
    assert one.rule == "model-is-a-hub-name"
    assert "modelscope download --model iic/speech_paraformer-large" in one.remedy
    (one,) = found(tmp_path / "models" / "mine")
    assert one.rule == "model-folder-missing"
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    assert rules(outputs) == {"config-missing": Severity.BROKEN}
    (outputs / "model.pt.ep1").write_bytes(weights())
    assert rules(outputs) == {"folder-of-checkpoints": Severity.BROKEN}
    (outputs / "config.json").write_text('{"architectures": []}')
    assert rules(outputs) == {"config-of-transformers": Severity.BROKEN}


def test_a_file_of_the_command_counts_and_a_replaced_one_is_named(folder: Path) -> None:
    other = folder.parent / "other.json"
    other.write_text(json.dumps(TOKENS), encoding="utf-8")
    (folder / "tokens.json").write_text("[]")
    assert found(folder, tokenizer_conf__token_list=str(other)) == []
    (folder / "tokens.json").write_text(json.dumps(TOKENS), encoding="utf-8")
    (folder / "configuration.json").unlink()
    assert rules(folder, tokenizer_conf__token_list=str(other)) == {"override-replaced": Severity.WRONG}
    assert rules(folder, init_param="no/such.pt").get("override-replaced") is Severity.WRONG


def test_a_sentencepiece_model_is_needed_and_binary(folder: Path) -> None:
    (folder / "configuration.json").unlink()
    (folder / "tokens.json").unlink()
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "tokenizer": "SentencepiecesTokenizer"}))
    (folder / "chn.bpe.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00")
    (one,) = found(folder)
    assert (one.rule, one.remedy) == (
        "sentencepiece-model-missing",
        f"++tokenizer_conf.bpemodel={folder / 'chn.bpe.model'}",
    )
    (folder / "chn.bpe.model").rename(folder / "bpe.model")
    assert found(folder) == []
    (folder / "bpe.model").write_text("the", encoding="utf-8")
    assert rules(folder) == {"file-of-another-kind": Severity.BROKEN}


@pytest.mark.release
def test_a_trainers_output_folder_starts_from_its_own_weights_only_with_a_configuration(
    folder: Path, layout: Callable[[str], Path]
) -> None:
    """As `train_ds` of 1.4.16 writes it: config.yaml with the base's paths, and a configuration.json if any."""
    output = folder.parent / "outputs"
    output.mkdir()
    named = {
        **CONFIG,
        "init_param": str(folder / "model.pt"),
        "tokenizer_conf": {"token_list": str(folder / "tokens.json"), "seg_dict": str(folder / "seg_dict")},
        "frontend_conf": {**CONFIG["frontend_conf"], "cmvn_file": str(folder / "am.mvn")},
    }
    (output / "config.yaml").write_text(yaml.safe_dump(named, sort_keys=False), encoding="utf-8")
    for name in ("model.pt", "model.pt.ep1", "model.pt.avg10"):
        (output / name).write_bytes(weights())
    (output / "configuration.json").write_bytes((folder / "configuration.json").read_bytes())
    inputs = inputs_of(output, install_dir=layout("1.4.16"))
    assert check(inputs).findings == ()
    (output / "configuration.json").unlink()
    (one,) = check(inputs).findings
    assert (one.rule, one.severity) == ("start-is-another-folders", Severity.WRONG)
    assert one.remedy == f"++init_param={output / 'model.pt'}"
    for name in ("tokens.json", "am.mvn"):
        (folder / name).unlink()
    one = check(inputs).findings[0]
    assert (one.rule, one.count) == ("file-missing", 2)


@pytest.mark.release
def test_the_first_releases_need_the_weights_under_one_name(folder: Path, layout: Callable[[str], Path]) -> None:
    (folder / "configuration.json").unlink()

    def of(version: str) -> list[str]:
        return [one.rule for one in check(inputs_of(folder, install_dir=layout(version), version=version)).findings]

    assert (of("1.0.6"), of("1.0.10"), of("1.4.16")) == (["folder-not-read"], ["start-missing"], [])
    (folder / "model.pt").rename(folder / "model.pb")
    assert (of("1.0.6"), of("1.4.16")) == ([], ["start-missing"])


def test_hostile_files_are_named_and_not_read(folder: Path) -> None:
    for name in ("model.pt", "am.mvn"):
        (folder / name).unlink()
    os.mkfifo(folder / "model.pt")
    (folder / "am.mvn").symlink_to("/dev/zero")
    assert rules(folder) == {"file-unreadable": Severity.BROKEN}
    (folder / "configuration.json").write_text('{"file_path_metas": {"config": "a\\u0000b"}}', encoding="utf-8")
    assert "configuration-path-missing" in rules(folder)
    long = json.dumps({"file_path_metas": {**METAS, "init_param": "a" * 3000}})
    (folder / "configuration.json").write_text(long, encoding="utf-8")
    assert rules(folder).get("configuration-path-missing") is Severity.WRONG
    assert rules(folder, init_param="b" * 3000).get("start-missing") is Severity.BROKEN
    (folder / "configuration.json").write_text("[" * 100_000)
    assert "configuration-unreadable" in rules(folder)
    with (folder / "tokens.json").open("wb") as file:
        file.truncate(10 << 30)
    assert rules(folder)
