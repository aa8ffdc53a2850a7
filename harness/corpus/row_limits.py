"""Which rows of a jsonl file a release leaves out by its own limits, and why.

The limits stand in `dataset_conf`; who compares what with them changed over the releases, as read in each of them:

| releases | where | left out is |
| --- | --- | --- |
| 1.0.0 – 1.0.5 | `index_ds.py` | nothing, but a row without `prompt`, `source_len` or `target_len` is a KeyError |
| | `samplers.py` | source_len + target_len above max_token_length (5000 where the config names none) |
| 1.0.6 – 1.0.17 | `samplers.py` | source_len ÷ length_scale_source above it (1500); by length: + target_len |
| since 1.0.18 | `samplers.py` | source_len ÷ length_scale_source above it (no limit) |
| since 1.0.20 | `samplers.py` | by frames: source_len above it (2048) |
| since 1.0.24 | `index_ds.py` | source_len outside min_ to max_source_length (0 to 2048), target_len likewise |
| since 1.0.26 | `index_ds.py` | source_len + target_len above max_token_length (2200) |
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.config.toml_tables import did_you_mean
from harness.corpus.jsonl import JsonlRow, frames_of

RELATIVE = 0.05
"""How far a stated length may be from the recording's and still be it: 5 %, and not less than `ABSOLUTE`."""

ABSOLUTE = 5.0
"""In frames of 10 ms: windows at the end are counted in several ways, and times are rounded."""

MOST_OF = 0.9
"""A file is in a unit when so large a share of its measured rows is."""


class Unit(StrEnum):
    """What a `source_len` counts; of two that fit, the first is taken."""

    FRAMES = "frames of 10 ms"
    SAMPLES = "samples"
    BYTES = "bytes"
    MILLISECONDS = "milliseconds"
    SECONDS = "seconds"
    STACKED = "stacked frames of 60 ms"


@dataclass(frozen=True, kw_only=True)
class Length:
    """A row's stated length and its recording's."""

    stated: float
    seconds: float
    """Of the recording."""
    rate: int
    """Samples a second."""
    channels: int

    @property
    def frames(self) -> int:
        """What `source_len` should be."""
        return frames_of(self.seconds * 1000)

    @property
    def unit(self) -> Unit | None:
        """The first unit in which the stated length is the recording's; None where it is in none."""
        return next((unit for unit in Unit if self.is_in(unit)), None)

    def is_in(self, unit: Unit) -> bool:
        """Whether the stated length is the recording's in this unit."""
        a_second = self._in_a_second(unit)
        tolerance = max(RELATIVE * self.seconds, ABSOLUTE / 100)
        if unit is Unit.SECONDS and self.stated == int(self.stated):
            # A whole number of them is all that is left of the fraction.
            tolerance = max(tolerance, 1.0)
        return abs(self.stated / a_second - self.seconds) <= tolerance

    def _in_a_second(self, unit: Unit) -> float:
        return {
            Unit.FRAMES: 100.0,
            Unit.SAMPLES: float(self.rate),
            Unit.BYTES: 2.0 * self.rate * self.channels,
            Unit.MILLISECONDS: 1000.0,
            Unit.SECONDS: 1.0,
            Unit.STACKED: 100 / 6,
        }[unit]


def unit_of(lengths: Sequence[Length]) -> Unit | None:
    """The unit that nearly all of these are in; None where there is no such unit, or no length."""
    fitting = Counter(unit for length in lengths for unit in Unit if length.is_in(unit))
    return next((unit for unit in Unit if lengths and fitting[unit] >= MOST_OF * len(lengths)), None)


def wrong(lengths: Iterable[tuple[int, Length]]) -> list[tuple[int, Length]]:
    """Those, each with its line, that are not the recording's in frames of 10 ms."""
    return [(line, length) for line, length in lengths if not length.is_in(Unit.FRAMES)]


DATASET = "dataset_conf."

_RULES = ((1, 0, 0), (1, 0, 6), (1, 0, 18), (1, 0, 20), (1, 0, 24), (1, 0, 26))
_FRAMES_SINCE = (1, 0, 20)
_ROW_LIMITS_SINCE = (1, 0, 24)
_SUM_SINCE = (1, 0, 26)


