"""From the entry point of a release on: all that its code reads of the user's settings."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.preflight.keys.denoted import Conf, Defined
from harness.preflight.keys.interpreter import KeyInterpreter
from harness.preflight.keys.reading import Reading
from harness.preflight.keys.source import Source, source_of
from harness.preflight.settings import SettingsInForce

MOST_STORED = 24
"""Readings that are kept per release and entry point: they differ by the components that the settings name."""


class Asked:
    """The settings as the code sees them; notes on which of them the reading depends."""

    def __init__(self, settings: SettingsInForce, config: SettingsInForce, is_model: Any) -> None:
        """`config` is config.yaml's alone: `++model` of a command names the folder, and `model` there the class."""
        self.settings, self.config, self.is_model = settings, config, is_model
        self.values: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    @functools.cached_property
    def _sections(self) -> frozenset[str]:
        paths = [one.path.split(".") for one in self.settings]
        return frozenset(".".join(parts[:length]) for parts in paths for length in range(1, len(parts)))

    def _found(self, path: str) -> Any:
        if path == "model" and not self.is_model(str(self.settings.get(path))):
            return self.config.get(path)
        found = self.settings.by_path.get(path)
        return found.value if found else ({} if path in self._sections else None)

    def value_of(self, path: str) -> Any:
        """The setting at a path."""
        found = self._found(path)
        self.values[path] = _written(found)
        return found

    def kind_of(self, path: str) -> str:
        """What the setting at a path is."""
        self.kinds[path] = kind = _kind(self._found(path))
        return kind

    def agrees(self, values: Mapping[str, str], kinds: Mapping[str, str]) -> bool:
        """Whether a reading that depended on these has the same result here."""
        return all(_written(self._found(path)) == value for path, value in values.items()) and all(
            _kind(self._found(path)) == kind for path, kind in kinds.items()
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
    overlay: Path, entry: str, settings: SettingsInForce, config: SettingsInForce, *, cache: Path | None
) -> Reading:
    """What a release reads of the settings; from the cache where it was found out before."""
    place = cache / "preflight" / "keys" / f"{overlay.name}-{entry}-{_version()}.json" if cache else None
    source = source_of(overlay)
    asked = Asked(settings, config, lambda name: source.has("model_classes", name))
    stored = _stored(place) if place else []
    for one in stored:
        try:
            if asked.agrees(one["values"], one["kinds"]):
                return Reading.from_json(one["reading"])
        except (KeyError, TypeError, ValueError, AttributeError):
            break
    reading = follow(source, entry, asked)
    if place:
        one = {"values": asked.values, "kinds": asked.kinds, "reading": reading.to_json()}
        _store(place, [one, *stored][:MOST_STORED])
    return reading


def follow(source: Source, entry: str, asked: Asked) -> Reading:
    """Read the release's code from `main_hydra` of an entry point."""
    reader = KeyInterpreter(source=source, value_of=asked.value_of, kind_of=asked.kind_of)
    whole = frozenset([Conf("")])
    for name in ("main_hydra", "main"):
        for function in source.resolve(f"funasr.bin.{entry}", name):
            if isinstance(function, Defined):
                # Both take one mapping of everything.
                reader.run(function, {"kwargs": whole}, owner=None, certain=True)
    reading = reader.reading
    # `model` is a name; what seems to be below it is an accident of merging mappings.
    reading.read = {path: one for path, one in reading.read.items() if not path.startswith("model.")}
    return reading


@functools.cache
def _version() -> str:
    """Of this reading: a change of its code makes what is stored worthless."""
    here = Path(__file__).parent
    text = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    return hashlib.sha256(text).hexdigest()[:12]


def _stored(place: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else []


def _store(place: Path, readings: list[dict[str, Any]]) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(json.dumps(readings), encoding="utf-8")
        draft.replace(place)
    except OSError:
        # A cache that cannot be written costs a second, and no answer.
        return
