"""What a baseline's file says: on what machine, from which runs, with what noise, and each cell's repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, TypeVar

from harness.core.cells import Cell
from harness.core.numbers import complete_values, count, mapping, number, numbers, sequence
from harness.performance.baselines.keys import Key
from harness.performance.baselines.metrics import CURVE, KINDS, STORED, MeasuredTraining
from harness.performance.baselines.noise import LEAST_REPEATS, Noise
from harness.run.provenance import Provenance

SCHEMA = 1
"""Version of the form of a baseline's file."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class RunOrigin:
    """One run that a baseline was accepted from."""

    started: str
    host: str
    """Operating system and architecture."""
    gpus: tuple[str, ...]
    driver: str | None
    python: str
    harness_version: str
    harness_commit: str | None
    harness_dirty: bool | None

    @classmethod
    def of(cls, origin: Provenance) -> Self:
        """What is kept of a run's provenance."""
        return cls(**{field.name: getattr(origin, field.name) for field in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Runs that were accepted together, and the noise between them."""

    accepted: str
    """UTC, ISO 8601, to the second."""
    matrix: str
    matrix_sha256: str
    corpus_sha256: str | None
    runs: tuple[RunOrigin, ...]
    noise: Mapping[str, Noise]
    """By the names of `KINDS`; empty of what has no repeats."""
    equal_curves: int
    """How many times a cell's losses were repeated to the last digit; 0 where any repeat differed."""


@dataclass(frozen=True, kw_only=True)
class BaselineEntry:
    """One cell: what each of the runs measured."""

    acceptance: int
    """The place of its acceptance in the file."""
    repeats: tuple[MeasuredTraining, ...]
    """One for each run that has the cell, in the runs' order."""

    def values(self, name: str) -> tuple[float, ...]:
        """A figure of each repeat that has it."""
        return tuple(value for training in self.repeats if (value := training.value(name)) is not None)

    @property
    def curves(self) -> tuple[tuple[float, ...], ...]:
        """The losses of each repeat that has them."""
        return tuple(training.curve for training in self.repeats if training.curve is not None)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """All that is accepted for one key."""

    key: Key
    acceptances: tuple[Acceptance, ...]
    cells: Mapping[str, BaselineEntry]
    """By the cell's id."""

    def acceptance_of(self, entry: BaselineEntry) -> Acceptance:
        """Where an entry comes from."""
        return self.acceptances[entry.acceptance]

    def tolerated(self, entry: BaselineEntry) -> tuple[str, ...]:
        """The figures of a cell whose noise is known; its losses are among them where they do not repeat exactly."""
        acceptance = self.acceptance_of(entry)
        names = STORED if acceptance.equal_curves else KINDS
        return tuple(name for name in names if name in acceptance.noise and len(entry.values(name)) >= LEAST_REPEATS)

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {
            "schema": SCHEMA,
            "key": self.key.to_json(),
            "acceptances": [asdict(acceptance) for acceptance in self.acceptances],
            "cells": {name: _entry_to_json(entry) for name, entry in sorted(self.cells.items())},
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: what is wrong, and where.
        """
        raw = mapping(data)
        if raw.get("schema") != SCHEMA or isinstance(raw["schema"], bool):
            raise ValueError(f"a baseline of schema {raw.get('schema')}, this harness reads {SCHEMA}")
        if set(raw) != {"schema", "key", "acceptances", "cells"}:
            raise ValueError("it has not the fields schema, key, acceptances and cells")
        acceptances = tuple(
            _at(f"acceptance {number}", _acceptance, record)
            for number, record in enumerate(sequence(raw["acceptances"]))
        )
        cells = {str(name): _at(str(name), _entry, record) for name, record in mapping(raw["cells"]).items()}
        for name, entry in cells.items():
            _at(name, Cell.parse, name)
            if entry.acceptance >= len(acceptances):
                raise ValueError(f"{name}: there is no acceptance {entry.acceptance}")
        return cls(key=Key.from_json(raw["key"]), acceptances=acceptances, cells=cells)


def _at(place: str, read: Callable[[Any], Item], data: Any) -> Item:
    try:
        return read(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {f'no field {error}' if isinstance(error, KeyError) else error}") from error


def _acceptance(data: Any) -> Acceptance:
    raw = {**data}
    raw["runs"] = tuple(RunOrigin(**{**run, "gpus": tuple(run["gpus"])}) for run in raw["runs"])
    raw["noise"] = {name: _at(name, _noise, record) for name, record in raw["noise"].items()}
    if unknown := sorted(set(raw["noise"]) - set(KINDS)):
        raise ValueError(f"no figure is called {', '.join(unknown)}")
    if count(raw["equal_curves"]) is None:
        raise ValueError(f"equal_curves is {raw['equal_curves']!r}, no number of repeats")
    return Acceptance(**raw)


def _noise(data: Any) -> Noise:
    spread, freedom = number(data["spread"]), number(data["degrees_of_freedom"])
    if spread is None or freedom is None or spread < 0 or freedom <= 0:
        raise ValueError(f"{data} is no spread with its degrees of freedom")
    return Noise(spread=spread, degrees_of_freedom=freedom)


def _entry_to_json(entry: BaselineEntry) -> dict[str, Any]:
    curves = [training.curve for training in entry.repeats]
    # Bit-identical losses are written once.
    losses = {"each": curves[0]} if len(set(curves)) == 1 else {"by_run": curves}
    values = {name: [_shortest(training.values.get(name)) for training in entry.repeats] for name in STORED}
    return {
        "acceptance": entry.acceptance,
        "repeats": len(entry.repeats),
        **{
            name: values_of_repeats
            for name, values_of_repeats in values.items()
            if any(value is not None for value in values_of_repeats)
        },
        CURVE: losses,
    }


def _shortest(value: float | None) -> float | None:
    """Bytes without a point."""
    return int(value) if value is not None and value.is_integer() else value


def _entry(data: Any) -> BaselineEntry:
    acceptance, repeats = count(data["acceptance"]), count(data["repeats"])
    if acceptance is None or not repeats:
        raise ValueError("it has no acceptance, or no repeats")
    if unknown := sorted(set(data) - {"acceptance", "repeats", CURVE, *STORED}):
        raise ValueError(f"no figure is called {', '.join(unknown)}")
    values = {name: _values(name, data[name], repeats) for name in STORED if name in data}
    curves = _curves(data[CURVE], repeats)
    return BaselineEntry(
        acceptance=acceptance,
        repeats=tuple(
            MeasuredTraining(
                values={
                    name: value
                    for name, values_of_repeats in values.items()
                    if (value := values_of_repeats[run]) is not None
                },
                curve=curves[run],
            )
            for run in range(repeats)
        ),
    )


def _values(name: str, data: Any, repeats: int) -> Sequence[float | None]:
    values = numbers(data)
    if len(values) != repeats or any(
        stated_value is not None and (value is None or value <= 0)
        for stated_value, value in zip(data, values, strict=True)
    ):
        raise ValueError(f"{name} is not {repeats} numbers above 0, or null for what could not be had")
    return values


def _curves(data: Any, repeats: int) -> Sequence[tuple[float, ...] | None]:
    stated_curves = [data["each"]] * repeats if "each" in data else data["by_run"]
    curves = [
        None if curve_data is None else complete_values(numbers(curve_data)) for curve_data in sequence(stated_curves)
    ]
    if len(curves) != repeats or any(
        stated_curve is not None and curve is None for stated_curve, curve in zip(stated_curves, curves, strict=True)
    ):
        raise ValueError(f"{CURVE} are not those of {repeats} runs, each a list of finite numbers")
    return curves
