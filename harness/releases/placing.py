"""An installed release as one piece, so that a machine without a package index gets it from one that has it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from harness.core.cells import Release
from harness.core.errors import FetchError
from harness.releases import manifest
from harness.releases.cache import install_path, move_into_place, remove, storage_errors, working_folder
from harness.releases.holdings import hold


def packed_release(release: Release, cache: Path) -> bytes:
    """The installed files of a release, as a compressed archive.

    Raises:
        StoreError: it cannot be read.
    """
    target = io.BytesIO()
    with storage_errors(cache), tarfile.open(fileobj=target, mode="w:gz", compresslevel=1) as archive:
        archive.add(install_path(release, cache), arcname=".", filter=_without_bytecode)
    return target.getvalue()


def is_placed(release: Release, cache: Path) -> bool:
    """Whether the release is installed there, as it was installed; a copy that was changed since is taken away."""
    place = install_path(release, cache)
    hold(cache, [place.name])
    with storage_errors(cache):
        if not place.is_dir():
            return False
        if changed := bool(manifest.changes(place)):
            remove(place, cache)
        return not changed


def place_release(release: Release, content: bytes, cache: Path) -> None:
    """Install what `packed_release` made on another machine, where its hash was verified.

    May be called by several processes at once: the first whole copy stays.

    Raises:
        FetchError: the archive is no release.
        StoreError: the disk is full, or the cache cannot be written to.
    """
    place = install_path(release, cache)
    with working_folder(cache) as folder_in_cache, storage_errors(cache):
        unpacked = folder_in_cache / place.name
        unpacked.mkdir()
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                archive.extractall(unpacked, filter="data")
        except tarfile.TarError as error:
            raise FetchError(f"what was sent as release {release.label} cannot be unpacked: {error}") from error
        manifest.protect(unpacked)
        move_into_place(unpacked, place)
        manifest.record(place)


def _without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name.split("/") else entry
