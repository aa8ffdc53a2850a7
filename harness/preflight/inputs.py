"""What the user named, read once: all parts of preflight look at these."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.core.cells import Device, Outcome, Release
from harness.environments.environment import Environment
from harness.preflight.code.release_code import ReleaseCode, code_of
from harness.preflight.command import TrainingCommand
from harness.preflight.settings import SettingsInForce


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A user's model folder, data, command and release."""

    model: Path
    """The folder, absolute; or a file that the user calls a model."""
    release: Release
    install_dir: Path
    """The folder in the cache in which the release is installed: `install_dir / "funasr"`."""
    cache: Path
    environment: Environment
    """The interpreter with torch in which the release runs."""
    train: Path | None
    """A jsonl; None where none was named."""
    valid: Path | None
    command: TrainingCommand
    """What `--script` or the words after `--` say; with neither, nothing is overridden."""
    config: SettingsInForce
    """Of the folder's config; empty where it cannot be read."""
    gpus: int | None
    """`--gpus`; None where it was not given."""
    card: str | None
    """`--gpu`, such as `24GB` or `RTX 4090`; None where it was not given."""
    root: Path
    """The working directory of the training: relative paths of the command and the jsonl start here."""
    config_path: Path | None = None
    """The config in force, where configuration.json or the command names another than the folder's config.yaml."""
    release_found: str = ""
    """How the release was found, and what of an installed one was edited."""
    read_all_audio: bool = False
    """Whether every recording is decoded, and not a sample."""
    dry_run: bool = False
    """Whether the release's trainer takes a few steps."""
    device: Device = Device.CPU
    """Where it takes them."""
    answers: dict[str, Outcome] = field(default_factory=dict, compare=False, repr=False)
    """The measurements made of the release so far, see `harness.preflight.release.release_questions`."""

    @property
    def config_file(self) -> Path:
        """Where `config` was read."""
        return self.config_path or self.model / "config.yaml"

    @cached_property
    def settings(self) -> SettingsInForce:
        """In force: the config with the command's overrides."""
        return self.config.merged(self.command.overrides)

    @property
    def code(self) -> ReleaseCode:
        """The release's code, read and never run."""
        return code_of(self.install_dir, self.cache)

    @property
    def processes(self) -> int:
        """How many processes train: `--gpus`, else `--nproc_per_node` of the script, else 1."""
        return self.gpus or self.command.processes or 1

    @property
    def version(self) -> tuple[int, ...]:
        """The release's version as numbers: `(1, 4, 16)`."""
        parts = self.release.version.split("+")[0].split(".")
        return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts[:3])
