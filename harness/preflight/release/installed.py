"""FunASR as installed in an interpreter, by its metadata; nothing of it is imported, and damaged metadata are said."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlparse

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.core.versions import version_of
from harness.releases.local import PACKAGE, checkout_sha256, read_local, stated_version

_PATIENCE_SECONDS = 60.0
_PATHS = "import json, site, sys; print(json.dumps([*sys.path, site.getusersitepackages()]))"
_OTHER = "name its interpreter with --python, or a version with --release"


@dataclass(frozen=True, kw_only=True)
class InstalledRelease:
    """FunASR as installed in an interpreter's folders."""

    release: Release
    edited: tuple[str, ...] = ()
    """Files that are not as they were installed, each with what is different."""
    doubts: tuple[str, ...] = ()
    """What the metadata do not say, or say wrongly."""


def installed_release(python: Path | None = None) -> InstalledRelease | None:
    """FunASR as an interpreter's metadata name it; None where it is not installed there.

    Raises:
        ReleaseError: the interpreter cannot be started, the installation names a checkout that is none, or neither
            its metadata nor its files state a version.
    """
    metadata = _metadata(python)
    if not metadata:
        return None
    checkout = _editable(metadata[0])
    if checkout is not None:
        return InstalledRelease(release=_of_checkout(checkout, metadata[0]))
    root = _root(metadata[0])
    if not (root / PACKAGE / "__init__.py").is_file():
        return None
    version = _version_of_code(root)
    # Two installations over each other leave the metadata of both.
    distribution = next((candidate for candidate in metadata if _metadata_version(candidate) == version), metadata[0])
    in_metadata = _metadata_version(distribution)
    if not (version or in_metadata):
        raise ReleaseError(
            f"the version of the FunASR in {root} is not known",
            cause=f"neither its metadata nor {PACKAGE}/version.txt states one",
            next_step=f"pip install --force-reinstall {PACKAGE}==VERSION, or name a version with --release",
        )
    is_another = bool(in_metadata and version and in_metadata != version)
    recorded = {} if is_another else dict(_recorded(distribution))
    edited = tuple(_edited(recorded, root))
    return InstalledRelease(
        release=_release(root, version or in_metadata, as_published=not (edited or is_another)),
        edited=edited,
        doubts=tuple(_doubts(in_metadata=in_metadata, version=version, recorded=bool(recorded))),
    )


def why_not_installed(python: Path | None = None) -> tuple[str, str]:
    """What there is in place of an installation (empty: nothing), and what to do."""
    if metadata := _metadata(python):
        root = _root(metadata[0])
        return (
            f"{root} has metadata of {PACKAGE}, and no {PACKAGE}/__init__.py",
            f"pip install --force-reinstall {PACKAGE}, or name a version with --release",
        )
    for folder in map(Path, _paths_of(python)):
        if (folder / PACKAGE / "version.txt").is_file():
            return (
                f"{folder / PACKAGE} is there without metadata of pip: a copy, or a checkout",
                f"--release {shlex.quote(str(folder))}",
            )
    return "", _OTHER


def _metadata(python: Path | None) -> list[Distribution]:
    """Of the folder that an import would take."""
    all_metadata = list(distributions(name=PACKAGE, path=_paths_of(python)))
    return [distribution for distribution in all_metadata if _root(distribution) == _root(all_metadata[0])]


def _root(distribution: Distribution) -> Path:
    return Path(str(distribution.locate_file("")))


def _paths_of(python: Path | None) -> list[str]:
    if python is None:
        return list(sys.path)
    try:
        completed = subprocess.run(
            [str(python), "-I", "-c", _PATHS], check=True, capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )
        paths: list[str] = json.loads(completed.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ReleaseError(
            f"{python} does not say where its packages are", cause=str(error), next_step="name another interpreter"
        ) from error
    return paths


def _text(distribution: Distribution, name: str) -> str:
    """A file of the metadata; empty where it is missing or no text."""
    try:
        return distribution.read_text(name) or ""
    except (OSError, ValueError):
        return ""


def _metadata_version(distribution: Distribution) -> str:
    """The version in the metadata; empty where they state none that is one."""
    lines = (_text(distribution, "METADATA") or _text(distribution, "PKG-INFO")).splitlines()
    version = next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("version:")), "")
    return version if version_of(version) else ""


