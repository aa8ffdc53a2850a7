"""A disk that is full from some write on, each write of a run in turn: one message, and nothing lost afterwards."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_scene import World, make_world

STEP = int(os.environ.get("FULL_DISK_STEP", "10"))
"""Each so many-th write is tried; `nox -s harden` tries every one."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class FullDisk:
    """Counts what writes to a disk, and refuses it from some call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, full_from: int | None = None) -> None:
        self.calls = 0
        self._full_from = full_from
        monkeypatch.setattr(os, "open", self._counting(os.open, lambda _path, flags=0, *_: bool(flags & _WRITING)))
        for name in ("write", "mkdir", "ftruncate", "fsync", "rename", "replace", "link", "symlink"):
            monkeypatch.setattr(os, name, self._counting(getattr(os, name), lambda *_: True))
        opened = self._counting(io.open, lambda _path, mode="r", *_: bool(set("wax+") & set(mode)))
        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(io, "open", opened)

    def _counting(self, call: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            to = arguments[0] if arguments else ""
            if to != os.devnull and writes(*arguments, **{k: v for k, v in named.items() if k in ("flags", "mode")}):
                self.calls += 1
                if self._full_from is not None and self.calls >= self._full_from:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), to if isinstance(to, str) else None)
            return call(*arguments, **named)

        return called


@pytest.fixture(scope="session")
def disk_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(
    tmp_path: Path, disk_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], World]:
    return lambda name: make_world(tmp_path / name, disk_cache, capsys, monkeypatch)


def test_each_write_of_a_run_may_find_the_disk_full(
    make: Callable[[str], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("first").run()
    with monkeypatch.context() as patched:
        disk = FullDisk(patched)
        assert make("counted").run().status == 0
    calls = disk.calls
    assert calls > 20
    for number in range(1, calls + 1, STEP):
        world = make(f"full-{number}")
        with monkeypatch.context() as patched:
            disk = FullDisk(patched, full_from=number)
            said = world.run()
        if disk.calls < number:
            # what an earlier run left in the cache is not written again
            break
        assert said.status == 3, (number, said.status, said.err)
        assert said.err.count("error: ") == 1, (number, said.err)
        assert "No space left on device" in said.err, (number, said.err)
        assert "fault of the harness itself" not in said.err, (number, said.err)
        after = world.run()
        assert after.status == 0, (number, after.err)
        written = [one["id"] for one in world.written()]
        assert sorted(set(written)) == sorted(written), number
        assert len(written) == 4, (number, written)
