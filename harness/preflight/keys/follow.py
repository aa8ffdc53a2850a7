"""From the entry point of a release on: all that its code reads of the user's settings."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.preflight.code.release_code import ReleaseCode
from harness.preflight.code.source_file import digest_of
from harness.preflight.code.stored import reader_version, store, stored
from harness.preflight.keys.denoted import Conf, Defined
from harness.preflight.keys.interpreter import KeyInterpreter
from harness.preflight.keys.reading import Reading
from harness.preflight.keys.source import Seen, Source
from harness.preflight.settings import SettingsInForce

MOST_STORED = 24
"""Readings that are kept per entry point, trainer and `AutoModel`: they differ by the components that settings name."""
_TRAINERS = ("funasr.train_utils.trainer", "funasr.train_utils.trainer_ds")


class Asked:
    """The settings as the code sees them; notes on which of them the reading depends."""

    def __init__(self, settings: SettingsInForce, config: SettingsInForce, is_model: Any) -> None:
        """`config` is config.yaml's alone: `++model` of a command names the folder, and `model` there the class."""
        self.settings, self.config, self.is_model = settings, config, is_model
        self.values: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    @functools.cached_property
    def _sections(self) -> frozenset[str]:
        paths = [setting.path.split(".") for setting in self.settings]
        return frozenset(".".join(parts[:length]) for parts in paths for length in range(1, len(parts)))

    def _effective_value(self, path: str) -> Any:
        if path == "model" and not self.is_model(str(self.settings.get(path))):
            return self.config.get(path)
        setting = self.settings.by_path.get(path)
        return setting.value if setting else ({} if path in self._sections else None)

    def value_of(self, path: str) -> Any:
        """The setting at a path."""
        value = self._effective_value(path)
        self.values[path] = _written(value)
        return value

    def kind_of(self, path: str) -> str:
        """What the setting at a path is."""
        self.kinds[path] = kind = _kind(self._effective_value(path))
        return kind

    def agrees(self, values: Mapping[str, str], kinds: Mapping[str, str]) -> bool:
        """Whether a reading that depended on these has the same result here."""
        return all(_written(self._effective_value(path)) == value for path, value in values.items()) and all(
            _kind(self._effective_value(path)) == kind for path, kind in kinds.items()
        )


def _written(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _kind(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return "section"
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else "other"


def read_keys(
    code: ReleaseCode, entry: str, settings: SettingsInForce, config: SettingsInForce, *, cache: Path | None
) -> Reading:
    """What a release reads of the settings; from the cache where it was found out before, of this or another release
    with the same code.
    """
    source = Source(code)
    place = cache / "preflight" / "keys" / _name(source, entry) if cache else None
    consulted = Asked(settings, config, lambda name: source.has("model_classes", name))
    cached_readings = _cached_readings(place) if place else []
    for cached in cached_readings:
        try:
            if consulted.agrees(cached["values"], cached["kinds"]) and Seen.from_json(cached["seen"]).holds_in(source):
                return Reading.from_json(cached["reading"], source.known)
        except (KeyError, TypeError, ValueError, AttributeError):
            break
    reading = follow(source, entry, consulted)
    if place:
        about = {"values": consulted.values, "kinds": consulted.kinds, "seen": source.seen.to_json()}
        store(place, [{**about, "reading": reading.to_json()}, *cached_readings][:MOST_STORED])
    return reading


def _name(source: Source, entry: str) -> str:
    """Readings with the same entry point, trainer and `AutoModel` lie in one file."""
    modules = (f"funasr.bin.{entry}", "funasr.auto.auto_model", *_TRAINERS)
    return f"{entry}-{digest_of(' '.join(map(source.digest, modules)).encode())}-{reader_version()}.json"


def _cached_readings(place: Path) -> list[dict[str, Any]]:
    document = stored(place)
    return document if isinstance(document, list) and all(isinstance(record, dict) for record in document) else []


def follow(source: Source, entry: str, consulted: Asked) -> Reading:
    """Read the release's code from `main_hydra` of an entry point."""
    reader = KeyInterpreter(source=source, value_of=consulted.value_of, kind_of=consulted.kind_of)
    all_settings = frozenset([Conf("")])
    for name in ("main_hydra", "main"):
        for function in source.resolve(f"funasr.bin.{entry}", name):
            if isinstance(function, Defined):
                # Both take one mapping of everything.
                reader.run(function, {"kwargs": all_settings}, owner=None, certain=True)
    reading = reader.reading
    # `model` is a name; what seems to be below it is an accident of merging mappings.
    reading.read = {path: where_read for path, where_read in reading.read.items() if not path.startswith("model.")}
    return reading
