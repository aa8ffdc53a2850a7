"""Counter-examples that are stored with the known issues, so that what is known to fail is not searched for again.

They are in `counterexamples/` next to the file of known issues, each as `ISSUE.VARIANT.yaml`, in the form in which an
outcome of `properties` and the report give them: the config, and the example.
"""

from __future__ import annotations

from pathlib import Path

from harness.core.cells import Cell, Check
from harness.core.durable import storage_error
from harness.rules.known_issues import KnownIssues
from harness.run.prepare import StoredExamples

FOLDER = "counterexamples"
FINDING = "PropertyFails"


def load_counterexamples(issues: KnownIssues, file: Path) -> StoredExamples:
    """The stored counter-examples of a file of known issues; without one, the cell searches.

    The function that is returned raises `StoreError` where a counter-example is there and cannot be read.
    """
    folder = file.parent / FOLDER

    def stored(cell: Cell) -> dict[str, str]:
        if cell.check is not Check.PROPERTIES:
            return {}
        examples = {}
        for issue in issues.matching(cell):
            path = folder / f"{issue.id}.{cell.variant}.yaml"
            for signature in issue.signatures:
                kind, _, name = signature.partition("@")
                if kind == FINDING and path.is_file():
                    examples[name] = _read(path)
        return examples

    return stored


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise storage_error(error if isinstance(error, OSError) else OSError(0, "not UTF-8"), path, "read") from error
