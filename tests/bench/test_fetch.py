"""Releases fetched and laid out from a warm package cache, against uv alone."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scoreboard import Board, Figure
from sizes import Size

from harness.core.cells import Release
from harness.releases import fetch, install_path

pytestmark = pytest.mark.bench

JOBS = 2 * (os.cpu_count() or 1)
"""As `harness.run.prepare` has it."""


def seconds_to_fetch(releases: tuple[Release, ...], cache: Path) -> float:
    """Into a cache that is empty, and empty again afterwards."""
    begin = time.perf_counter()
    fetch(releases, cache, jobs=JOBS)
    seconds = time.perf_counter() - begin
    assert all(install_path(release, cache).is_dir() for release in releases)
    shutil.rmtree(cache)
    return seconds


def seconds_of_uv(release: Release, target: Path) -> float:
    """What laying one release out takes by hand, unchecked."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    begin = time.perf_counter()
    subprocess.run([*command, "--python", sys.executable, f"funasr=={release.version}"], check=True)
    seconds = time.perf_counter() - begin
    shutil.rmtree(target)
    return seconds


def test_all_releases_are_fetched(
    tmp_path: Path, chosen: tuple[Release, ...], size: Size, board: Board, benchmark: Any
) -> None:
    wheels = [release for release in chosen if release.kind == "wheel"]
    newest = wheels[-1]
    # The first time fills uv's own cache.
    seconds_to_fetch(chosen, tmp_path / "first")
    seconds_of_uv(newest, tmp_path / "by-hand")
    # The disk has its say here; alternating gives both the same share of it.
    pairs = [
        (seconds_to_fetch((newest,), tmp_path / "one"), seconds_of_uv(newest, tmp_path / "by-hand"))
        for _ in range(size.repetitions)
    ]
    one, unit = (statistics.median(column) for column in zip(*pairs, strict=True))
    everything = benchmark.pedantic(seconds_to_fetch, args=(chosen, tmp_path / "all"), rounds=1)
    by_hand = {"uv pip install --no-deps --target of one": f"{unit:.2f} s, median of {len(pairs)}"}
    board.add(
        Figure(
            what="all releases fetched, against uv one by one",
            value=unit * len(chosen) / everything,
            unit="×",
            measured={
                "releases": f"{len(chosen)}, {len(chosen) - len(wheels)} of them built from an sdist",
                "fetched": f"{everything:.1f} s, {JOBS} at a time",
                **by_hand,
            },
        )
    )
    board.add(Figure(what="all releases fetched, package cache warm", value=everything, unit="s", at_most=60))
    board.add(
        Figure(
            what="one release fetched, package cache warm",
            value=one,
            unit="s",
            at_most=1.5,
            measured={"against uv by hand": f"{one / unit:.2f} ×", **by_hand},
        )
    )
    benchmark.extra_info["seconds of one"] = one
