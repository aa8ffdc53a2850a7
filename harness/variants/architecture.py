"""What is particular about the training of an architecture, as data: what it is fed, and what its loss is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config.toml_tables import Table, did_you_mean


def look_up(config: Mapping[str, Any], path: str) -> object:
    """The value at a dotted path.

    Raises:
        KeyError: the path leads nowhere.
    """
    value: object = config
    for key in path.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[key]
    return value


def put(config: dict[str, Any], path: str, value: int) -> None:
    *parents, last = path.split(".")
    for key in parents:
        config = config[key]
    config[last] = value


KEYS = ("losses", "loss_is", "without_loss", "projection_width", "labels_before_text", "no_hotword")

_COMPLEMENT = "1 - "


@dataclass(frozen=True, kw_only=True)
class ArchitectureTraits:
    """What the contract checks besides what holds of every model; empty for a model of which nothing is stated."""

    losses: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """The loss modules that carry the training, by name, with the projections whose scores they receive.
    All of them have to be called; where none is stated, one of those that the model has."""
    loss_is: Mapping[str, tuple[str | float, ...]] = field(default_factory=dict, hash=False)
    """The statistics that the loss is the sum of, each with its weight's factors: numbers, paths of the config, and
    `1 - ` such a path."""
    without_loss: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Beginnings of parameters' names that the published loss does not reach, each with the reason."""
    projection_width: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Projections that take another number of features than the hidden size, with the path that says how many."""
    labels_before_text: tuple[tuple[int, ...], ...] = ()
    """Token ids that come before the text, for each place those that it may be."""
    no_hotword: str | None = None
    """The path of the label in the place of a hotword where there is none."""

    def largest_label(self, config: Mapping[str, Any]) -> int:
        """The largest token id that the architecture itself needs; -1 if it needs none."""
        labels = [label for place in self.labels_before_text for label in place]
        if self.no_hotword:
            labels.append(int(str(_value(config, self.no_hotword))))
        return max(labels, default=-1)

    def to_dict(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """For the contract's request, with the paths looked up in a rendered config; empty when nothing is stated."""
        traits: dict[str, Any] = {
            "losses": {name: list(feeding) for name, feeding in self.losses.items()},
            "loss_is": {name: _weight(config, factors) for name, factors in self.loss_is.items()},
            "without_loss": list(self.without_loss),
            "projection_width": {name: _value(config, path) for name, path in self.projection_width.items()},
            "labels_before_text": [list(place) for place in self.labels_before_text],
            "no_hotword": _value(config, self.no_hotword) if self.no_hotword else None,
        }
        return {key: value for key, value in traits.items() if value not in ({}, [], None)}


def read_traits(table: Table, config: Mapping[str, Any]) -> ArchitectureTraits:
    """The traits in a `harness` block; what is wrong with it is noted among the block's problems."""
    no_hotword = table.text("no_hotword") if table.has("no_hotword") else None
    traits = ArchitectureTraits(
        losses={name: _names(table, "losses", value) for name, value in _mapping(table, "losses").items()},
        loss_is={name: _factors(table, value) for name, value in _mapping(table, "loss_is").items()},
        without_loss={name: str(reason) for name, reason in _mapping(table, "without_loss").items()},
        projection_width={name: str(path) for name, path in _mapping(table, "projection_width").items()},
        labels_before_text=_labels(table),
        no_hotword=no_hotword,
    )
    paths = [("projection_width", path) for path in traits.projection_width.values()]
    paths += [("no_hotword", no_hotword)] if no_hotword else []
    paths += [("loss_is", path) for factors in traits.loss_is.values() for path in _paths(factors)]
    for key, path in paths:
        _check_number(table, key, path, config)
    return traits


def _mapping(table: Table, key: str) -> Mapping[str, Any]:
    value = table.values.get(key, {})
    if not isinstance(value, Mapping):
        table.problems.add(table.at(key), "expected a mapping")
        return {}
    return {str(name): item for name, item in value.items()}


def _names(table: Table, key: str, value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        table.problems.add(table.at(key), f"expected the names of projections, found {value!r}")
        return ()
    return tuple(names)


def _factors(table: Table, value: object) -> tuple[str | float, ...]:
    factors = value if isinstance(value, list) else [value]
    legal = [factor for factor in factors if isinstance(factor, str | int | float) and not isinstance(factor, bool)]
    if not factors or len(legal) < len(factors):
        table.problems.add(table.at("loss_is"), f"expected numbers and paths of the config, found {value!r}")
        return ()
    return tuple(factor if isinstance(factor, str) else float(factor) for factor in legal)


def _labels(table: Table) -> tuple[tuple[int, ...], ...]:
    value = table.values.get("labels_before_text", [])
    places = value if isinstance(value, list) else [value]
    if not all(isinstance(place, list) and place and all(map(_is_label, place)) for place in places):
        table.problems.add(table.at("labels_before_text"), "expected a list of token ids for each place")
        return ()
    return tuple(tuple(place) for place in places)


def _is_label(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _paths(factors: tuple[str | float, ...]) -> Iterator[str]:
    return (factor.removeprefix(_COMPLEMENT) for factor in factors if isinstance(factor, str))


def _check_number(table: Table, key: str, path: str, config: Mapping[str, Any]) -> None:
    try:
        value = _value(config, path)
    except KeyError:
        near = did_you_mean(path, _leaves(config))
        table.problems.add(table.at(key), f"{path} is not in the config, {near}")
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        table.problems.add(table.at(key), f"{path} must be a number in the config, found {value!r}")


def _weight(config: Mapping[str, Any], factors: tuple[str | float, ...]) -> float:
    return math.prod(_factor(config, factor) for factor in factors)


def _factor(config: Mapping[str, Any], factor: str | float) -> float:
    if not isinstance(factor, str):
        return factor
    value = float(str(_value(config, factor.removeprefix(_COMPLEMENT))))
    return 1 - value if factor.startswith(_COMPLEMENT) else value


def _value(config: Mapping[str, Any], path: str) -> object:
    return look_up(config, path)


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
