"""Model folders, jsonl files and scripts as users have them, of small models; made once per test session."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import soundfile
from forked import Forked

from harness.core.cells import Depth, Dimensions, Release
from harness.core.errors import InputError
from harness.corpus.corpus import Corpus, build_corpus
from harness.corpus.jsonl import frames_of
from harness.environments.environment import Environment, probe
from harness.preflight.command import TrainingCommand
from harness.preflight.findings import Place
from harness.preflight.folder.config_file import config_of
from harness.preflight.inputs import Inputs
from harness.preflight.settings import Setting, SettingsInForce, read_config
from harness.releases import default_cache
from harness.variants.catalogue import load_variant
from harness.variants.model_folder import write_model_folder

NARROW = Dimensions.parse("v8404-h64")
"""Width is no question of these tests: a folder of 6 MB instead of 36, and steps that cost a third."""


@cache
def environment() -> Environment:
    """The interpreter with torch in which the releases run."""
    return probe(cache=default_cache())


SOUND = ("paraformer", "paraformer_streaming", "seaco_paraformer", "bicif_paraformer", "sense_voice", "conformer")
"""Architectures of which there is a sound folder."""

NARROW_LABELLED = Dimensions.parse("v25055-h64")
"""Ids of the labels that SenseVoice writes before a text go up to 25017."""


def write_checkpoints(install_dir: str, folders: list[str], seed: int, paths: list[str]) -> None:
    """In a child with torch: a checkpoint of each folder's model with weights of its own."""
    # A torchaudio that imports on this machine.
    sys.path[:0] = paths
    from harness.worker.release import importer, model

    importer.import_all(install_dir)
    for folder in folders:
        model.write_start(folder, f"{folder}/model.pt", seed)


def stored_folders(
    forked: Forked, install_dir: Path, variants: Sequence[str], *, dimensions: Dimensions = NARROW
) -> dict[str, Path]:
    """Complete model folders of reduced depth, made by the release in `install_dir` once per cache; never changed."""
    corpus, drafts, found = build_corpus(default_cache()), [], {}
    for variant in variants:
        made = write_model_folder(
            load_variant(variant),
            corpus,
            default_cache(),
            dimensions=NARROW_LABELLED if variant == "sense_voice" and dimensions is NARROW else dimensions,
            depth=Depth.REDUCED,
        )
        stored = default_cache() / "user-folders" / f"{made.path.name}-{install_dir.name}"
        found[variant] = stored
        if not (stored / "model.pt").is_file():
            draft = stored.with_name(f"{stored.name}.draft-{os.getpid()}")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(made.path, draft)
            drafts.append((draft, stored))
    if drafts:
        forked(
            write_checkpoints,
            install_dir=str(install_dir),
            folders=[str(draft) for draft, _ in drafts],
            seed=0,
            paths=[str(one) for one in environment().extra_paths],
        )
    for draft, stored in drafts:
        shutil.rmtree(stored, ignore_errors=True)
        draft.rename(stored)
    return found


def model_folder(
    forked: Forked, install_dir: Path, to: Path, *, variant: str = "paraformer", dimensions: Dimensions = NARROW
) -> Path:
    """A complete model folder of reduced depth, as a published one: config, weights, tokens, statistics.

    A copy of the stored one: a test may change it.
    """
    shutil.copytree(stored_folders(forked, install_dir, [variant], dimensions=dimensions)[variant], to)
    return to


def speech(count: int = 8, *, first: int = 0) -> list[dict[str, Any]]:
    """Rows about real recordings of the built-in corpus, with every field that some release requires."""
    corpus: Corpus = build_corpus(default_cache())
    rows = []
    for one in corpus.utterances[first : first + count]:
        info = soundfile.info(str(one.path))
        frames = frames_of(info.frames * 1000 / info.samplerate)
        rows.append(
            {
                "key": one.key,
                "source": str(one.path),
                "source_len": frames,
                "target": one.text,
                "target_len": len(one.text),
            }
        )
    return rows


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A jsonl file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def inputs_of(model: Path, *, install_dir: Path | None = None, version: str = "1.4.16", **overrides: Any) -> Inputs:
    """A user's inputs: the folder with its config and a command with these overrides, `__` for the dot of a key.

    Without a release they are for parts that run no release.
    """
    settings = [
        Setting(path=path, value=value, place=Place(key=path), from_command=True, text=f"++{path}={value}")
        for path, value in ((name.replace("__", "."), value) for name, value in overrides.items())
    ]
    command, folder_read = TrainingCommand(overrides=tuple(settings)), install_dir or model / "no-release"
    path = config_of(model, command, install_dir=folder_read, root=model.parent)
    try:
        config = read_config(path)
    except InputError:
        config = SettingsInForce()
    return Inputs(
        model=model,
        release=Release(label=version, version=version, kind="wheel", filename="", sha256=""),
        install_dir=folder_read,
        cache=default_cache(),
        environment=environment() if install_dir else NO_ENVIRONMENT,
        train=None,
        valid=None,
        command=command,
        config=config,
        config_path=path,
        gpus=None,
        card=None,
        root=model.parent,
    )


NO_ENVIRONMENT = Environment(
    python=Path("python"),
    python_version="3.11",
    torch_version="",
    cuda_version=None,
    cuda_available=False,
    gpu_names=(),
    libraries={},
    torchaudio_imports=False,
    user_base=None,
)


def without_configuration(folder: Path) -> Path:
    """The folder in the form that has only the usual names."""
    (folder / "configuration.json").unlink()
    return folder
