"""A user's model folder in the place of a variant: `estimate --variant DIR`, and `variant = ["DIR"]` in a matrix."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from forked import Forked

from harness.bundle.contents import lay_out_folders, reject_local_sources
from harness.config.matrix import Matrix, load_matrix
from harness.core.cells import Depth, Dimensions, Release
from harness.core.errors import InputError, MatrixError, VariantError
from harness.corpus.corpus import build_corpus
from harness.releases import default_cache, resolve
from harness.variants.catalogue import available, folder_dimensions, load_variant
from harness.variants.model_folder import START, write_model_folder

MATRIX = """
schema = 1
name = "mine"
description = "A user's folder."
[axes]
release = ["1.4.16"]
variant = ["{folder}"]
check = ["construct", "loss_contract", "finetune@native"]
depth = ["full"]
device = ["cpu"]
[finetune]
steps = 12
batch_size = 2
utterances = 8
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Paraformer of the user's own sizes; without weights."""
    here = tmp_path / "speech_paraformer v2"
    here.mkdir()
    config = json.loads(json.dumps(load_variant("paraformer").config))
    config["encoder_conf"] |= {"output_size": 256, "num_blocks": 12}
    config["predictor_conf"]["idim"] = 256
    config |= {"init_param": "/elsewhere.pt", "trust_remote_code": True, "my_own_key": 3}
    (here / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (here / "tokens.json").write_text(json.dumps(["<blank>", "<s>", "</s>", *"一二三四五六七", "<unk>"]))
    (here / "am.mvn").write_text("<Nnet>\n")
    return here


def write_checkpoint(path: Path) -> bytes:
    """What looks like a file of `torch.save` from outside."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"weights" * 99)
    return path.read_bytes()


def test_the_config_is_the_users_and_the_dimensions_are_the_folders(folder: Path) -> None:
    variant = load_variant(str(folder))
    assert variant.name == "speech_paraformer-v2"
    assert variant.config["encoder_conf"]["num_blocks"] == 12
    assert variant.config["my_own_key"] == 3
    assert not {"init_param", "trust_remote_code"} & set(variant.config)
    assert variant.traits == load_variant("paraformer").traits
    assert ("encoder_conf.num_blocks", 2) in variant.reduced
    assert folder_dimensions(folder) == Dimensions(vocab_size=11, hidden_size=256)


def test_the_folder_of_a_run_has_the_users_tokens_and_a_link_to_their_weights(folder: Path, tmp_path: Path) -> None:
    write_checkpoint(folder / "model.pt")
    variant, size = load_variant(str(folder)), folder_dimensions(folder)
    corpus = build_corpus(default_cache())
    made = write_model_folder(variant, corpus, tmp_path / "cache", dimensions=size, depth=Depth.FULL)
    assert made.token_list[3] == "一"
    assert (made.path / START).resolve() == folder / "model.pt"
    assert not (made.path / "seg_dict").exists()
    config = yaml.safe_load((made.path / "config.yaml").read_text(encoding="utf-8"))
    assert config["encoder_conf"]["num_blocks"] == 12
    few = write_model_folder(variant, corpus, tmp_path / "cache", dimensions=size, depth=Depth.REDUCED)
    assert not (few.path / START).exists()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is no checkpoint of torch's"),
        (b"", "is no checkpoint of torch's"),
        (None, "is cut short"),
    ],
)
def test_weights_that_no_release_could_load_are_refused_before_anything_runs(
    folder: Path, tmp_path: Path, raw: bytes | None, said: str
) -> None:
    whole = write_checkpoint(folder / "model.pt")
    (folder / "model.pt").write_bytes(whole[:-30] if raw is None else raw)
    variant, size, corpus = load_variant(str(folder)), folder_dimensions(folder), build_corpus(default_cache())
    with pytest.raises(VariantError, match=said) as error:
        write_model_folder(variant, corpus, tmp_path / "cache", dimensions=size, depth=Depth.FULL)
    assert "preflight speech_paraformer v2" in str(error.value.next_step)
    # Before zip files torch wrote pickles; and at reduced depth no weights are used.
    write_model_folder(variant, corpus, tmp_path / "cache", dimensions=size, depth=Depth.REDUCED)
    (folder / "model.pt").write_bytes(b"\x80\x02\x8a")
    write_model_folder(variant, corpus, tmp_path / "cache", dimensions=size, depth=Depth.FULL)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "Whisper"}, "no variant"),
        ({"model": 7}, "names no model"),
    ],
)
def test_a_model_that_the_harness_does_not_know_is_named(folder: Path, change: dict[str, object], said: str) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(yaml.safe_dump(config | change), encoding="utf-8")
    with pytest.raises(VariantError) as error:
        load_variant(str(folder))
    assert said in str(error.value)


def test_a_folder_without_tokens_or_config_is_named(folder: Path) -> None:
    (folder / "tokens.json").unlink()
    with pytest.raises(VariantError, match="no tokens"):
        load_variant(str(folder))
    (folder / "config.yaml").write_text("- a\n")
    with pytest.raises(VariantError, match="names no model"):
        load_variant(str(folder))


def matrix_of(folder: Path, locked: tuple[Release, ...], **options: object) -> Matrix:
    path = folder.parent / "matrix.toml"
    path.write_text(MATRIX.format(folder=folder.name), encoding="utf-8")
    return load_matrix(
        path,
        resolve=partial(resolve, locked=locked),
        variants=available(),
        gpu_present=False,
        **options,  # type: ignore[arg-type]
    )


def test_a_matrix_names_a_folder_and_needs_no_sizes_for_it(folder: Path, locked: tuple[Release, ...]) -> None:
    matrix = matrix_of(folder, locked, folder_dimensions=folder_dimensions)
    assert {cell.dimensions for cell in matrix.cells} == {Dimensions(vocab_size=11, hidden_size=256)}
    assert {cell.variant for cell in matrix.cells} == {"speech_paraformer-v2"}
    assert matrix.variants[0].path == folder
    with pytest.raises(MatrixError, match="takes no model folder"):
        matrix_of(folder, locked)


def test_a_bundle_carries_a_folder_beside_the_matrix_and_no_other(
    folder: Path, locked: tuple[Release, ...], tmp_path: Path
) -> None:
    matrix = matrix_of(folder, locked, folder_dimensions=folder_dimensions)
    (folder / "model.pt").write_bytes(b"weights")
    (folder / "notes.txt").write_text("not needed")
    reject_local_sources(matrix)
    lay_out_folders(matrix, tmp_path / "inputs")
    there = tmp_path / "inputs" / folder.name
    assert {path.name for path in there.iterdir()} == {"config.yaml", "tokens.json", "am.mvn", "model.pt"}
    assert folder_dimensions(there) == folder_dimensions(folder)
    elsewhere = replace(matrix, source=tmp_path / "below" / "matrix.toml")
    with pytest.raises(InputError, match="move a model folder beside the matrix"):
        reject_local_sources(elsewhere)


def start_of_a_training(folder: str, to: str) -> list[object]:
    """In a child with torch: the weights that a copy begins with, and what becomes of a pickle with code."""
    import torch

    from harness.worker.trainer import launch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (f"{to}-evil",)

    weights = {"encoder.weight": torch.arange(4.0)}
    torch.save(weights, f"{folder}/start.pt")
    launch.copy_folder(folder, Path(to), 0)
    begins = torch.load(f"{to}/model.pt", weights_only=True)
    torch.save({"encoder.weight": Evil()}, f"{folder}/start.pt")
    try:
        launch.copy_folder(folder, Path(f"{to}-again"), 0)
    except Exception as error:
        refused = type(error).__name__
    return [begins["encoder.weight"].tolist(), refused, os.path.exists(f"{to}-evil")]  # noqa: PTH110


def test_a_training_starts_from_the_users_weights_and_runs_no_code_in_them(
    folder: Path, forked: Forked, tmp_path: Path
) -> None:
    found = forked(start_of_a_training, folder=str(folder), to=str(tmp_path / "copy"))
    assert found == [[0.0, 1.0, 2.0, 3.0], "UnpicklingError", False]
    assert not (tmp_path / "copy" / START).exists()


def unfilled(path: str) -> list[object]:
    """In a child with torch: what of a model a user's weights do not fill."""
    import torch

    from harness.worker.trainer.parameters import ParameterChanges

    changes, file = ParameterChanges(), Path(path)
    changes.attach(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    whole = dict(changes.network.state_dict())
    found: list[object] = []
    for state in (
        whole,
        {f"module.{name}": value for name, value in whole.items()},
        {"model_state_dict": whole, "epoch": 3},
        {**whole, "0.weight": torch.zeros(5, 3)},
        {name: value for name, value in whole.items() if name != "1.running_mean"},
        {"epoch": 3},
    ):
        torch.save(state, file)
        answer = changes.not_in(file)
        found.append([answer["count"], answer["of"], answer["names"][:1]])
    return found


def test_tensors_that_a_users_weights_do_not_fill_are_counted_as_funasr_reads_them(
    forked: Forked, tmp_path: Path
) -> None:
    assert forked(unfilled, path=str(tmp_path / "model.pt")) == [
        *[[0, 6, []]] * 3,
        [1, 6, ["0.weight"]],
        [1, 6, ["1.running_mean"]],
        [6, 6, ["0.weight"]],
    ]
