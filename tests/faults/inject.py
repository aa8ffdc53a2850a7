"""Planting: a copy of a laid-out release with one fault in it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.core.cells import Release
from harness.releases import manifest
from harness.releases.cache import install_path, move_into_place, working_folder
from harness.releases.local import PACKAGE

from .records import Edit, Fault


class AnchorError(Exception):
    """The place of an edit is not in the file, or is there more than once."""


def changed(text: str, edit: Edit) -> str:
    """The text of a file with the edit made.

    Raises:
        AnchorError: the place is not there, or not unique.
    """
    start = 0
    if edit.below:
        if (count := text.count(edit.below)) != 1:
            raise AnchorError(f"{edit.below!r} stands there {count} times")
        start = text.index(edit.below) + len(edit.below)
    elif (count := text.count(edit.old)) != 1:
        raise AnchorError(f"{edit.old!r} stands there {count} times")
    place = text.find(edit.old, start)
    if place < 0:
        raise AnchorError(f"{edit.old!r} does not stand below {edit.below!r}")
    return text[:place] + edit.new + text[place + len(edit.old) :]


def patched(package: Path, fault: Fault) -> dict[str, str]:
    """The files of a fault with its edits made, by their names below the package.

    Raises:
        AnchorError: a place is not there, or not unique; with the name of the file.
    """
    texts: dict[str, str] = {}
    for edit in fault.edits:
        for name in edit.files:
            text = texts[name] if name in texts else (package / name).read_text("utf-8")
            try:
                texts[name] = changed(text, edit)
            except AnchorError as error:
                raise AnchorError(f"{fault.name}: {name}: {error}") from None
    return texts


def release_of(fault: Fault, sound: Release) -> Release:
    """The faulty copy as a release; its label carries the fault's name, its hash what was changed."""
    digest = hashlib.sha256(repr((sound.sha256, fault.edits)).encode()).hexdigest()
    return replace(sound, label=f"{sound.label}+fault.{fault.name}", sha256=digest)


def plant(fault: Fault, sound: Release, cache: Path) -> Release:
    """Lay the faulty copy out in the cache, where the harness looks for a release of its label.

    What is not changed is linked: a copy costs the entries of its folders, and two kilobytes of text.
    """
    release = release_of(fault, sound)
    place = install_path(release, cache)
    if place.is_dir():
        if not manifest.manifest_path(place).exists():
            # its wheel states the sound release's hashes
            manifest.record(place)
        return release
    origin = install_path(sound, cache)
    texts = patched(origin / PACKAGE, fault)
    with working_folder(cache) as room:
        made = room / place.name
        shutil.copytree(origin, made, copy_function=_link)
        for name, text in texts.items():
            file = made / PACKAGE / name
            file.unlink()  # the link, not the sound release's file
            file.write_text(text, "utf-8")
        move_into_place(made, place)
    manifest.record(place)
    return release


def clear(releases: Iterable[Release], cache: Path) -> None:
    """Remove faulty copies in the cache that are not among these: those of an older catalogue."""
    wanted = {install_path(release, cache) for release in releases}
    for place in (cache / "releases").glob("*+fault.*"):
        if place not in wanted:
            shutil.rmtree(place, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target
