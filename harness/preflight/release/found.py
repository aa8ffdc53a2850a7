"""Which release a user means: a version, a path, `latest`, or what is installed in an interpreter."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.preflight.release.installed import installed_release, why_not_installed
from harness.releases import fetch, install_path, resolve

INSTALLED = "installed"
_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class FoundRelease:
    """A release, laid out in the cache."""

    release: Release
    install_dir: Path
    how: str
    """How it was found: `installed in /usr/bin/python3`, `the newest published`."""
    edited: tuple[str, ...] = ()
    """Files of an installed copy that are not as they were installed, each with what is different."""
    doubts: tuple[str, ...] = ()
    """What the installation's metadata do not say, or say wrongly."""


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
                doubts=installed.doubts,
            )
        if spec == INSTALLED:
            cause, next_step = why_not_installed(python)
            raise ReleaseError(
                f"FunASR is not installed in {python or sys.executable}", cause=cause, next_step=next_step
            )
    releases = resolve(spec or "latest", locked)
    if len(releases) != 1:
        raise ReleaseError(f"--release {spec} means {len(releases)} releases", next_step="name one")
    fetch(releases, cache, jobs=1)
    origin = "the newest published" if spec in (None, "latest") else ""
    return FoundRelease(release=releases[0], install_dir=install_path(releases[0], cache), how=origin)


def in_a_line(release_found: FoundRelease) -> str:
    """What was found, with edited files and doubts: `1.4.16, installed in …, 2 files not as installed: …`."""
    parts = [release_found.release.label, release_found.how]
    if count := len(release_found.edited):
        more = " …" if count > _MOST_NAMED else ""
        named = ", ".join(release_found.edited[:_MOST_NAMED]) + more
        parts.append(f"{count} file{'s' if count > 1 else ''} not as installed: {named}")
    return "; ".join((", ".join(filter(None, parts)), *release_found.doubts))
