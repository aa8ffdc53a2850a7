"""Installing releases: each in a folder of its own, once, its hash verified before anything is unpacked.

Nothing is compiled to bytecode here. Measured: compiling a release takes 1.2 s, and what a check imports
of it is read from source within a tenth of a second of what it takes from bytecode.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from harness.core.cells import Release
from harness.core.errors import FetchError, ReleaseError
from harness.releases import local, manifest, package_index
from harness.releases.cache import (
    carried_path,
    install_path,
    move_into_place,
    remove,
    storage_errors,
    working_folder,
)
from harness.releases.holdings import hold, note_use
from harness.releases.local import PACKAGE, file_sha256, hash_mismatch
from harness.text.terminal import say


def fetch(
    releases: Sequence[Release], cache: Path, *, jobs: int, on_done: Callable[[Release], None] | None = None
) -> None:
    """Install every release that is not installed yet, and return when all are.

    Can be interrupted at any moment and called by several processes at once: a release is installed
    in a folder of this process alone and moved into place when it is whole.

    Args:
        releases: As `resolve` gives them.
        cache: Filled as needed; see `install_path`.
        jobs: How many are installed at the same time.
        on_done: Called in this thread with each release that is there, as soon as it is.

    Raises:
        IntegrityError: a file's hash is not the one in the lock; nothing of it was unpacked.
        FetchError: the package index could not be reached or does not serve a release.
        ReleaseError: a file or checkout of the user's is not a FunASR release, or has changed meanwhile.
        StoreError: the disk is full, or the cache cannot be written to.
    """
    report = on_done or (lambda _: None)
    hold(cache, [install_path(release, cache).name for release in releases])
    missing = []
    for release in dict.fromkeys(releases):
        if _is_sound(release, cache):
            report(release)
        else:
            missing.append(release)
    if not missing:
        return
    with working_folder(cache) as folder_in_cache, ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        pending = {pool.submit(_install, release, cache, folder_in_cache): release for release in missing}
        _wait(pool, pending, report)


def _is_sound(release: Release, cache: Path) -> bool:
    """Whether the release is installed, as it was installed; a copy that was changed since is taken away."""
    place = install_path(release, cache)
    if not place.is_dir():
        return False
    with storage_errors(cache):
        changed = manifest.changes(place)
        if not changed:
            note_use(manifest.manifest_path(place))
            return True
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        say(
            f"the installed copy of release {release.label} was changed since it was installed "
            f"({changed[0]}{more}): it is installed again",
            style="bold yellow",
        )
        remove(place, cache)
    return False


def _wait(pool: ThreadPoolExecutor, pending: dict[Future[None], Release], report: Callable[[Release], None]) -> None:
    try:
        for future in as_completed(pending):
            future.result()
            report(pending[future])
    except BaseException:
        # What is done stays done; what has not begun would meet the same fault, or is no longer wanted.
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _install(release: Release, cache: Path, folder_in_cache: Path) -> None:
    place = install_path(release, cache)
    installing = folder_in_cache / place.name
    installing.mkdir()
    if release.kind == "checkout" and release.path:
        _copy(release, release.path, installing)
    elif release.path:
        _unpack(release, release.path, installing, folder_in_cache)
    elif (carried := carried_path(release, cache)).is_file():
        _unpack(release, carried, installing, folder_in_cache)
    else:
        package_index.install_published(release, installing)
    # What uv adds: scripts that start one interpreter by its absolute path, and its lock.
    shutil.rmtree(installing / "bin", ignore_errors=True)
    (installing / ".lock").unlink(missing_ok=True)
    if not (installing / PACKAGE / "__init__.py").is_file():
        problem = f"release {release.label} has no {PACKAGE} package"
        raise FetchError(problem, cause=f"{release.filename} is not a FunASR release", next_step="leave it out")
    manifest.protect(installing)
    move_into_place(installing, place)
    with storage_errors(cache):
        manifest.record(place)


def _unpack(release: Release, file: Path, installing: Path, folder_in_cache: Path) -> None:
    """Unpack or build a local file. A copy is hashed and unpacked, because the original may change in between."""
    copied_file = folder_in_cache / "files" / installing.name / release.filename
    copied_file.parent.mkdir(parents=True)
    try:
        shutil.copyfile(file, copied_file)
    except FileNotFoundError:
        raise _changed(release, file, "it is no longer there") from None
    if (got := file_sha256(copied_file)) != release.sha256:
        raise hash_mismatch(release, got)
    if release.kind == "wheel":
        local.unpack_wheel(copied_file, installing)
    else:
        package_index.install_sdist(release, copied_file, installing)


def _copy(release: Release, root: Path, installing: Path) -> None:
    try:
        got = local.copy_checkout(root, installing)
    except FileNotFoundError:
        raise _changed(release, root, "a file of it has gone") from None
    if got != release.sha256:
        raise _changed(release, root, "it was edited since the run began")
    local.make_importable(installing, release.version)


def _changed(release: Release, path: Path, cause: str) -> ReleaseError:
    problem = f"release {release.label}: {path} has changed"
    return ReleaseError(problem, cause=cause, next_step="run the command again")
