"""What FunASR's own training scripts pass, release by release: recorded from its repository, with the commits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

RECIPES: Mapping[str, str] = {
    "Paraformer": "examples/industrial_data_pretraining/paraformer/finetune.sh",
    "ParaformerStreaming": "examples/industrial_data_pretraining/paraformer_streaming/finetune.sh",
    "SeacoParaformer": "examples/industrial_data_pretraining/seaco_paraformer/finetune.sh",
    "BiCifParaformer": "examples/industrial_data_pretraining/bicif_paraformer/finetune.sh",
    "ContextualParaformer": "examples/industrial_data_pretraining/contextual_paraformer/finetune.sh",
    "SenseVoiceSmall": "examples/industrial_data_pretraining/sense_voice/finetune.sh",
    "FunASRNano": "examples/industrial_data_pretraining/fun_asr_nano/finetune.sh",
    "Conformer": "examples/aishell/conformer/run.sh",
    "Transformer": "examples/aishell/transformer/run.sh",
    "Branchformer": "examples/aishell/branchformer/run.sh",
    "EParaformer": "examples/aishell/e_paraformer/run.sh",
}
"""By the `model` of config.yaml. The other architectures have no script of their own."""


@dataclass(frozen=True, kw_only=True)
class ShippedScript:
    """One script as it was in some releases."""

    script: str
    """Its place in FunASR's repository."""
    entry: str | None
    launcher: str
    settings: Mapping[str, Any]
    """Keys and values; of a file's place only its name."""
    releases: Mapping[str, str]
    """Release to commit."""


@cache
def shipped_scripts() -> tuple[ShippedScript, ...]:
    """All that is recorded; how, `tests/record_shipped_scripts.py` says."""
    text = files("harness.preflight.release").joinpath("shipped_scripts.json").read_text("utf-8")
    return tuple(
        ShippedScript(
            script=record["script"],
            entry=record["entry"],
            launcher=record["launcher"],
            settings=record["settings"],
            releases=record["releases"],
        )
        for record in json.loads(text)["scripts"]
    )


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def recorded_releases() -> tuple[str, ...]:
    """The releases whose scripts are recorded, oldest first."""
    return tuple(sorted({release for shipped in shipped_scripts() for release in shipped.releases}, key=numbers))


def script_for(model: str, version: tuple[int, ...]) -> tuple[ShippedScript, str] | None:
    """The script of an architecture's recipe in the newest recorded release that is not newer, and which that is."""
    place = RECIPES.get(model)
    for release in reversed(recorded_releases()):
        if numbers(release) > version:
            continue
        for shipped in shipped_scripts():
            if shipped.script == place and release in shipped.releases:
                return shipped, release
    return None
