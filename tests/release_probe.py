"""What a release makes of model folders and a jsonl file; runs inside the release: `python release_probe.py ANSWERS`.

The questions come as JSON by standard input, the answers go to the file, each under its question's name:
a release takes seconds to import, so one process answers all.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from funasr import AutoModel


def models(question: dict[str, Any]) -> list[dict[str, Any]]:
    """The shapes of the models that `AutoModel` builds from the folders."""
    return [_model(AutoModel(model=folder, device="cpu", disable_update=True)) for folder in question["folders"]]


def _model(auto: Any) -> dict[str, Any]:
    weight = auto.model.decoder.output_layer.weight
    return {
        "class": type(auto.model).__name__,
        "input_size": auto.kwargs["input_size"],
        "outputs": weight.shape[0],
        "hidden_size": weight.shape[1],
        "normalised": auto.kwargs["frontend"].cmvn is not None,
    }


def tokens(question: dict[str, Any]) -> list[list[str]]:
    """The tokens that the folder's tokenizer makes of each text."""
    tokenizer = AutoModel(model=question["folder"], device="cpu", disable_update=True).kwargs["tokenizer"]
    return [tokenizer.ids2tokens(tokenizer.encode(text)) for text in question["texts"]]


def rows(question: dict[str, Any]) -> list[dict[str, Any]]:
    """What the release's index reads of a jsonl file."""
    from funasr.datasets.audio_datasets import index_ds  # noqa: F401
    from funasr.register import tables

    index = tables.index_ds_classes.get("IndexDSJsonl")(question["jsonl"])
    return [{**index[number], "length": index.get_source_len(index[number])} for number in range(len(index))]


def features(question: dict[str, Any]) -> dict[str, list[float]]:
    """Mean and deviation of the offline frontend's features, by dimension, over all files, without dither."""
    import soundfile
    import torch
    from funasr.frontends.wav_frontend import WavFrontend

    frontend = WavFrontend(cmvn_file=question["cmvn_file"], dither=0.0, lfr_m=7, lfr_n=6)
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in question["files"]]
    made = torch.cat([frontend(wave[None], torch.tensor([len(wave)]))[0][0] for wave in waves])
    return {"means": made.mean(0).tolist(), "deviations": made.std(0).tolist()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = {name: globals()[name](question) for name, question in json.load(sys.stdin).items()}
    Path(sys.argv[1]).write_text(json.dumps(answers), encoding="utf-8")
