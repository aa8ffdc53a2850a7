"""Describes an interpreter: `python describe_environment.py RESULT.json`, or `... RESULT.json fbank` for a trial.

Standard library only until torch is imported, and compatible with older Pythons. The result is written before each step
that may end the interpreter, so that the outside knows how far the script came.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import site
import sys
from typing import Any


def describe(result: str) -> None:
    """Write all facts about this interpreter that the outside needs."""
    spec = importlib.util.find_spec("torchaudio")
    facts: dict[str, Any] = {
        "python_version": platform.python_version(),
        "user_base": site.getuserbase() if site.ENABLE_USER_SITE else None,
        "libraries": _libraries(),
        "torch": None,
        "torch_error": "torch ended the interpreter",
        "torchaudio_folder": os.path.dirname(spec.origin) if spec and spec.origin else None,  # noqa: PTH120
        "torchaudio_error": "torchaudio ended the interpreter",
    }
    _write(result, facts)
    facts["torch"], facts["torch_error"] = _torch()
    _write(result, facts)
    if facts["torch"] is not None:
        facts["torchaudio_error"] = _error_of_importing("torchaudio")
    _write(result, facts)


def try_fbank(result: str) -> None:
    """Compute the features of FunASR's frontends once, and write their shape `[frames, mels]`."""
    _write(result, {"shape": None})
    torch = importlib.import_module("torch")
    kaldi = importlib.import_module("torchaudio.compliance.kaldi")
    features = kaldi.fbank(torch.linspace(-1.0, 1.0, 16000).unsqueeze(0), num_mel_bins=80, sample_frequency=16000)
    _write(result, {"shape": list(features.shape)})


def _torch() -> tuple[dict[str, Any] | None, str | None]:
    error = _error_of_importing("torch")
    if error is not None:
        return None, error
    torch = importlib.import_module("torch")
    available = bool(torch.cuda.is_available())
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if available else []
    version = {"version": str(torch.__version__), "cuda": torch.version.cuda}
    return {**version, "cuda_available": available, "gpu_names": gpus}, None


def _error_of_importing(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except Exception as error:
        text = str(error).strip()
        return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
    return None


def _libraries() -> dict[str, str]:
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        # Of two distributions with one name, the first on the path is imported.
        if name:
            versions.setdefault(name, distribution.version)
    return versions


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(value, file)


if __name__ == "__main__":
    if sys.argv[2:] == ["fbank"]:
        try_fbank(sys.argv[1])
    else:
        describe(sys.argv[1])
