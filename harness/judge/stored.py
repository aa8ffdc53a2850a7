"""Counter-examples that are kept beside the known issues, so that what is known to fail is not searched for again.

They lie in `counterexamples/` beside the file of known issues, each as `ISSUE.VARIANT.yaml`, in the form in which an
outcome of `properties` and the report give them: the config, and the example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.cells import Cell, Check
from harness.durable import storage_error
from harness.judge.known import KnownIssues

FOLDER = "counterexamples"
FINDING = "PropertyFails"

Stored = Callable[[Cell], Mapping[str, str]]
"""For a cell of `properties`: the stored counter-example of each property that is known to fail there, by its name."""


def nothing_stored(_cell: Cell) -> Mapping[str, str]:
    """Every property is searched."""
    return {}


def stored_beside(issues: KnownIssues, file: Path) -> Stored:
    """What lies beside a file of known issues; an issue without a stored counter-example is searched for.

    The function that is returned raises `StoreError` where a counter-example is there and cannot be read.
    """
    folder = file.parent / FOLDER

    def stored(cell: Cell) -> dict[str, str]:
        if cell.check is not Check.PROPERTIES:
            return {}
        found = {}
        for issue in issues.matching(cell):
            path = folder / f"{issue.id}.{cell.variant}.yaml"
            for signature in issue.signatures:
                kind, _, name = signature.partition("@")
                if kind == FINDING and path.is_file():
                    found[name] = _read(path)
        return found

    return stored


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise storage_error(error if isinstance(error, OSError) else OSError(0, "not UTF-8"), path, "read") from error