def _version_of_code(root: Path) -> str:
    """The version in `funasr/version.txt`, which every 1.x release has; empty where there is none."""
    try:
        version = stated_version(root)
    except (OSError, ReleaseError):
        return ""
    return version if version_of(version) else ""


def _release(root: Path, version: str, *, as_published: bool) -> Release:
    sha256 = checkout_sha256(root)
    label = version if as_published else f"{version}+local.{sha256[:8]}"
    return Release(label=label, version=version, kind="checkout", filename=root.name, sha256=sha256, path=root)


def _doubts(*, in_metadata: str, version: str, recorded: bool) -> Iterator[str]:
    if not in_metadata:
        yield f"its metadata state no version: {version} is what {PACKAGE}/version.txt says"
    elif version and in_metadata != version:
        yield (
            f"its metadata say {in_metadata}, and {PACKAGE}/version.txt {version}: two installations over each other "
            f"(pip install --force-reinstall {PACKAGE}=={version})"
        )
        return
    if not recorded:
        yield "its RECORD is missing or damaged: edited files cannot be told"


def _editable(distribution: Distribution) -> Path | None:
    """The checkout of an editable installation; None for another kind."""
    try:
        direct = json.loads(_text(distribution, "direct_url.json") or "{}")
    except (ValueError, RecursionError):
        direct = {}
    folder = direct.get("dir_info") if isinstance(direct, dict) else None
    if isinstance(folder, dict) and folder.get("editable"):
        url = urlparse(str(direct.get("url", "")))
        return Path(unquote(url.path)) if url.scheme == "file" else None
    root = _root(distribution)
    # `setup.py develop` leaves its metadata in the checkout.
    return root if (root / "setup.py").is_file() and (root / PACKAGE / "version.txt").is_file() else None


def _of_checkout(checkout: Path, distribution: Distribution) -> Release:
    try:
        return read_local(checkout)
    except ReleaseError as error:
        raise ReleaseError(
            f"the editable FunASR in {_root(distribution)} cannot be read",
            cause=f"it was installed from {checkout}: {error.what}",
            next_step="install it again with pip, or name a version with --release",
        ) from error


def _edited(recorded: dict[str, str], root: Path) -> Iterator[str]:
    """What differs from the RECORD of the installation; nothing where there is no RECORD."""
    if not recorded:
        return
    for name, hashed in recorded.items():
        path = root / name
        if not path.is_file():
            yield f"{name}: gone"
        elif not _is_recorded(path, hashed):
            yield f"{name}: edited"
    for path in sorted((root / PACKAGE).rglob("*.py")):
        if (name := path.relative_to(root).as_posix()) not in recorded:
            yield f"{name}: added"


def _recorded(distribution: Distribution) -> Sequence[tuple[str, str]]:
    """The package's files in the RECORD, each with its hash, `sha256=…`; none where the RECORD is damaged.

    `Distribution.files` leaves out, since Python 3.12, files that are gone.
    """
    text = _text(distribution, "RECORD")
    try:
        rows = list(csv.reader(text.replace("\x00", "").splitlines()))
    except csv.Error:
        return ()
    named = [(row[0], row[1]) for row in rows if len(row) > 1 and row[0].startswith(f"{PACKAGE}/") and row[1]]
    return named if any(name == f"{PACKAGE}/__init__.py" for name, _ in named) and "\x00" not in text else ()


def _is_recorded(path: Path, hashed: str) -> bool:
    algorithm, _, value = hashed.partition("=")
    if algorithm not in hashlib.algorithms_guaranteed:
        return True
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == value
