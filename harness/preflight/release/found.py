"""Which release a user means: a version, a path, `latest`, or what is installed in an interpreter."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlparse

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.releases import fetch, install_path, resolve
from harness.releases.local import PACKAGE, checkout_sha256, read_local

INSTALLED = "installed"
_PATIENCE_SECONDS = 60.0
_MOST_NAMED = 4
_PATHS = "import json, site, sys; print(json.dumps([*sys.path, site.getusersitepackages()]))"


@dataclass(frozen=True, kw_only=True)
class FoundRelease:
    """A release, laid out in the cache."""

    release: Release
    install_dir: Path
    how: str
    """How it was found: `installed in /usr/bin/python3`, `the newest published`."""
    edited: tuple[str, ...] = ()
    """Files of an installed copy that are not as they were installed, each with what is different."""


def find_release(
    spec: str | None, *, locked: Sequence[Release], cache: Path, python: Path | None = None
) -> FoundRelease:
    """The one release that is meant, copied or installed into the cache; none of its code is run.

    Args:
        spec: A version, the path of a wheel, an sdist or a checkout, `latest` or `installed`. None means what is
            installed, and the newest published release where nothing is.
        locked: The published releases, oldest first.
        cache: Where releases are laid out.
        python: The interpreter that `installed` is about; the harness's own if None.

    Raises:
        ReleaseError: there is no such release, or `spec` means several.
        FetchError: it cannot be fetched.
    """
    if spec is None or spec == INSTALLED:
        installed = installed_release(python)
        if installed is not None:
            fetch([installed.release], cache, jobs=1)
            return FoundRelease(
                release=installed.release,
                install_dir=install_path(installed.release, cache),
                how=f"installed in {python or sys.executable}",
                edited=installed.edited,
            )
        if spec == INSTALLED:
            raise ReleaseError(
                f"FunASR is not installed in {python or sys.executable}",
                next_step="name its interpreter with --python, or a version with --release",
            )
    releases = resolve(spec or "latest", locked)
    if len(releases) != 1:
        raise ReleaseError(f"--release {spec} means {len(releases)} releases", next_step="name one")
    fetch(releases, cache, jobs=1)
    origin = "the newest published" if spec in (None, "latest") else ""
    return FoundRelease(release=releases[0], install_dir=install_path(releases[0], cache), how=origin)


@dataclass(frozen=True, kw_only=True)
class InstalledRelease:
    """FunASR as installed in an interpreter's folders."""

    release: Release
    edited: tuple[str, ...]


def installed_release(python: Path | None = None) -> InstalledRelease | None:
    """FunASR as an interpreter's metadata name it; None where it is not installed there.

    Raises:
        ReleaseError: the interpreter cannot be started, or the installation names a checkout that is none.
    """
    paths = _paths_of(python) if python is not None else sys.path
    distribution = next(iter(distributions(name=PACKAGE, path=list(paths))), None)
    if distribution is None:
        return None
    checkout = _editable(distribution)
    if checkout is not None:
        return InstalledRelease(release=read_local(checkout), edited=())
    root = Path(str(distribution.locate_file("")))
    if not (root / PACKAGE / "__init__.py").is_file():
        return None
    edited = tuple(_edited(distribution, root))
    sha256 = checkout_sha256(root)
    label = f"{distribution.version}+local.{sha256[:8]}" if edited else distribution.version
    return InstalledRelease(
        release=Release(
            label=label, version=distribution.version, kind="checkout", filename=root.name, sha256=sha256, path=root
        ),
        edited=edited,
    )


def _paths_of(python: Path) -> list[str]:
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


def _editable(distribution: Distribution) -> Path | None:
    """The checkout of an editable installation; None for another kind."""
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        direct = {}
    if isinstance(direct, dict) and (direct.get("dir_info") or {}).get("editable"):
        url = urlparse(str(direct.get("url", "")))
        return Path(unquote(url.path)) if url.scheme == "file" else None
    root = Path(str(distribution.locate_file("")))
    # `setup.py develop` leaves its metadata in the checkout.
    return root if (root / "setup.py").is_file() and (root / PACKAGE / "version.txt").is_file() else None


def _edited(distribution: Distribution, root: Path) -> Iterator[str]:
    """What differs from the RECORD of the installation; nothing where there is no RECORD."""
    recorded = dict(_recorded(distribution))
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


def _recorded(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """The package's files in the RECORD, each with its hash, `sha256=…`.

    `Distribution.files` leaves out, since Python 3.12, files that are gone.
    """
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if len(row) > 1 and row[0].startswith(f"{PACKAGE}/") and row[1]:
            yield row[0], row[1]


def _is_recorded(path: Path, hashed: str) -> bool:
    algorithm, _, value = hashed.partition("=")
    if algorithm not in hashlib.algorithms_guaranteed:
        return True
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == value


def in_a_line(release_found: FoundRelease) -> str:
    """What was found, with the files that were edited: `1.4.16, installed in …, 2 files edited: …`."""
    if not release_found.edited:
        return ", ".join(filter(None, (release_found.release.label, release_found.how)))
    named = ", ".join(release_found.edited[:_MOST_NAMED]) + (" …" if len(release_found.edited) > _MOST_NAMED else "")
    count = len(release_found.edited)
    return (
        f"{release_found.release.label}, {release_found.how}, {count} file{'s' if count > 1 else ''} not as "
        f"installed: {named}"
    )
