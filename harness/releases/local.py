"""Releases that the user has as a file or a folder: a wheel, an sdist, a checkout."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.releases import checkout
from harness.releases.files import PACKAGE, file_sha256, unusable

_INIT = f"{PACKAGE}/__init__.py"


def read_local(path: Path) -> Release:
    """The release that a wheel, an sdist or a checkout holds; nothing of it is run or unpacked.

    Raises:
        ReleaseError: it is not there, not readable, or holds no FunASR.
    """
    path = path.expanduser().resolve()
    try:
        if path.is_dir():
            checkout.declared_requirements(path)
            kind, version, sha256 = "checkout", checkout.stated_version(path), checkout.sha256(path)
        elif not path.exists():
            raise ReleaseError(f"no such release: {path}", next_step="give a wheel, an sdist or a checkout that exists")
        elif path.name.endswith(".whl"):
            kind, version, sha256 = "wheel", _wheel_version(path), file_sha256(path)
        elif path.name.endswith(".tar.gz"):
            kind, version, sha256 = "sdist", _sdist_version(path), file_sha256(path)
        else:
            raise unusable(path, "it is neither a wheel (.whl) nor an sdist (.tar.gz) nor a folder")
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error
    try:
        public = Version(version).public
    except InvalidVersion:
        raise unusable(path, f"it states the version {version!r}, which is none") from None
    label = f"{public}+local.{sha256[:8]}"
    return Release(label=label, version=version, kind=kind, filename=path.name, sha256=sha256, path=path)


def unpack_wheel(wheel: Path, target: Path) -> None:
    """Unpack a wheel, its `.dist-info` included, after looking at the names of all its entries.

    Raises:
        ReleaseError: the file is damaged, or an entry would be written outside the target.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            _look_through(wheel, archive)
            archive.extractall(target)  # noqa: S202 - the names have been looked at
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise unusable(wheel, f"it is not a whole wheel: {error}") from error


def _wheel_version(wheel: Path) -> str:
    try:
        with zipfile.ZipFile(wheel) as archive:
            _look_through(wheel, archive)
            metadata = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            if len(metadata) != 1:
                raise unusable(wheel, "it has no METADATA")
            return _stated_version(wheel, archive.read(metadata[0]))
    except zipfile.BadZipFile as error:
        raise unusable(wheel, f"it is not a wheel: {error}") from error


def _look_through(wheel: Path, archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename)
        astray = parts.is_absolute() or ".." in parts.parts or "\\" in entry.orig_filename
        if astray or stat.S_ISLNK(entry.external_attr >> 16):
            raise unusable(wheel, f"its entry {entry.filename!r} leads out of the folder that it is unpacked in")
    if _INIT not in archive.namelist():
        raise unusable(wheel, f"there is no {_INIT} in it")


def _sdist_version(sdist: Path) -> str:
    metadata = None
    package = False
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            for member in archive:
                inner = PurePosixPath(member.name).parts[1:]
                package |= inner == tuple(_INIT.split("/"))
                if inner == ("PKG-INFO",) and (file := archive.extractfile(member)):
                    metadata = file.read()
    except (tarfile.TarError, EOFError) as error:
        raise unusable(sdist, f"it is not an sdist: {error}") from error
    if not package:
        raise unusable(sdist, f"there is no {_INIT} in it")
    if metadata is None:
        raise unusable(sdist, "it has no PKG-INFO")
    return _stated_version(sdist, metadata)


def _stated_version(path: Path, metadata: bytes) -> str:
    stated = HeaderParser().parsestr(metadata.decode("utf-8", "replace")).get("Version")
    if not stated:
        raise unusable(path, "its metadata state no version")
    return str(stated)
