"""The command line as a user meets it: a folder with a matrix, a lock and known issues, and two small releases.

Everything is real but torch and the process tree: `FakeStack` and `FakeTree` stand in for them.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from release_files import make_wheel, published

from harness import cli
from harness.commands import common, run
from harness.core.cells import Cell, Outcome, Release, Status
from harness.environments.environment import Environment
from harness.run import Plan, runner

MATRIX = """\
schema = 1
name = "small"
description = "what the tests of the command line run"

[axes]
release = ["1.4.15", "latest"]
variant = ["paraformer"]
vocab_size = [8404]
hidden_size = [320]
depth = ["reduced"]
device = ["cpu"]
check = ["construct", "loss_contract"]
"""

CELL = "1.4.16/paraformer/v8404-h320/reduced/{}/cpu-fp32"

STACK = Environment(
    python=Path("/usr/bin/python3"),
    python_version="3.11.7",
    torch_version="2.13.0+cpu",
    cuda_version=None,
    cuda_available=False,
    gpu_names=(),
    libraries={"torch": "2.13.0+cpu"},
    torchaudio_imports=True,
    user_base=None,
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command left behind."""

    status: int
    out: str
    err: str


@dataclass
class FakeTree:
    """Stands in for `execute`: gives each planned cell an outcome at once, and starts no process."""

    failing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of outcomes by cell id, where they are not to be plain passes."""
    before_each: Callable[[Cell], None] = lambda cell: None
    asked: list[str] = field(default_factory=list)
    """The ids of all cells that it was given, in every run."""
    preloaded: list[tuple[str, ...]] = field(default_factory=list)
    """What each run imports for all releases."""
    limits: list[dict[str, float]] = field(default_factory=list)
    """The time limits of each run, by check."""

    def __call__(self, plan: Plan, on_outcome: Callable[[Outcome], None], **_others: Any) -> None:
        self.preloaded.append(plan.settings.preload)
        self.limits.append({str(check): seconds for check, seconds in plan.settings.timeout_seconds.items()})
        for outcome in plan.decided:
            on_outcome(outcome)
        for cell in plan.cells.values():
            self.before_each(cell)
            self.asked.append(cell.id)
            fields = {"status": Status.PASSED, "reason": "", **self.failing.get(cell.id, {})}
            on_outcome(Outcome(cell=cell, **fields))


@dataclass
class World:
    """A user's folder, which is also the current one."""

    folder: Path
    cache: Path
    tree: FakeTree
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    @property
    def matrix(self) -> Path:
        return self.folder / "matrices" / "small.toml"

    @property
    def output(self) -> Path:
        return self.folder / "runs" / "small"

    def write_matrix(self, old: str = "", new: str = "") -> None:
        """The matrix, with one part replaced."""
        assert old in MATRIX
        self.matrix.write_text(MATRIX.replace(old, new) if old else MATRIX, encoding="utf-8")

    def call(self, *arguments: str) -> Said:
        """One command, in this process."""
        try:
            status = cli.main(list(arguments))
        except SystemExit as error:
            status = int(error.code or 0)
        except KeyboardInterrupt:
            # pytest would take it for its own user's.
            pytest.fail("KeyboardInterrupt came out of the command")
        said = self.capsys.readouterr()
        return Said(status=status, out=said.out, err=said.err)

    def run(self, *options: str) -> Said:
        """`run` over the matrix, with the stand-ins."""
        return self.call("run", "matrices/small.toml", "--cache", str(self.cache), *options)

    def use_stack(self, **changed: Any) -> None:
        """Have `probe` find this stack."""
        self.monkeypatch.setattr(common, "probe", lambda **_: replace(STACK, **changed))

    def never(self, name: str) -> None:
        """Fail the test when a command gets as far as calling this."""

        def called(*_: object, **__: object) -> None:
            pytest.fail(f"{name} was called")

        module = {"probe": common, "execute": runner}.get(name, run)
        self.monkeypatch.setattr(module, name, called)

    def written(self) -> list[dict[str, Any]]:
        """The outcomes on disk."""
        return [json.loads(line) for line in (self.output / "outcomes.jsonl").read_text().splitlines()]


def make_world(folder: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    """A folder with what a clone has, and the current one from here on."""
    (folder / "matrices").mkdir(parents=True)
    world = World(folder=folder, cache=cache, tree=FakeTree(), capsys=capsys, monkeypatch=monkeypatch)
    world.write_matrix()
    (folder / "matrices" / "known_issues.toml").write_text("schema = 1\n")
    write_lock(folder / "matrices" / "releases.lock.toml", carry_releases(cache))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(runner, "execute", world.tree)
    world.use_stack()
    return world


def carry_releases(cache: Path, versions: Sequence[str] = ("1.4.15", "1.4.16")) -> list[Release]:
    """Small wheels in the place of a cache from which releases are laid out without an index."""
    return [published(make_wheel(cache / "files", version)) for version in versions]


def write_lock(path: Path, releases: Sequence[Release]) -> None:
    """A lock of these releases."""
    lines = ["schema = 1", 'package = "funasr"', "made = 2026-01-31"]
    for release in releases:
        lines += ["[[release]]"]
        lines += [f'{key} = "{getattr(release, key)}"' for key in ("version", "filename", "sha256", "kind")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_wave(path: Path, *, seconds: float = 1.0, rate: int = 16_000) -> Path:
    """A recording of next to nothing."""
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(rate)
        audio.writeframes(bytes((7 * step) % 251 for step in range(2 * int(seconds * rate))))
    return path
