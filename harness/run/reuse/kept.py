"""Outcomes and fingerprints of earlier runs, in the cache: one file for cells that differ in their release alone.

A file that cannot be read holds nothing; nothing is lost with it but time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from harness.core.cells import Outcome
from harness.core.durable import replace_file
from harness.releases.holdings import note_use
from harness.run.reuse.fingerprint import DependencyKind, Fingerprint

FOLDER = "reuse"
"""In the cache."""
MOST_OF_A_KIND = 128
"""Outcomes in a file: there are 101 releases, and of most code fewer states."""
MOST_BYTES = 256 << 20
"""Of all files together; those go first that were not used for longest."""
Registrations = tuple[tuple[str, str, str], ...]
"""Table, name and module of each component that a release registers, in the order of a full import."""
_SCHEMA = 2
_ORDERS = "registrations"
"""Key of the file that has them for all releases."""
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class KnownOutcome:
    """A cell that ran."""

    outcome: Outcome
    """Before it was judged."""
    fingerprint: Fingerprint

    def to_json(self) -> dict[str, Any]:
        """The record as a file holds it."""
        rows = [[kind, name, value] for (kind, name), value in self.fingerprint.items()]
        return {"outcome": self.outcome.to_json(), "fingerprint": rows}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read what `to_json` wrote; what has not its form raises one of several exceptions."""
        recorded = {(DependencyKind(kind), str(name)): str(value) for kind, name, value in data["fingerprint"]}
        return cls(outcome=Outcome.from_json(data["outcome"]).as_declared(), fingerprint=recorded)


class KeptOutcomes:
    """What earlier runs in one environment, with the harness's present code, found out."""

    def __init__(self, cache: Path, identity: str) -> None:
        """`identity` names all that decides an outcome besides the release and the request."""
        self._folder = cache / FOLDER
        self._identity = identity

    def load(self, key: str) -> list[KnownOutcome]:
        """The outcomes of cells that have this in common."""
        path = self.path(key)
        note_use(path)
        return _read(path)

    def save(self, key: str, known: Sequence[KnownOutcome]) -> None:
        """Keep these outcomes, the newest last; without any, forget what there was.

        Raises:
            OSError: the cache cannot be written to.
        """
        path = self.path(key)
        if not known:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"schema": _SCHEMA, "known": [outcome.to_json() for outcome in known[-MOST_OF_A_KIND:]]}
        replace_file(path, gzip.compress(json.dumps(data).encode(), mtime=0), durable=False)

    def load_orders(self) -> dict[str, Registrations]:
        """In which order releases register their components, by the name of the folder of each."""
        path = self.path(_ORDERS)
        note_use(path)
        try:
            data = json.loads(gzip.decompress(path.read_bytes()))
            return {
                folder: tuple((str(table), str(name), str(module)) for table, name, module in rows)
                for folder, rows in data["orders"].items()
            }
        except _DAMAGED:
            return {}

    def save_orders(self, orders: Mapping[str, Registrations]) -> None:
        """Keep these as well.

        Raises:
            OSError: the cache cannot be written to.
        """
        path = self.path(_ORDERS)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"orders": {**self.load_orders(), **orders}}
        replace_file(path, gzip.compress(json.dumps(data).encode(), mtime=0), durable=False)

    def prune(self) -> None:
        """Remove the files that were not used for longest, until the others are few enough."""
        files = sorted(self._folder.glob("*.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """The file of cells that have this in common."""
        name = hashlib.sha256(f"{self._identity}\n{key}".encode()).hexdigest()
        return self._folder / f"{name}.json.gz"


def all_kept(cache: Path) -> Iterator[KnownOutcome]:
    """Everything that is kept, whatever environment it is from."""
    for path in sorted((cache / FOLDER).glob("*.gz")):
        yield from _read(path)


def _read(path: Path) -> list[KnownOutcome]:
    try:
        data = json.loads(gzip.decompress(path.read_bytes()))
        return [KnownOutcome.from_json(record) for record in data["known"]] if data["schema"] == _SCHEMA else []
    except _DAMAGED:
        return []
