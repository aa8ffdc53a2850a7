"""The package index, through uv's own command: its settings, its cache, its credentials."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.core.cells import Release
from harness.core.errors import FetchError, HarnessError, StoreError
from harness.releases.local import PACKAGE, hash_mismatch
from harness.text.terminal import say_detail

_PATIENCE_SECONDS = 600.0
_COMPUTED = re.compile(r"Computed:\s+sha256:([0-9a-f]{64})")
_ADDRESS = re.compile(r"\b[a-z][a-z+]*://[^\s)]+")
_CHECK_INDEX = (
    "check the network, the proxy and uv's settings (UV_INDEX_URL, UV_OFFLINE, uv.toml); "
    "where there is no network, put the releases' wheels into the folder `files` of the cache"
)
_CHECK_ANSWER = "run the command again; if it stays so, look with a browser at what the index and the proxy answer"
_CAUSES = (
    (
        ("error sending request", "dns error", "timed out", "network was disabled"),
        "the package index cannot be reached",
        _CHECK_INDEX,
    ),
    (("HTTP status server error",), "the package index, or a proxy before it, has a fault of its own", _CHECK_INDEX),
    (
        ("HTTP status client error (401", "HTTP status client error (403", "HTTP status client error (407"),
        "the package index or the proxy demands a login",
        "check the credentials in uv's settings (UV_INDEX_URL, netrc, uv.toml) and the proxy's",
    ),
    (
        ("end of file before message length", "error decoding response body", "reading a body from connection"),
        "the connection ended before the whole file had come",
        _CHECK_ANSWER,
    ),
    (
        ("Failed to extract archive",),
        "what the package index sent is no archive: a damaged file, or a page such as a network's login",
        _CHECK_ANSWER,
    ),
)
"""What uv's complaint means, by the words in it; the first that fits."""


def published() -> Iterator[tuple[Release, ...]]:
    """Every published 1.x release, newest first, each as its files: wheels before the sdist.

    uv has no command that lists versions, so each step gets the newest version below the last one.
    Withdrawn releases and pre-releases are left out, as uv leaves them out; so are releases that
    state another Python than the one that runs this.

    Raises:
        FetchError: the index could not be reached, or has no such package.
    """
    bound = "2"
    while files := _newest_below(bound):
        yield files
        bound = files[0].version
    if bound == "2":
        raise FetchError(
            f"the package index has no 1.x release of {PACKAGE}",
            cause="uv is set to an index that does not carry it, or to work without a network",
            next_step="look at uv's settings: UV_INDEX_URL, UV_OFFLINE, uv.toml",
        )


def install_published(release: Release, target: Path) -> None:
    """Install a published release in an empty folder.

    uv compares the file's hash with the one demanded before it unpacks anything of it,
    and builds an sdist, in an environment of its own, only after that.

    Raises:
        IntegrityError: the index serves another file than the one that was locked.
        FetchError: the index could not be reached, or does not serve the release.
        StoreError: the disk is full.
    """
    demand = f"{PACKAGE}=={release.version} --hash=sha256:{release.sha256}\n"
    # Installing a wheel runs no code of it, and uv must not build one.
    source = ("--no-build",) if release.kind == "wheel" else ("--no-binary", PACKAGE)
    _install(release, target, ("--require-hashes", *source, "-r", "-"), demand)


def install_sdist(release: Release, sdist: Path, target: Path) -> None:
    """Build and install an sdist whose hash has been compared already.

    Raises:
        FetchError: it cannot be built; what building needs could not be fetched.
        StoreError: the disk is full.
    """
    _install(release, target, (str(sdist.absolute()),), "")


def install_pins(pins: str, target: Path, *, python: str, platform: str) -> None:
    """Install libraries together, at pinned versions and hashes, for an interpreter that need not be here.

    Args:
        pins: Lines of a requirements file, each with its hashes.
        python: Such as `3.12`.
        platform: As uv names it, such as `x86_64-manylinux_2_28`.

    Raises:
        FetchError: the index could not be reached, or has no such file for that Python and platform.
        StoreError: the disk is full.
    """
    where = ("--python-version", python, "--python-platform", platform, "--target", str(target))
    options = ("--no-deps", "--require-hashes", "--no-compile-bytecode", "--link-mode", "copy")
    completed = _uv(("pip", "install", *options, *where, "-r", "-"), pins)
    if completed.returncode:
        raise _failure(f"cannot fetch the libraries for Python {python} on {platform}", completed.stderr, None)


