"""Nothing is left behind: temporary folders of killed runs go at the next start, and SIGTERM ends as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import signals

from harness.core.temporary import sweep, temporary_folder

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0
HOLDS = (
    "import sys, time; from harness.core.temporary import temporary_folder\n"
    "with temporary_folder() as folder: (folder / 'large').write_text('x'); time.sleep(600)"
)


def start(top: Path, *words: str) -> subprocess.Popen[str]:
    """A Python process whose temporary files are below `top`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(top)}
    return subprocess.Popen(
        [sys.executable, *words], env=env, text=True, stderr=subprocess.PIPE, preexec_fn=signals.listen
    )


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    holders = [start(tmp_path, "-c", HOLDS) for _ in range(2)]
    try:
        wait_until(lambda: len(list(tmp_path.glob("fh-*/large"))) == 2)
        assert sweep(tmp_path) == []
        holders[0].kill()
        holders[0].wait()
        gone = sweep(tmp_path)
        assert len(gone) == 1
        assert len(list(tmp_path.glob("fh-*/large"))) == 1
        assert sweep(tmp_path) == []
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_what_is_not_known_to_be_left_over_stays(tmp_path: Path) -> None:
    young, old, link, file = (tmp_path / name for name in ("fh-young", "fh-old", "fh-link", "fh-file"))
    target = tmp_path / "target"
    for folder in (young, old, target):
        folder.mkdir()
    file.touch()
    link.symlink_to(target)
    os.mkfifo(young / ".owner")
    week_ago = time.time() - 8 * 86400
    os.utime(old, (week_ago, week_ago))
    (target / ".owner").touch()
    (young / ".owner").unlink()
    assert sweep(tmp_path) == [old]
    assert {path.name for path in tmp_path.iterdir()} == {"fh-young", "fh-link", "fh-file", "target"}


def test_a_folder_goes_at_the_end_and_after_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail() -> None:
        with temporary_folder("word") as folder:
            (folder / "file").touch()
            assert folder.name.startswith("fh-word-")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


# Sleeps where a command looks at the interpreter, which takes seconds: before anything runs.
SLEEPS = (
    "import os, pathlib, subprocess, sys\n"
    "from harness import cli\n"
    "from harness.environments import environment\n"
    "environment._DESCRIBE = pathlib.Path(os.environ['TMPDIR']) / 'sleeps.py'\n"
    "sys.exit(cli.main(['run', 'pr', '-o', os.environ['TMPDIR'] + '/run', '--cache', os.environ['TMPDIR'] + '/cache']))"
)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=str
)
def test_a_signal_ends_a_command_before_anything_runs_and_leaves_nothing(
    tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    (tmp_path / "sleeps.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    command = start(tmp_path, "-c", SLEEPS)
    pid = tmp_path / "pid"
    wait_until(lambda: (pid.exists() and pid.read_text()) or command.poll() is not None)
    command.send_signal(signum)
    _, said = command.communicate(timeout=PATIENCE)
    assert command.returncode == status, said
    assert said.splitlines()[-1] == "interrupted; what was measured is kept, and the same command resumes the run"
    assert list(tmp_path.glob("fh-*")) == []
    if signum != signal.SIGINT:
        # at a terminal, Ctrl-C reaches it too
        wait_until(lambda: not Path("/proc", pid.read_text()).exists())
