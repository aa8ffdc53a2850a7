"""The matrix of a power run: every faulty copy, the sound release, and the sound release again with other seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.config.matrix import Matrix, load_matrix
from harness.core.cells import Cell, Check, Entry, Release
from harness.core.errors import ReleaseError
from harness.run.prepare import Prepared
from harness.variants.catalogue import available

from .configurations import CONFIGURATIONS, VARIANTS, Configuration, named
from .inject import release_of
from .records import Fault

WITH_ENTRY = tuple(check for check in Check if check.through_trainer)
"""The checks that name a trainer's entry point."""

REPEATS: Mapping[Check, int] = MappingProxyType(
    {
        Check.CONSTRUCT: 50,
        Check.LOSS_CONTRACT: 50,
        Check.PROPERTIES: 4,
        Check.DATA: 5,
        Check.FINETUNE: 5,
        Check.CHECKPOINT: 1,
        Check.DECODE: 1,
    }
)
"""How often each check is asked of the sound release, each time with another seed; what takes long less often."""

_CHANGED = "variants"
"""The folder of the variants' files that configurations change, beside the matrix."""

SHAPE = {"vocab_size": [1200], "hidden_size": [64]}
"""Small, because no fault hides behind width; no two of its numbers are equal, so that none stands for another."""

DECODING_SHAPE = {"vocab_size": [1200], "hidden_size": [320]}
"""For what is decoded: so wide a model knows its utterances after the steps that `decode` gives it."""

SETTINGS = """
[limits]
timeout_seconds = { construct = 30, loss_contract = 30 }

[finetune]
# A model 64 wide learns in as many steps as the published width does only at a higher rate; at 0.002 it does not reach
# the constant prediction's loss, and a sound release would be called one that does not learn.
learning_rate = 0.01
# One less than a user gets: the verdicts have less to go by here, and each training fewer minutes to take.
seeds = 2

[properties]
# What a planted fault breaks is broken by every second example, so there is no need to draw many: five at least.
examples = 200

[decode]
# The sound release passes the bound after as many steps (docs/checks.md#decode).
steps = 160
"""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Which releases a power run asks, and what of each."""

    sound: Release
    faults: tuple[Fault, ...]
    repeats: Mapping[Check, int]
    configurations: tuple[Configuration, ...] = ()
    """In which the sound release is asked besides, once each."""

    def faulty(self) -> dict[str, Fault]:
        """The faults that are planted in a copy, by the copy's label."""
        return {release_of(fault, self.sound).label: fault for fault in self.faults if fault.edits}

    def repeated(self) -> dict[str, int]:
        """The sound release's further names, and the seed of each."""
        most = max(self.repeats.values(), default=0)
        return {f"{self.sound.label}+repeat.{seed}": seed for seed in range(1, most + 1)}

    def releases(self) -> dict[str, Release]:
        """Every release of the run, by label."""
        planted = (release_of(fault, self.sound) for fault in self.faults if fault.edits)
        again = (replace(self.sound, label=label) for label in self.repeated())
        return {release.label: release for release in (self.sound, *planted, *again)}

    def text(self) -> str:
        """The matrix, as TOML."""
        planted = self.faulty()
        tables = [_about(label, fault) for label, fault in planted.items()]
        # What the sound release gives there: a finding that it has itself is not the fault's.
        tables += [_about(self.sound.label, fault) for fault in planted.values()]
        for label, seed in self.repeated().items():
            checks = [check for check, times in self.repeats.items() if seed <= times]
            below = _words((check for check in checks if check is not Check.DECODE), Entry.TRAIN_DS)
            tables.append(_include(label, list(VARIANTS), below, SHAPE))
            if Check.DECODE in checks:
                decoding = _words([Check.DECODE], Entry.TRAIN_DS)
                tables.append(_include(label, ["paraformer_streaming"], decoding, DECODING_SHAPE))
        for one in self.configurations:
            variants = [_file(named(variant, one.name)) for variant in VARIANTS]
            tables.append(_include(self.sound.label, variants, _words(one.checks, Entry.TRAIN_DS), SHAPE))
        head = 'schema = 1\nname = "power"\ndescription = "Planted faults, and the sound release again and again."\n'
        return "\n".join([head, *dict.fromkeys(tables)]) + SETTINGS

    def matrix(self, path: Path) -> Matrix:
        """The matrix, written to `path` and read as any other; the variants that it changes are written beside it."""
        (path.parent / _CHANGED).mkdir(exist_ok=True)
        needed = {CONFIGURATIONS[fault.configuration] for fault in self.faults if fault.configuration}
        for one in needed | set(self.configurations):
            for variant in VARIANTS:
                one.written(variant, path.parent / _CHANGED)
        path.write_text(self.text(), "utf-8")
        found = partial(_find, self.releases())
        return load_matrix(path, resolve=found, variants=available(), gpu_present=False)


@dataclass(frozen=True, kw_only=True)
class RepeatedRequests:
    """What the processes of a power run receive; the sound release's further names are the sound release."""

    prepared: Prepared
    scheme: Scheme

    def __getattr__(self, name: str) -> Any:
        """All else is as for any matrix."""
        return getattr(self.prepared, name)

    def release_for(self, label: str) -> dict[str, Any]:
        """The release that the label means."""
        entering = self.prepared.release_for(label)
        if label in self.scheme.repeated():
            entering["install_dir"] = self.prepared.release_for(self.scheme.sound.label)["install_dir"]
        return entering

    def request_for(self, cell: Cell) -> dict[str, Any]:
        """The cell's request; under a further name with another seed."""
        request, seeds = self.prepared.request_for(cell), self.scheme.repeated()
        if cell.release in seeds:
            seed = request["seed"] + seeds[cell.release]
            request |= {"release": self.release_for(cell.release), "seed": seed}
            if "seed" in request.get("settings", {}):
                request["settings"] = {**request["settings"], "seed": seed}
        return request


def _words(checks: Iterable[Check], entry: Entry) -> list[str]:
    return [f"{check}@{entry}" if check in WITH_ENTRY else str(check) for check in checks]


def _about(label: str, fault: Fault) -> str:
    """A fault's checks, asked of its copy or of the sound release."""
    shape = DECODING_SHAPE if fault.expected.check is Check.DECODE else SHAPE
    changed = _file(named(fault.variant, fault.configuration)) if fault.configuration else fault.variant
    return _include(label, [changed], _words(fault.checks, fault.entry), shape)


def _file(variant: str) -> str:
    return f"{_CHANGED}/{variant}.yaml"


def _include(label: str, variants: Sequence[str], checks: Sequence[str], shape: Mapping[str, Sequence[int]]) -> str:
    keys: dict[str, object] = {"release": [label], "variant": variants, **shape, "depth": ["reduced"], "check": checks}
    keys["device"] = ["cpu"]
    return "\n".join(["[[include]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""])


def _find(releases: Mapping[str, Release], label: str) -> tuple[Release, ...]:
    if label not in releases:
        raise ReleaseError(f"no such release: {label}", next_step="it is one of the run's own")
    return (releases[label],)
