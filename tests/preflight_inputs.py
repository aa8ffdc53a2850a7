"""Inputs of preflight as the command line makes them: a model folder, files, overrides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from user_folders import environment

from harness.environments.environment import Environment
from harness.preflight.command import TrainingCommand
from harness.preflight.findings import Place, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.settings import Setting, SettingsInForce, read_config
from harness.releases import default_cache, load_lock, resolve

LOCK = Path(__file__).parent.parent / "matrices" / "releases.lock.toml"


def user_inputs(
    model: Path,
    install_dir: Path,
    *,
    train: Path | None = None,
    valid: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    entry: str | None = None,
    gpus: int | None = None,
    root: Path | None = None,
    known: Environment | None = None,
) -> Inputs:
    """What the user named; `overrides` are the command's `++key=value`."""
    settings = tuple(
        Setting(path=path, value=value, place=Place(key=path), from_command=True, text=f"++{path}={value}")
        for path, value in (overrides or {}).items()
    )
    (release,) = resolve(install_dir.name.partition("-")[0], load_lock(LOCK))
    return Inputs(
        model=model,
        release=release,
        install_dir=install_dir,
        cache=default_cache(),
        environment=known or environment(),
        train=train,
        valid=valid,
        command=TrainingCommand(overrides=settings, entry=entry),
        config=read_config(model / "config.yaml") if (model / "config.yaml").is_file() else SettingsInForce(),
        gpus=gpus,
        card=None,
        root=root or model.parent,
    )


def rules(part: PreflightPart) -> dict[str, PreflightFinding]:
    """The findings by their rule."""
    return {one.rule: one for one in part.findings}
