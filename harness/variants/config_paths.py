"""Dotted paths into a FunASR config: `encoder_conf.output_size`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
