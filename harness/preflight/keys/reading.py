"""What a release's code reads of its settings: the answer that is kept per release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ReadAt:
    """One place where a setting is read."""

    where: str
    """`funasr/train_utils/trainer_ds.py:98`."""
    default: str = ""
    """What the code takes where the setting is missing, as it is written; empty where it is none or no constant."""
    annotation: str = ""
    """The parameter's type, as it is written."""


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """A call that passes a section on to what takes a fixed set of parameters."""

    callee: str
    takes: tuple[str, ...]
    where: str


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A component that the code looks up by the name in a setting."""

    path: str
    name: str | None
    """What it was; None where the setting is missing."""
    table: str
    known: tuple[str, ...]
    """The names that the release has."""
    found: bool
    where: str
    default: str = ""
    """The name that is taken where the setting is missing."""


@dataclass(kw_only=True)
class Reading:
    """All that is read of the settings on the way from the entry point to the last step of a training."""

    read: dict[str, ReadAt] = field(default_factory=dict)
    """By dotted path."""
    whole: dict[str, str] = field(default_factory=dict)
    """Sections that go on to code that was not followed, with its place: any key of theirs may be read."""
    fixed: dict[str, list[Fixed]] = field(default_factory=dict)
    """Sections of which any other key is a TypeError."""
    given: dict[str, dict[str, str]] = field(default_factory=dict)
    """Per section, keys that the code passes itself in the same call: there a setting is a TypeError."""
    lookups: list[Lookup] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """For the cache."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], known: Callable[[str], list[str]]) -> Reading:
        """From the cache.

        Args:
            known: The names in a table of the release; those of the reading may be another's.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it has another form.
        """
        return cls(
            read={path: ReadAt(**record) for path, record in document["read"].items()},
            whole=dict(document["whole"]),
            fixed={
                path: [Fixed(**{**record, "takes": tuple(record["takes"])}) for record in calls]
                for path, calls in document["fixed"].items()
            },
            given={path: dict(keys) for path, keys in document["given"].items()},
            lookups=[
                Lookup(**{**record, "known": tuple(known(record["table"]) or record["known"])})
                for record in document["lookups"]
            ],
        )

    def is_read(self, path: str) -> bool:
        """Whether a setting is read, or may be."""
        if path in self.read:
            return self._whole_above(path) or self._arrives(path)
        return self._whole_above(path)

    def _arrives(self, path: str) -> bool:
        above = path.rpartition(".")[0]
        return not above or above in self.read or self.is_read(above)

    def _whole_above(self, path: str) -> bool:
        above = path.rpartition(".")[0]
        while above:
            if above in self.whole or (above in self.read and not self.has_keys(above)):
                return True
            above = above.rpartition(".")[0]
        return False

    def has_keys(self, section: str) -> bool:
        """Whether keys of a section are known to be read, or that a call takes it apart."""
        prefix = f"{section}."
        return section in self.fixed or any(path.startswith(prefix) for path in self.read)

    def keys(self, section: str) -> list[str]:
        """The keys of a section that are read."""
        prefix = f"{section}." if section else ""
        names = {path[len(prefix) :].split(".")[0] for path in self.read if path.startswith(prefix)}
        return sorted(name for name in names if name)
