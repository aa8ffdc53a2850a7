"""What goes into a bundle, found or made here and copied into folders as the host will have them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.config.matrix import Matrix
from harness.core.cells import Cell
from harness.core.errors import InputError
from harness.corpus import jsonl
from harness.corpus.corpus import Corpus, build_corpus
from harness.corpus.synthesis import SAMPLING_RATE
from harness.corpus.user_files import carry
from harness.corpus.user_speech import OwnSpeech, load_corpus, read_own
from harness.corpus.word_orders import HELD_OUT_FILE, TRAIN_FILE, build_word_orders
from harness.releases import fetch, install_path
from harness.variants.catalogue import load_variant
from harness.variants.model_folder import write_model_folder

SPEECH = "speech.jsonl"
"""The harness's corpus."""
OWN, OWN_VALID = "own", "own_valid"
"""Folders of a user's files in its place, one file in each, under its own name."""
LOCK = "releases.lock.toml"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Folders, as a bundle has them below its root."""

    code: Path
    inputs: Path
    """The matrix, the lock, the speech."""
    models: Path
    """Laid out as `cache/models`."""
    releases: Path
    """Laid out as `cache/releases`."""


CARRIED_OF_A_FOLDER = ("config.yaml", "tokens.json", "tokens.txt", "am.mvn", "seg_dict", "model.pt")
"""What a model folder of the user's is known by; the host makes its own copy of it."""


def reject_local_sources(matrix: Matrix) -> None:
    """Reject a matrix that names files of this machine that a bundle cannot carry to the same place.

    It carries published releases, built-in variants, and model folders below the matrix's own folder.

    Raises:
        InputError: the matrix names another file or folder of this machine.
    """
    local = [release.label for release in matrix.releases if release.path]
    local += [source.name for source in matrix.variants if source.path and _place_of(matrix, source.path) is None]
    if local:
        raise InputError(
            f"{matrix.source} names files of this machine: {', '.join(local)}",
            cause="a bundle carries published releases, the harness's own variants, and model folders below the "
            "matrix's folder only",
            next_step="leave these out with --only, or in a matrix of their own; move a model folder beside the matrix",
        )


def _place_of(matrix: Matrix, path: Path) -> Path | None:
    """The path of a model folder below the matrix; None for what is none, or is elsewhere."""
    if not path.is_dir() or ".." in path.parts:
        return None
    try:
        return path.absolute().relative_to(matrix.source.parent.absolute())
    except ValueError:
        return None


def lay_out_folders(matrix: Matrix, inputs: Path) -> None:
    """Copy the user's model folders to where the matrix, which is copied next to them, names them."""
    for source in matrix.variants:
        place = _place_of(matrix, source.path) if source.path else None
        if place is None or source.path is None:
            continue
        (inputs / place).mkdir(parents=True)
        for name in CARRIED_OF_A_FOLDER:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, inputs / place / name)


def gather(
    matrix: Matrix,
    cells: Sequence[Cell],
    folder: Path,
    *,
    cache: Path,
    lock: Path,
    user_speech: OwnSpeech | None = None,
    rows: int | None = None,
) -> Contents:
    """Copy everything but the libraries into folders under `folder`.

    Args:
        own: The user's own speech in place of the harness's corpus.
        rows: How many of its rows are carried; None for the default.

    Raises:
        HarnessError: something is missing or cannot be made.
    """
    contents = Contents(
        code=folder / "code", inputs=folder / "inputs", models=folder / "models", releases=folder / "releases"
    )
    shutil.copytree(
        Path(harness.__file__).parent, contents.code / "harness", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    contents.inputs.mkdir()
    shutil.copyfile(matrix.source, contents.inputs / matrix.source.name)
    shutil.copyfile(lock, contents.inputs / LOCK)
    lay_out_folders(matrix, contents.inputs)
    if user_speech and rows is None and any(source.path and source.path.is_dir() for source in matrix.variants):
        rows = len(user_speech.train.rows)
    corpus = _carry(user_speech, rows, contents.inputs) if user_speech else _lay_out_built_in(contents.inputs, cache)
    own_variants = {source.name for source in matrix.variants if source.path}
    built_in = [cell for cell in cells if cell.variant not in own_variants]
    _lay_out_models(built_in, corpus, contents.models, cache)
    _lay_out_releases(matrix, cells, contents.releases, cache)
    return contents


def _lay_out_built_in(inputs: Path, cache: Path) -> Corpus:
    orders = build_word_orders(cache)
    _lay_out_speech(orders.train, inputs, TRAIN_FILE)
    _lay_out_speech(orders.held_out, inputs, HELD_OUT_FILE)
    return _lay_out_speech(build_corpus(cache), inputs, SPEECH)


def _lay_out_speech(corpus: Corpus, inputs: Path, name: str) -> Corpus:
    """The utterances as a jsonl file with their recordings; what is read back from it is the same corpus."""
    rows = []
    for utterance in corpus.utterances:
        file = Path("audio", f"{utterance.key}{utterance.path.suffix}")
        (inputs / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(utterance.path, inputs / file)
        rows.append(jsonl.row(utterance.key, file, utterance.samples * 1000 / SAMPLING_RATE, utterance.text))
    (inputs / name).write_text("".join(rows), encoding="utf-8")
    carried = load_corpus(inputs / name)
    # The model folders' names hold this hash: with another hash the host would have to make them again, and could not.
    assert carried.sha256 == corpus.sha256
    return carried


def _carry(user_speech: OwnSpeech, rows: int | None, inputs: Path) -> Corpus:
    """The user's rows with their recordings."""
    carry(user_speech, inputs, (OWN, OWN_VALID), rows=rows)
    train, valid = carried_own(inputs)
    assert train is not None
    return read_own(train, valid=valid, root=inputs).corpus


def carried_own(inputs: Path) -> tuple[Path | None, Path | None]:
    """The user's training and validation rows that a bundle carries; None where it has none."""
    train, valid = (next((inputs / name).glob("*"), None) for name in (OWN, OWN_VALID))
    return train, valid


def _lay_out_models(cells: Sequence[Cell], corpus: Corpus, models: Path, cache: Path) -> None:
    models_wanted = dict.fromkeys((cell.variant, cell.dimensions, cell.depth) for cell in cells)
    models.mkdir()
    for variant, dimensions, depth in models_wanted:
        if variant and dimensions and depth:
            model_folder = write_model_folder(load_variant(variant), corpus, cache, dimensions=dimensions, depth=depth)
            folder = model_folder.path
            shutil.copytree(folder, models / folder.name)


def _lay_out_releases(matrix: Matrix, cells: Sequence[Cell], releases: Path, cache: Path) -> None:
    labels = {cell.release for cell in cells}
    needed = [release for release in matrix.releases if release.label in labels]
    fetch(needed, cache, jobs=2 * (os.cpu_count() or 1))
    releases.mkdir()
    for release in needed:
        folder = install_path(release, cache)
        shutil.copytree(folder, releases / folder.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
