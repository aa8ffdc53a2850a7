"""The settings in force: config.yaml as OmegaConf reads it, with places, and the command's overrides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.errors import InputError
from harness.preflight.findings import Place
from harness.preflight.settings import Setting, read_config


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_leaves_have_their_lines_and_values(tmp_path: Path) -> None:
    settings = read_config(
        written(tmp_path, "model: Paraformer\noptim_conf:\n  lr: 1e-3\n  betas: [0.9, 0.98]\nx: {}\n")
    )
    assert settings.by_path["optim_conf.lr"].value == 0.001
    assert settings.by_path["optim_conf.lr"].place.line == 3
    assert settings.get("optim_conf") == {"lr": 0.001, "betas": [0.9, 0.98]}
    assert settings.get("x") == {}
    assert settings.get("missing", 7) == 7


def test_an_override_wins_and_replaces_what_is_below(tmp_path: Path) -> None:
    settings = read_config(written(tmp_path, "train_conf:\n  max_epoch: 3\n  accum_grad: 1\n"))
    place = Place(key="train_conf.max_epoch")
    override = Setting(path="train_conf.max_epoch", value=50, place=place, from_command=True)
    merged = settings.merged([override])
    assert merged.get("train_conf") == {"max_epoch": 50, "accum_grad": 1}
    assert merged.place("train_conf.max_epoch") is place
    whole = Setting(path="train_conf", value={}, place=place, from_command=True)
    assert settings.merged([whole]).get("train_conf") == {}


@pytest.mark.parametrize(
    ("text", "where"),
    [("a: [1\nb: 2\n", "config.yaml:2"), ("- a\n", "no mapping"), ("", "no mapping"), ("a: \x00", "not YAML")],
)
def test_what_is_no_config_is_named(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(InputError) as error:
        read_config(written(tmp_path, text))
    assert where in str(error.value)


def test_a_pipe_and_a_huge_file_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError, match="no regular file"):
        read_config(tmp_path / "config.yaml")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(InputError, match="larger than"):
        read_config(tmp_path / "huge.yaml")


def test_tags_of_other_libraries_are_text_and_aliases_do_not_multiply(tmp_path: Path) -> None:
    settings = read_config(written(tmp_path, "a: !!python/object/apply:os.system ['touch x']\n"))
    assert not isinstance(settings.get("a"), int)
    assert not (tmp_path / "x").exists()
    bomb = "a0: &a0 {k: 1, l: 2, m: 3, n: 4}\n" + "".join(
        f"a{n}: &a{n} {{{', '.join(f'{key}: *a{n - 1}' for key in 'pqrstuvw')}}}\n" for n in range(1, 9)
    )
    with pytest.raises(InputError, match="more than"):
        read_config(written(tmp_path, bomb))
