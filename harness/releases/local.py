"""Releases that the user has as a file or a folder: a wheel, an sdist, a checkout."""

from __future__ import annotations

import ast
import hashlib
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from harness.core.cells import Release
from harness.core.documents import LARGEST_TOML, parse_toml, read_bytes
from harness.core.errors import IntegrityError, ReleaseError
from harness.core.versions import version_of

PACKAGE = "funasr"
"""Name on the package index and of the package that is imported."""


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unusable_release(path: Path, cause: str) -> ReleaseError:
    """The error for something that the user named and that is no FunASR release."""
    next_step = "give a wheel, an sdist or a checkout of FunASR 1.x"
    return ReleaseError(f"not a FunASR release: {path}", cause=cause, next_step=next_step)


def hash_mismatch(release: Release, got: str) -> IntegrityError:
    """The error for a file that is not the one which was locked."""
    return IntegrityError(
        f"release {release.label}: {release.filename} is not the file that was locked\n"
        f"    expected sha256 {release.sha256}\n    got      sha256 {got}",
        cause="the file was replaced or damaged, or the index is not the one that the lock was made from",
        next_step="do not use it; find out where it came from, then fetch again or make the lock again",
    )


_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, MemoryError),
)
"""What damaged archives raise."""
LARGEST_METADATA = 4 << 20
"""Bytes."""
_INIT = f"{PACKAGE}/__init__.py"


def read_local(path: Path) -> Release:
    """The release that a wheel, an sdist or a checkout holds; nothing of it is run or unpacked.

    Raises:
        ReleaseError: it is not there, not readable, or holds no FunASR.
    """
    path = path.expanduser().resolve()
    try:
        if path.is_dir():
            declared_requirements(path)
            kind, version, sha256 = "checkout", stated_version(path), checkout_sha256(path)
        elif not path.exists():
            raise ReleaseError(f"no such release: {path}", next_step="give a wheel, an sdist or a checkout that exists")
        elif path.name.endswith(".whl"):
            kind, version, sha256 = "wheel", _wheel_version(path), file_sha256(path)
        elif path.name.endswith(".tar.gz"):
            kind, version, sha256 = "sdist", _sdist_version(path), file_sha256(path)
        else:
            raise unusable_release(path, "it is neither a wheel (.whl) nor an sdist (.tar.gz) nor a folder")
    except OSError as error:
        raise unusable_release(path, error.strerror or str(error)) from error
    parsed_version = version_of(version)
    if parsed_version is None:
        raise unusable_release(path, f"it states the version {version[:80]!r}, which is none")
    label = f"{parsed_version.public}+local.{sha256[:8]}"
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
    except _DAMAGED as error:
        raise unusable_release(wheel, f"it is not a whole wheel: {error}") from error


def _wheel_version(wheel: Path) -> str:
    try:
        with zipfile.ZipFile(wheel) as archive:
            _look_through(wheel, archive)
            metadata = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            if len(metadata) != 1:
                raise unusable_release(wheel, "it has no METADATA")
            with archive.open(metadata[0]) as file:
                return _stated_version(wheel, file.read(LARGEST_METADATA))
    except _DAMAGED as error:
        raise unusable_release(wheel, f"it is not a wheel: {error}") from error


def _look_through(wheel: Path, archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename)
        astray = parts.is_absolute() or ".." in parts.parts or "\\" in entry.orig_filename
        if astray or stat.S_ISLNK(entry.external_attr >> 16):
            raise unusable_release(wheel, f"its entry {entry.filename!r} leads out of the folder")
    if _INIT not in archive.namelist():
        raise unusable_release(wheel, f"there is no {_INIT} in it")


def _sdist_version(sdist: Path) -> str:
    metadata = None
    package = False
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            for member in archive:
                inner = PurePosixPath(member.name).parts[1:]
                package |= inner == tuple(_INIT.split("/"))
                if inner == ("PKG-INFO",) and (file := archive.extractfile(member)):
                    metadata = file.read(LARGEST_METADATA)
    except (*_DAMAGED, tarfile.TarError) as error:
        raise unusable_release(sdist, f"it is not an sdist: {error}") from error
    if not package:
        raise unusable_release(sdist, f"there is no {_INIT} in it")
    if metadata is None:
        raise unusable_release(sdist, "it has no PKG-INFO")
    return _stated_version(sdist, metadata)


