"""From a text (`latest`, `>=1.0.12,<1.1`, a path) to the releases that it names."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.core.paths import UnusablePathError, path_of
from harness.core.versions import version_of
from harness.releases.local import read_local

_LONGEST_SPEC = 250
"""Characters; the longest that means anything is a range with a few releases left out."""
_NEXT = "list those that exist: funasr-harness releases list"


def resolve(spec: str, locked: Sequence[Release]) -> tuple[Release, ...]:
    """The releases that `spec` means, oldest first.

    Args:
        spec: `1.4.16`, a specifier such as `>=1.0.12,<1.1`, `latest`, `all`,
            or the path of a wheel, an sdist or a checkout.
        locked: The published releases, oldest first, as `load_lock` gives them.

    Raises:
        ReleaseError: there is no such release, or the path is no FunASR release.
    """
    spec = spec.strip()
    if "/" in spec or spec.endswith((".whl", ".tar.gz")):
        try:
            return (read_local(path_of(spec)),)
        except UnusablePathError as error:
            raise ReleaseError(
                f'no such release: "{spec[:_LONGEST_SPEC]}"', cause=str(error), next_step=_NEXT
            ) from None
    if not locked:
        raise ReleaseError("the lock holds no release", next_step="make it again: funasr-harness releases lock")
    if spec == "all":
        return tuple(locked)
    if spec == "latest":
        final = [release for release in locked if not Version(release.version).is_prerelease]
        return ((final or locked)[-1],)
    if len(spec) > _LONGEST_SPEC or "\0" in spec:
        raise _unknown(spec[:_LONGEST_SPEC], locked)
    if (version := version_of(spec)) is not None:
        return _exactly(spec, version, locked)
    if spec and Path(spec).is_dir():
        return (read_local(Path(spec)),)
    try:
        return _within(spec, SpecifierSet(spec), locked)
    except ValueError:
        # Not only InvalidSpecifier: a number of five thousand digits is none for Python.
        raise _unknown(spec, locked) from None


def _exactly(spec: str, version: Version, locked: Sequence[Release]) -> tuple[Release, ...]:
    releases = tuple(release for release in locked if Version(release.version) == version)
    if releases:
        return releases
    raise ReleaseError(f"no such release: {spec}", cause=_nearest(version, locked), next_step=_NEXT)


def _within(spec: str, specifiers: SpecifierSet, locked: Sequence[Release]) -> tuple[Release, ...]:
    if not spec:
        raise ReleaseError("no release is named: the text is empty", next_step=_NEXT)
    admitted = set(specifiers.filter(release.version for release in locked))
    releases = tuple(release for release in locked if release.version in admitted)
    if releases:
        return releases
    bounds = sorted(Version(specifier.version.removesuffix(".*")) for specifier in specifiers)
    raise ReleaseError(f"no release matches {spec}", cause=_nearest(bounds[0], locked), next_step=_NEXT)


def _nearest(version: Version, locked: Sequence[Release]) -> str:
    """A half-sentence with the two releases on either side of a version."""
    place = bisect.bisect(locked, version, key=lambda release: Version(release.version))
    near = [release.version for release in locked[max(0, place - 2) : place + 2]]
    return f"the nearest are {', '.join(near)}"


def _unknown(spec: str, locked: Sequence[Release]) -> ReleaseError:
    cause = "expected a version, a specifier such as >=1.0.12,<1.1, latest, all, or a path with a slash"
    near = difflib.get_close_matches(spec, ["latest", "all", *(release.version for release in locked)], n=3)
    if near and spec[0].isalnum():
        cause = f"did you mean {' or '.join(near)}?"
    return _no_release(spec, cause)


def _no_release(spec: str, cause: str) -> ReleaseError:
    return ReleaseError(f'no such release: "{spec[:_LONGEST_SPEC]}"', cause=cause, next_step=_NEXT)
