"""Model folders, jsonl files and scripts as users have them, of small models; made once per test session."""

from __future__ import annotations

import json
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
from harness.preflight.inputs import Inputs
from harness.preflight.settings import Setting, Settings, read_config
from harness.releases import default_cache
from harness.variants.catalogue import load_variant
from harness.variants.model_folder import write_model_folder

SMALL = Dimensions.parse("v8404-h320")


@cache
def environment() -> Environment:
    """The interpreter with torch in which the releases run."""
    return probe(cache=default_cache())


def write_checkpoint(overlay: str, folder: str, seed: int, paths: list[str]) -> None:
    """In a child with torch: a checkpoint of the folder's model with weights of its own."""
    # A torchaudio that imports on this machine.
    sys.path[:0] = paths
    from harness.worker.release import importer, model

    importer.import_all(overlay)
    model.write_start(folder, f"{folder}/model.pt", seed)


def model_folder(
    forked: Forked, overlay: Path, to: Path, *, variant: str = "paraformer", dimensions: Dimensions = SMALL
) -> Path:
    """A complete model folder of reduced depth, as a published one: config, weights, tokens, statistics.

    Made by the release in `overlay` once per cache, and copied: a test may change it.
    """
    corpus = build_corpus(default_cache())
    made = write_model_folder(
        load_variant(variant), corpus, default_cache(), dimensions=dimensions, depth=Depth.REDUCED
    )
    stored = default_cache() / "user-folders" / f"{made.path.name}-{overlay.name}"
    if not (stored / "model.pt").is_file():
        draft = stored.with_name(f"{stored.name}.draft-{to.name}")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(made.path, draft)
        forked(
            write_checkpoint,
            overlay=str(overlay),
            folder=str(draft),
            seed=0,
            paths=[str(one) for one in environment().extra_paths],
        )
        shutil.rmtree(stored, ignore_errors=True)
        draft.rename(stored)
    shutil.copytree(stored, to)
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


def inputs_of(model: Path, *, overlay: Path | None = None, version: str = "1.4.16", **overrides: Any) -> Inputs:
    """A user's inputs: the folder with its config and a command with these overrides, `__` for the dot of a key.

    Without an overlay they are for parts that run no release.
    """
    settings = [
        Setting(path=path, value=value, place=Place(key=path), from_command=True, text=f"++{path}={value}")
        for path, value in ((name.replace("__", "."), value) for name, value in overrides.items())
    ]
    try:
        config = read_config(model / "config.yaml")
    except InputError:
        config = Settings()
    return Inputs(
        model=model,
        release=Release(label=version, version=version, kind="wheel", filename="", sha256=""),
        overlay=overlay or model / "no-release",
        cache=default_cache(),
        environment=environment() if overlay else NO_ENVIRONMENT,
        train=None,
        valid=None,
        command=TrainingCommand(overrides=tuple(settings)),
        config=config,
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
