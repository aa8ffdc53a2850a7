"""`releases`: list the published releases, record them in the lock, install them in the cache."""

from __future__ import annotations

import argparse
import datetime
import os
from pathlib import Path

from harness.commands.common import cache_of
from harness.config.built_in import FOLDER, LOCK_NAME, built_in_folder
from harness.core.cells import Release
from harness.releases import fetch, install_path, load_lock, lock, resolve
from harness.text.terminal import say


def main(options: argparse.Namespace) -> int:
    """Run one of the three actions."""
    return {"list": _list, "lock": _lock, "fetch": _fetch}[options.action](options)


def _list(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    cache = cache_of(options)
    rows = [
        (release.label, release.kind, release.sha256[:12], "installed" if install_path(release, cache).is_dir() else "")
        for release in _chosen(options)
    ]
    print(tabulate(rows, headers=("release", "kind", "sha256", "cache")))
    return 0


def _lock(options: argparse.Namespace) -> int:
    today = datetime.datetime.now(datetime.UTC).date()
    # A built-in lock belongs to the installed package; the new one is the working folder's.
    lock_file = Path(FOLDER) / LOCK_NAME if options.lock.parent == built_in_folder() else options.lock
    change = lock(lock_file, today=today, base=options.lock, on_found=lambda release: say(f"found {release.label}"))
    say(f"lock: {lock_file}")
    print(change)
    return 0


def _fetch(options: argparse.Namespace) -> int:
    chosen = _chosen(options)
    jobs = options.jobs or 2 * (os.cpu_count() or 1)
    fetch(chosen, cache_of(options), jobs=jobs, on_done=lambda release: print(f"installed {release.label}"))
    return 0


def _chosen(options: argparse.Namespace) -> tuple[Release, ...]:
    locked = load_lock(options.lock)
    specs = options.spec or ["all"]
    return tuple(dict.fromkeys(release for spec in specs for release in resolve(spec, locked)))
