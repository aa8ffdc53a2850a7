"""The folder that stands in for a published model's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.core.cells import Depth, Dimensions
from harness.core.errors import CorpusError, StoreError, VariantError
from harness.corpus.corpus import SENTENCES, Corpus, build_corpus
from harness.variants.catalogue import available, load_variant
from harness.variants.model_folder import ModelFolder, write_model_folder
from harness.variants.variant import render

REPORTED = ("paraformer", "paraformer_streaming")
SHAPE = Dimensions(vocab_size=8404, hidden_size=320)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The built-in corpus."""
    return build_corpus(tmp_path_factory.mktemp("cache"))


def write(corpus: Corpus, cache: Path, shape: Dimensions = SHAPE, variant: str = "paraformer") -> ModelFolder:
    """A reduced model folder."""
    return write_model_folder(load_variant(variant), corpus, cache, dimensions=shape, depth=Depth.REDUCED)


@pytest.mark.parametrize("variant", available())
def test_the_folder_holds_what_a_published_one_holds_but_the_checkpoint(
    corpus: Corpus, tmp_path: Path, variant: str
) -> None:
    # SenseVoice's labels have numbers beyond the smaller vocabularies.
    shape = replace(SHAPE, vocab_size=25055) if variant == "sense_voice" else SHAPE
    folder = write(corpus, tmp_path, shape, variant)
    assert {path.name for path in folder.path.iterdir()} == {
        "config.yaml",
        "configuration.json",
        "tokens.json",
        "seg_dict",
        "am.mvn",
    }
    config = yaml.safe_load((folder.path / "config.yaml").read_text(encoding="utf-8"))
    assert config == render(load_variant(variant), dimensions=shape, depth=Depth.REDUCED)
    frontend = config["frontend_conf"]
    assert folder.input_size == frontend["n_mels"] * frontend.get("lfr_m", 1)
    assert folder.input_size == 560 or variant not in REPORTED


def test_the_token_list_has_the_vocabularys_size_and_every_sentence(corpus: Corpus, tmp_path: Path) -> None:
    folder = write(corpus, tmp_path)
    tokens = json.loads((folder.path / "tokens.json").read_text(encoding="utf-8"))
    assert tuple(tokens) == folder.token_list
    assert len(tokens) == 8404
    assert set("".join(SENTENCES)) <= set(tokens)


def test_configuration_json_names_the_files_that_are_there(corpus: Corpus, tmp_path: Path) -> None:
    folder = write(corpus, tmp_path)
    metas = json.loads((folder.path / "configuration.json").read_text())["file_path_metas"]
    assert metas["init_param"] == "model.pt"
    named = [metas["config"], *metas["tokenizer_conf"].values(), *metas["frontend_conf"].values()]
    assert all((folder.path / name).is_file() for name in named)


def test_every_line_of_seg_dict_begins_with_a_word_and_says_what_it_is_made_of(corpus: Corpus, tmp_path: Path) -> None:
    folder = write(corpus, tmp_path)
    lines = (folder.path / "seg_dict").read_text(encoding="utf-8").splitlines()
    made_of = {line.split()[0]: line.split()[1:] for line in lines}
    assert len(made_of) == len(lines)
    assert all(made_of[letter] == [letter] for letter in "".join(SENTENCES))
    assert "<unk>" not in made_of


def test_the_same_ingredients_give_the_same_folder_once(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(corpus, tmp_path)
    monkeypatch.setattr("harness.corpus.features.measure", lambda *_: pytest.fail("measured again"))
    assert write(corpus, tmp_path) == first
    assert list((tmp_path / "models").iterdir()) == [first.path]
    assert first.path.name.startswith("paraformer-v8404-h320-reduced-")


def test_other_ingredients_give_another_folder(corpus: Corpus, tmp_path: Path) -> None:
    shapes = [SHAPE, Dimensions(vocab_size=8501, hidden_size=320), Dimensions(vocab_size=8404, hidden_size=512)]
    folders = {write(corpus, tmp_path, shape).path for shape in shapes}
    folders.add(write(corpus, tmp_path, variant="paraformer_streaming").path)
    folders.add(write(replace(corpus, sha256="other"), tmp_path).path)
    assert len(folders) == 5


def test_the_folder_is_the_same_byte_by_byte_wherever_it_is_made(corpus: Corpus, tmp_path: Path) -> None:
    one, other = write(corpus, tmp_path / "one").path, write(corpus, tmp_path / "other").path
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_nothing_in_the_folder_names_the_machine(corpus: Corpus, tmp_path: Path) -> None:
    folder = write(corpus, tmp_path)
    assert all(str(tmp_path) not in path.read_text(encoding="utf-8") for path in folder.path.iterdir())


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        (Dimensions(vocab_size=8404, hidden_size=321), VariantError),
        (Dimensions(vocab_size=4, hidden_size=320), VariantError),
        (Dimensions(vocab_size=100, hidden_size=320), CorpusError),
    ],
)
def test_a_shape_that_cannot_be_leaves_no_folder(
    corpus: Corpus, tmp_path: Path, shape: Dimensions, error: type[Exception]
) -> None:
    with pytest.raises(error):
        write(corpus, tmp_path, shape)
    assert not (tmp_path / "models").exists()


def test_a_full_disk_leaves_no_folder(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text = Path.write_text

    def full(path: Path, text: str, **rest: str) -> int:
        if path.name == "am.mvn":
            raise OSError(28, "No space left on device")
        return write_text(path, text, **rest)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(corpus, tmp_path)
    assert list(tmp_path.rglob("config.yaml")) == []
