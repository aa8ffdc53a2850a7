"""`commits.json` next to a run's outcomes: the commits that made its transitions, for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.documents import LARGEST_JSON, parse_json, read_bytes
from harness.core.durable import storage_error, write_json
from harness.core.earlier_schemas import with_present_ids
from harness.core.errors import DamagedFileError
from harness.core.evidence.parsing import parse

COMMITS = "commits.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class CommitNote:
    """A commit that made a transition, as a run's report shows it."""

    asked: str
    """What was run, a cell's id without the release."""
    before: str
    """Labels of the releases on both sides."""
    after: str
    commit: str
    author: str
    date: str
    subject: str
    files: tuple[str, ...]
    """Those that it changes and that ran in the cell."""
    among: int
    """How many commits before it could not be judged, of which it may be one."""


def add_commits(folder: Path, notes: Sequence[CommitNote]) -> Path:
    """Add commits to those of a run's report; earlier ones of the same transition and cell are replaced.

    Raises:
        StoreError: the file cannot be read or written.
    """
    replaced = {(note.asked, note.before, note.after) for note in notes}
    remaining = [note for note in load_commits(folder) if (note.asked, note.before, note.after) not in replaced]
    path = folder / COMMITS
    write_json(path, {"schema": SCHEMA, "commits": [asdict(note) for note in (*remaining, *notes)]})
    return path


def load_commits(folder: Path) -> tuple[CommitNote, ...]:
    """The commits that were found for a run's transitions; none where nothing was searched.

    Raises:
        DamagedFileError: the file is damaged.
    """
    path = folder / COMMITS
    try:
        data = parse_json(with_present_ids(read_bytes(path, LARGEST_JSON).decode("utf-8")))
        return _notes(data)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} does not say which commits made the transitions: {error}",
            cause="the file was edited, or written by another version of the harness",
            next_step="remove it, and search again with: funasr-harness bisect --git PATH --note RUN",
        ) from error


def _notes(data: Mapping[str, Any]) -> tuple[CommitNote, ...]:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']}, this harness reads {SCHEMA}")
    return parse(tuple[CommitNote, ...], data["commits"], place="commits", strict=True)