def _stated_version(path: Path, metadata: bytes) -> str:
    version = HeaderParser().parsestr(metadata.decode("utf-8", "replace")).get("Version")
    if not version:
        raise unusable_release(path, "its metadata state no version")
    return str(version)


LARGEST_CODE = 1 << 20
"""Bytes of a setup.py; FunASR's has seven thousand."""
_LONGEST_VERSION = 1000
"""Bytes that are read of it."""
_DECLARING = ("setup.py", "pyproject.toml")


def stated_version(root: Path) -> str:
    """The version in `funasr/version.txt`, where FunASR's own setup.py reads it in every 1.x release.

    Raises:
        ReleaseError: the folder is no checkout.
    """
    if not (root / PACKAGE / "__init__.py").is_file():
        if (root / "__init__.py").is_file() and root.name == PACKAGE:
            above = f"give the folder above: {root.parent}"
            raise ReleaseError(f"not a FunASR checkout: {root}", cause="it is the package itself", next_step=above)
        raise unusable_release(root, f"there is no {PACKAGE}/__init__.py in it")
    version_file = root / PACKAGE / "version.txt"
    if not version_file.is_file():
        raise unusable_release(root, f"there is no {PACKAGE}/version.txt in it")
    with version_file.open("rb") as file:
        return file.read(_LONGEST_VERSION).decode("utf-8", "replace").strip()


def checkout_sha256(root: Path) -> str:
    """The sha256 over name and hash of every file that counts, in the order of their names.

    Those are the files of the package, and those next to it that declare what it requires.
    """
    digest = hashlib.sha256()
    for name in _files(root):
        digest.update(f"{file_sha256(root / name)}  {name}\n".encode())
    return digest.hexdigest()


def copy_checkout(root: Path, target: Path) -> str:
    """Copy what counts of a checkout and give the hash of what was really copied."""
    for name in _files(root):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, place)
    return checkout_sha256(target)


def make_importable(copied: Path, version: str) -> None:
    """Turn a copy into what an installed release looks like: the package and its metadata, nothing else."""
    lines = ["Metadata-Version: 2.1", f"Name: {PACKAGE}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in declared_requirements(copied)]
    metadata = copied / f"{PACKAGE}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in _DECLARING:
        (copied / name).unlink(missing_ok=True)


def declared_requirements(root: Path) -> list[str]:
    """What a checkout requires, read without running any of its code; empty if it does not say so in these places.

    FunASR's setup.py has kept it in one literal, `requirements = {"install": [...], ...}`, throughout 1.x;
    `[project] dependencies` in pyproject.toml is where it would move to.

    Raises:
        ReleaseError: one of the two files cannot be read.
    """
    try:
        return _declared(root)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        # The last two are what Python's parser makes of brackets and signs by the thousand.
        raise unusable_release(root, f"its setup.py or pyproject.toml cannot be read: {error}") from error


def _declared(root: Path) -> list[str]:
    if (root / "pyproject.toml").is_file():
        project = parse_toml(read_bytes(root / "pyproject.toml", LARGEST_TOML).decode("utf-8")).get("project", {})
        if "dependencies" in project:
            return [str(requirement) for requirement in project["dependencies"]]
    if not (root / "setup.py").is_file():
        return []
    for node in ast.walk(ast.parse(read_bytes(root / "setup.py", LARGEST_CODE))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "install" and isinstance(value, ast.List):
                    return [str(item.value) for item in value.elts if isinstance(item, ast.Constant)]
    return []


def _files(root: Path) -> list[str]:
    """The files that count, relative to `root`, sorted; without what Python compiled."""
    paths = [name for name in _DECLARING if (root / name).is_file()]
    for folder, subfolders, names in os.walk(root / PACKAGE):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        files = (Path(folder, name) for name in names if not name.endswith((".pyc", ".pyo")))
        paths += [file.relative_to(root).as_posix() for file in files if file.is_file()]
    return sorted(paths)
