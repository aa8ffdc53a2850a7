"""The result file of a bundle, and how it is imported as a run."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.bundle.archive import SCHEMA, Manifest
from harness.core.documents import parse_json
from harness.core.durable import write_file, write_json
from harness.core.errors import InputError, StoreError
from harness.core.temporary import temporary_folder
from harness.rules.apply import apply_rules
from harness.run.archive import MOST_COMPRESSED
from harness.run.store import OUTCOMES, RUN, LoadedRun, RunStore, load_run

DESCRIPTION = "result.json"
ORIGIN = "bundle.json"
"""The file of an imported run that says from which bundle it comes."""

_FILES = (OUTCOMES, RUN)
_MOST_BYTES = 1 << 29
_ALWAYS_BYTES = 1 << 24
"""So much is read however well it was compressed."""
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_LONGEST_SHOWN = 80
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, struct.error),
    *(KeyError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError),
)
"""What damaged archives and JSON raise; RecursionError is a RuntimeError."""


def write_result(run: Path, manifest: Manifest, path: Path) -> None:
    """Write a run, finished or not, as one file.

    Raises:
        StoreError: it cannot be written.
    """
    contents = {name: (run / name).read_bytes() for name in _FILES}
    description = {
        "schema": SCHEMA,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "bundle": {
            "manifest_sha256": hashlib.sha256(manifest.text().encode()).hexdigest(),
            "matrix": manifest.matrix,
            "matrix_sha256": manifest.matrix_sha256,
            "python": manifest.python,
            "platform": manifest.platform,
            "left_out": dict(manifest.left_out),
            "libraries": {name: library.version for name, library in manifest.libraries.items()},
            "harness_version": manifest.harness_version,
            "harness_commit": manifest.harness_commit,
            "harness_dirty": manifest.harness_dirty,
        },
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False) + "\n")
        for name, content in contents.items():
            archive.writestr(name, content)
    write_file(path, written.getvalue())


def import_result(path: Path, folder: Path | None) -> Path:
    """Make a run's folder of a result file: its outcomes with their checks' rules applied, and their origin.

    Args:
        folder: The run's folder; `runs/<matrix>` if None. It must not hold a run.

    Raises:
        InputError: the file is no result, or is damaged.
        StoreError: the folder has a run already, or cannot be written.
    """
    contents, bundle = _read(path)
    run = _loaded(path, contents)
    provenance = replace(run.provenance, harness_commit=bundle["harness_commit"], harness_dirty=bundle["harness_dirty"])
    place = folder or Path("runs") / _folder_name(path, provenance.matrix)
    with RunStore.open(place) as store:
        if store.load():
            raise StoreError(f"{place} has a run already", next_step="import into another folder, with -o")
        store.begin(provenance)
        write_json(place / ORIGIN, bundle)
        for outcome in run.outcomes:
            store.append(apply_rules(outcome))
    return place


def _folder_name(path: Path, matrix: object) -> str:
    """The matrix's name as that of a folder: it comes out of the file, and a path would lead anywhere."""
    if not (isinstance(matrix, str) and _NAME.fullmatch(matrix)):
        raise InputError(
            f"{path} is of a matrix named {str(matrix)[:_LONGEST_SHOWN]!r}, which is no name of a folder",
            next_step="name the folder to import it into, with -o",
        )
    return matrix


def _read(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_bomb(path, archive)
            description = parse_json(archive.read(DESCRIPTION))
            contents = {name: archive.read(name) for name in _FILES}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except _UNREADABLE as error:
        raise _unusable(path, f"it is not what a bundle's run wrote ({error})") from None
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        raise _unusable(path, "it is of another schema: the bundle was made by another version of the harness")
    files, bundle = description.get("files"), description.get("bundle")
    if not isinstance(files, dict) or not isinstance(bundle, dict):
        raise _unusable(path, f"{DESCRIPTION} in it does not say of which files and which bundle it is")
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != files.get(name):
            raise _unusable(path, f"{name} in it is not what was written")
    for key, kind in (("harness_commit", str), ("harness_dirty", bool)):
        if key not in bundle or not isinstance(bundle[key], kind | None):
            raise _unusable(path, f"{DESCRIPTION} in it has no {key}, or one of another type")
    return contents, bundle


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what unpacks to far more than it is; nothing is unpacked beyond the size that an entry states."""
    entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > _MOST_BYTES or unpacked > max(_ALWAYS_BYTES, MOST_COMPRESSED * packed):
        raise _unusable(path, f"it unpacks to {unpacked} bytes, more than any run of its size")


def _loaded(path: Path, contents: dict[str, bytes]) -> LoadedRun:
    with temporary_folder("import") as folder:
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        try:
            return load_run(folder)
        except StoreError as error:
            raise _unusable(path, error.what.replace(f"{folder}/", "")) from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise _unusable(path, f"{type(error).__name__}: {error}") from None


def _unusable(path: Path, cause: str) -> InputError:
    return InputError(
        f"{path} is no result of a bundle, or is damaged",
        cause=cause,
        next_step="copy the file from the host again: it is the one that `python bundle.pyz run` wrote",
    )
