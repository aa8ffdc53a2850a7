"""The config that preflight reads is the one that the release's own `download_model` loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from user_folders import inputs_of

from harness.core.cells import Severity
from harness.preflight.command import TrainingCommand, read_words
from harness.preflight.findings import PreflightFinding
from harness.preflight.folder.config_file import check_passed_over, config_of

pytestmark = pytest.mark.release

Layout = Callable[[str], Path]
RELEASES = ("1.0.6", "1.2.7", "1.4.16")
USUAL = {"file_path_metas": {"config": "config.yaml", "init_param": "model.pt"}}
NAMED = {"file_path_metas": {"config": "conf/finetuned.yaml", "init_param": "model.pt"}}
GONE = {"file_path_metas": {"config": "gone.yaml"}}
OF_MODELSCOPE = {"model": {"model_config": "conf/finetuned.yaml"}, "file_path_metas": {"config": "config.yaml"}}
"""ModelScope's own field, which FunASR does not read."""

MODULES = ("download_model_from_hub", "download_from_hub")
"""Where a release has `download_model`."""

CASES: dict[str, tuple[dict[str, Any] | None, tuple[str, ...], tuple[str, ...]]] = {
    "no configuration.json": (None, (), ()),
    "config.yaml": (USUAL, (), ()),
    "another name": (NAMED, (), ()),
    "another name beside model.pb": (NAMED, ("model.pb",), ()),
    "a config of the command": (NAMED, (), ("++config=mine.yaml",)),
    "a config that is gone": (GONE, (), ()),
    "model_config": (OF_MODELSCOPE, (), ()),
}


def loaded_by(install_dir: str, root: str, calls: list[dict[str, Any]]) -> list[str | None]:
    """In a child: the mark of the config that `download_model` loads for each call; None where it loads none."""
    import importlib
    import os

    from harness.worker.release import importer

    os.chdir(root)
    importer.import_components_only(install_dir, "")
    name = next(one for one in MODULES if (Path(install_dir) / "funasr" / "download" / f"{one}.py").is_file())
    download_model = importlib.import_module(f"funasr.download.{name}").download_model
    found: list[str | None] = []
    for call in calls:
        try:
            found.append(download_model(is_training=True, **call).get("mark"))
        except (KeyError, ValueError) as error:
            # 1.0.6 ends so where it loads no config.
            none = error.args == ("config",) or "Input cfg is not an OmegaConf" in str(error)
            found.append(None if none else repr(error))
    return found


def written(folder: Path, configuration: dict[str, Any] | None, more: tuple[str, ...]) -> Path:
    for name in ("config.yaml", "conf/finetuned.yaml", "../mine.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = f"model: Paraformer\nmark: {Path(name).name}\ntokenizer_conf: {{}}\nfrontend_conf: {{}}\n"
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("model.pt", *more):
        (folder / name).write_bytes(b"")
    if configuration is not None:
        (folder / "configuration.json").write_text(json.dumps(configuration), encoding="utf-8")
    return folder


@pytest.mark.parametrize("release", RELEASES)
def test_the_releases_own_loader_agrees(tmp_path: Path, layout: Layout, forked: Forked, release: str) -> None:
    install_dir, calls, expected = layout(release), [], []
    for number, (configuration, more, words) in enumerate(CASES.values()):
        folder = written(tmp_path / str(number), configuration, more)
        command = read_words(words)
        calls.append({"model": str(folder), **{one.path: one.value for one in command.overrides}})
        chosen = config_of(folder, command, install_dir=install_dir, root=tmp_path)
        expected.append(chosen.name)
    loaded = forked(loaded_by, install_dir=str(install_dir), root=str(tmp_path), calls=calls)
    said = dict(zip(CASES, zip(loaded, expected, strict=True), strict=True))
    # Where none is loaded, config.yaml is read to say what is wrong with the folder.
    assert [name for name, (got, ours) in said.items() if got not in (None, ours)] == []
    none = {name for name, (got, _) in said.items() if got is None}
    assert none == {"a config that is gone"} | ({"no configuration.json"} if release == "1.0.6" else set())
    assert said["another name"] == ("finetuned.yaml", "finetuned.yaml")
    beside = "config.yaml" if release == "1.0.6" else "finetuned.yaml"
    assert said["another name beside model.pb"] == (beside, beside)


def passed_over(folder: Path, install_dir: Path, release: str) -> list[PreflightFinding]:
    chosen = config_of(folder, TrainingCommand(), install_dir=install_dir, root=folder.parent)
    return list(
        check_passed_over(replace(inputs_of(folder, version=release), install_dir=install_dir, config_path=chosen))
    )


def test_a_config_that_is_not_read_is_named(tmp_path: Path, layout: Layout) -> None:
    folder = written(tmp_path / "model", NAMED, ("model.pb",))
    (new,) = passed_over(folder, layout("1.4.16"), "1.4.16")
    assert (new.rule, new.severity, Path(new.place.file).name) == ("config-passed-over", Severity.MINOR, "config.yaml")
    (old,) = passed_over(folder, layout("1.0.6"), "1.0.6")
    assert Path(old.place.file).name == "finetuned.yaml"
    (folder / "conf" / "finetuned.yaml").write_text((folder / "config.yaml").read_text(), encoding="utf-8")
    assert passed_over(folder, layout("1.4.16"), "1.4.16") == []
    assert passed_over(written(tmp_path / "usual", USUAL, ()), layout("1.4.16"), "1.4.16") == []
