"""The folder that FunASR's `AutoModel` and trainers take in place of a published model's."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.cells import Depth, Dimensions
from harness.core.errors import VariantError
from harness.corpus.corpus import Corpus
from harness.corpus.tokens import make_token_list, seg_dict
from harness.variants.from_folder import read_small, tokens_of
from harness.variants.variant import Variant, render

CHECKPOINT = "model.pt"
"""The initial checkpoint's file name; a release makes the file, as only it can build the model."""

START = "start.pt"
"""A user's own weights, from which a training at full depth starts; see `harness.worker.trainer.launch`."""

CONFIGURATION: dict[str, Any] = {
    "framework": "pytorch",
    "task": "auto-speech-recognition",
    "model": {"type": "funasr"},
    "pipeline": {"type": "funasr-pipeline"},
    "model_name_in_hub": {"ms": "", "hf": ""},
    "file_path_metas": {
        "init_param": CHECKPOINT,
        "config": "config.yaml",
        # `seg_dict` is the tokenizer's own parameter in every release that has one (since 1.0.6), and what FunASR
        # itself sets when it finds no configuration.json; `seg_dict_file`, its second name, came with 1.0.20.
        "tokenizer_conf": {"token_list": "tokens.json", "seg_dict": "seg_dict"},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    },
}
"""What configuration.json says; FunASR documents its form in docs/tutorial/Tables.md ("Path resolution").

A file that does not exist is passed over. Release 1.0.0 leaves out what comes after `tokenizer_conf`
(`add_file_root_path` returns from the first inner mapping) and so trains without am.mvn.
"""

# Raise it when the same ingredients would come out as other files.
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder as published models have it, without the initial checkpoint."""

    path: Path
    sha256: str
    """Over what the folder is made from; part of its name."""
    input_size: int
    """Width of the features that the model takes."""
    token_list: tuple[str, ...]
    """In the order of their ids."""


def write_model_folder(
    variant: Variant, corpus: Corpus, cache: Path, *, dimensions: Dimensions, depth: Depth
) -> ModelFolder:
    """Write the model folder under `cache`, unless it is there already.

    Several cells share it: whoever adds a checkpoint adds it to a copy.

    Raises:
        VariantError: the variant cannot have these dimensions.
        CorpusError: the corpus has more distinct characters than the vocabulary has room for.
        StoreError: `cache` cannot be written to.
    """
    from harness.corpus.features import Frontend, measure
    from harness.releases.cache import move_into_place, working_folder
    from harness.releases.holdings import note_use

    config = render(variant, dimensions=dimensions, depth=depth)
    if variant.folder is not None:
        return _of_user(variant, config, variant.folder, cache, f"{dimensions}-{depth}", full_depth=depth is Depth.FULL)
    tokens = make_token_list(corpus.texts, dimensions.vocab_size)
    frontend = Frontend.of(config["frontend_conf"])
    ingredients = json.dumps([_FORMAT, CONFIGURATION, config, tokens, corpus.sha256])
    sha256 = hashlib.sha256(ingredients.encode()).hexdigest()
    cache = cache.absolute()
    folder = cache / "models" / f"{variant.name}-{dimensions}-{depth}-{sha256[:16]}"
    if not folder.is_dir():
        statistics = measure(corpus, frontend)
        files = {
            "config.yaml": _yaml(config),
            "configuration.json": json.dumps(CONFIGURATION, indent=2) + "\n",
            "tokens.json": json.dumps(tokens, ensure_ascii=False, indent=0) + "\n",
            "seg_dict": seg_dict(tokens, corpus.texts),
            "am.mvn": statistics.am_mvn(),
        }
        with working_folder(cache) as folder_in_cache:
            writing = folder_in_cache / "model"
            writing.mkdir()
            for name, text in files.items():
                (writing / name).write_text(text, encoding="utf-8")
            move_into_place(writing, folder)
    note_use(folder)
    return ModelFolder(path=folder, sha256=sha256, input_size=frontend.size, token_list=tokens)


def _of_user(
    variant: Variant, config: dict[str, Any], source: Path, cache: Path, name: str, *, full_depth: bool
) -> ModelFolder:
    """A user's folder as the others are: their tokens and statistics, and at full depth their weights, by a link."""
    from harness.corpus.features import Frontend
    from harness.releases.cache import move_into_place, working_folder

    tokens = tokens_of(source)
    if not (source / "am.mvn").is_file():
        raise VariantError(
            f"{source.name} has no am.mvn", next_step="put the feature statistics of the model into the folder"
        )
    weights = (source / CHECKPOINT).resolve()
    started = full_depth and weights.is_file()
    if started:
        _reject_no_checkpoint(weights, source)
    files = {
        "config.yaml": _yaml(config).encode(),
        "configuration.json": f"{json.dumps(CONFIGURATION, indent=2)}\n".encode(),
        "tokens.json": f"{json.dumps(tokens, ensure_ascii=False, indent=0)}\n".encode(),
        **{
            name_of_file: read_small(source / name_of_file)
            for name_of_file in ("seg_dict", "am.mvn")
            if (source / name_of_file).is_file()
        },
    }
    sha256 = hashlib.sha256(b"\0".join(part for pair in files.items() for part in (pair[0].encode(), pair[1])))
    if started:
        known = weights.stat()
        sha256.update(f"{weights} {known.st_size} {known.st_mtime_ns}".encode())
    folder = cache.absolute() / "models" / f"{variant.name}-{name}-{sha256.hexdigest()[:16]}"
    if not folder.is_dir():
        with working_folder(cache.absolute()) as folder_in_cache:
            writing = folder_in_cache / "model"
            writing.mkdir()
            for name_of_file, raw in files.items():
                (writing / name_of_file).write_bytes(raw)
            if started:
                (writing / START).symlink_to(weights)
            move_into_place(writing, folder)
    size = Frontend.of(config["frontend_conf"]).size
    return ModelFolder(path=folder, sha256=sha256.hexdigest(), input_size=size, token_list=tokens)


def _reject_no_checkpoint(weights: Path, source: Path) -> None:
    """Refuse a file of weights that no release could load: `torch.save` writes a zip, or a pickle up to torch 1.5.

    Raises:
        VariantError: it is neither, or is cut short.
    """
    preflight = f"run: funasr-harness preflight {source.name}"
    try:
        with weights.open("rb") as file:
            start = file.read(2)
        readable = start == b"\x80\x02" or zipfile.is_zipfile(weights)
    except OSError as error:
        raise VariantError(f"{weights} cannot be read: {error.strerror}", next_step="make it readable") from None
    if not readable:
        size = f"{weights.stat().st_size:,} bytes"
        what = "is cut short" if start == b"PK" else "is no checkpoint of torch's"
        raise VariantError(f"{source.name}/{CHECKPOINT} ({size}) {what}", next_step=preflight)


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text