@dataclass(frozen=True, kw_only=True)
class RowLimits:
    """What `dataset_conf` says about the rows that are left out; None where it says nothing."""

    max_token_length: float | None = None
    length_scale_source: float = 1.0
    max_source_length: float | None = None
    min_source_length: float = 0.0
    max_target_length: float | None = None
    min_target_length: float = 0.0
    batch_type: str = "example"

    @classmethod
    def of(cls, dataset_conf: Mapping[str, Any], overrides: Mapping[str, Any]) -> RowLimits:
        """The limits in force: the config's, and before them the trainer's overrides (`dataset_conf.NAME`).

        The harness's own trainings use batches by example, unless an override says otherwise.
        """
        conf = {**dataset_conf, "batch_type": "example"}
        conf |= {name.removeprefix(DATASET): value for name, value in overrides.items() if name.startswith(DATASET)}
        numbers = {
            name: float(conf[name])
            for name in cls.__dataclass_fields__
            if name != "batch_type" and isinstance(conf.get(name), int | float)
        }
        return cls(**numbers, batch_type=str(conf["batch_type"]))


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row that is not trained on."""

    line: int
    key: str
    reason: str
    """Part of a sentence: what is above or below which limit."""


def left_out(row: JsonlRow, limits: RowLimits, version: tuple[int, ...]) -> str:
    """Why a release leaves the row out by its own rules; empty when it trains on it."""
    if not row.source:
        return _about_source(row)
    source = 1.0 if row.source_len is None else row.source_len
    target = row.target_len or 0.0
    if version < (1, 0, 6):
        if row.lacking:
            return f"no `{row.lacking[0]}`, which releases up to 1.0.5 require of every row (KeyError)"
        return _above(source + target, _or(limits.max_token_length, 5000.0), "source_len + target_len")
    if version < (1, 0, 18):
        scaled = source / limits.length_scale_source
        if limits.batch_type == "length":
            return _above(scaled + target, _or(limits.max_token_length, 1500.0), "source_len + target_len")
        return _above(scaled, _or(limits.max_token_length, 1500.0), "source_len")
    return _of_index(source, target, limits, version) or _of_sampler(source, limits, version)


def _of_index(source: float, target: float, limits: RowLimits, version: tuple[int, ...]) -> str:
    if version < _ROW_LIMITS_SINCE:
        return ""
    tokens = _or(limits.max_token_length, 2200.0)
    if version >= _SUM_SINCE and source + target > tokens:
        return _above(source, tokens, "source_len") or _above(source + target, tokens, "source_len + target_len")
    return (
        _above(source, _or(limits.max_source_length, 2048.0), "source_len", "max_source_length")
        or _below(source, limits.min_source_length, "source_len", "min_source_length")
        or _above(target, _or(limits.max_target_length, 2048.0), "target_len", "max_target_length")
        or _below(target, limits.min_target_length, "target_len", "min_target_length")
    )


def _of_sampler(source: float, limits: RowLimits, version: tuple[int, ...]) -> str:
    if limits.batch_type != "example":
        if version < _FRAMES_SINCE:
            return ""
        return _above(source, _or(limits.max_token_length, 2048.0), "source_len")
    if limits.max_token_length is None:
        return ""
    return _above(source / limits.length_scale_source, limits.max_token_length, "source_len")


def _about_source(row: JsonlRow) -> str:
    names = [name for name in json.loads(row.content) if name not in ("key", "target", "source_len", "target_len")]
    hint = f" ({did_you_mean('source', names)})" if names else ""
    return f"no `source`{hint}"


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _above(value: float, limit: float, subject: str, name: str = "max_token_length") -> str:
    return f"{subject} is {value:g}, above {name} {limit:g}" if value > limit else ""


def _below(value: float, limit: float, subject: str, name: str) -> str:
    return f"{subject} is {value:g}, below {name} {limit:g}" if value < limit else ""


def rules_of(version: str) -> tuple[int, ...]:
    """The release that brought the rules by which this version leaves rows out."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return max((rule_release for rule_release in _RULES if rule_release <= numbers), default=_RULES[0])