def _install(release: Release, target: Path, requirements: tuple[str, ...], demand: str) -> None:
    options = ("--no-deps", "--no-compile-bytecode", "--python", sys.executable, "--target", str(target))
    # Links would tie the layout to uv's cache: what a release writes into its own files would end up there.
    completed = _uv(("pip", "install", "--link-mode", "copy", *options, *requirements), demand)
    if completed.returncode:
        raise _failure(f"cannot fetch release {release.label}", completed.stderr, release)


def _newest_below(bound: str) -> tuple[Release, ...]:
    arguments = ("pip", "compile", "--no-deps", "--no-header", "--format", "pylock.toml", "--python", sys.executable)
    completed = _uv((*arguments, "-"), f"{PACKAGE}>=1,<{bound}\n")
    if (
        completed.returncode
        and "No solution found" in completed.stderr
        and "network was disabled" not in completed.stderr
    ):
        return ()
    if completed.returncode:
        raise _failure(f"cannot get the releases of {PACKAGE}", completed.stderr, None)
    return _files_of(tomllib.loads(completed.stdout)["packages"][0])


def _files_of(package: Mapping[str, Any]) -> tuple[Release, ...]:
    """The files of one package of a `pylock.toml` (PEP 751); of each address only the file's name is kept."""
    files = [("wheel", wheel) for wheel in package.get("wheels", ())]
    files += [("sdist", package["sdist"])] if "sdist" in package else []
    return tuple(
        Release(
            label=package["version"],
            version=package["version"],
            kind=kind,
            filename=file.get("name") or unquote(PurePosixPath(urlsplit(file.get("url") or file["path"]).path).name),
            sha256=file["hashes"]["sha256"],
        )
        for kind, file in files
    )


# uv asks sysconfig where it is, and Python 3.11 fills sysconfig's table without a lock: a second thread that calls it
# meanwhile gets None.
_FINDING_UV = threading.Lock()


def _uv(arguments: tuple[str, ...], text: str) -> subprocess.CompletedProcess[str]:
    say_detail(f"uv {shlex.join(arguments)}")
    command = [_find_uv(), *arguments, "--quiet", "--no-progress", "--color", "never"]
    try:
        return subprocess.run(
            command, check=False, input=text, capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        problem = f"uv did not finish in {_PATIENCE_SECONDS:.0f} seconds"
        raise FetchError(problem, cause="the index is slow or unreachable", next_step=_CHECK_INDEX) from None
    except OSError as error:
        problem = f"uv cannot be started: {error.strerror}"
        raise FetchError(problem, next_step="reinstall it: python -m pip install --force-reinstall uv") from error


def _find_uv() -> str:
    """The uv that is installed with the harness, or else the one on the user's path.

    Raises:
        FetchError: there is none.
    """
    try:
        with _FINDING_UV:
            return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError):
        pass
    path_of_uv = shutil.which("uv")
    if path_of_uv is None:
        raise FetchError(
            "uv is missing; releases are fetched with it",
            cause="the harness was installed without its dependencies",
            next_step="python -m pip install uv",
        )
    return path_of_uv


def _failure(problem: str, stderr: str, release: Release | None) -> HarnessError:
    """What uv's complaint means. Addresses are taken out: they may hold credentials, and reports are published."""
    if "No space left on device" in stderr:
        return StoreError(problem, cause="the disk is full", next_step="make room and run the command again")
    if release is not None and "Hash mismatch" in stderr:
        got = _COMPUTED.search(stderr)
        return hash_mismatch(release, got[1] if got else "another one")
    lines = [line.strip() for line in _ADDRESS.sub("<address>", stderr).splitlines() if line.strip()]
    last = "\n    ".join(lines[-6:]) or "uv printed nothing"
    words = " ".join(stderr.split())
    for signs, cause, next_step in _CAUSES:
        if any(sign in words for sign in signs):
            return FetchError(f"{problem}\n    {last}", cause=cause, next_step=next_step)
    return FetchError(
        f"{problem}\n    {last}",
        cause="the package index does not serve it, or it cannot be built here",
        next_step="run the command again; if it stays so, leave this release out of the selection",
    )
