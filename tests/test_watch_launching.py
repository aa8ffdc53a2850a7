"""Starting and ending a watched command: real processes, without a training."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.core import processes
from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.watch import launching
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.launching import WatchedCommand, launch
from harness.watch.records import Saved
from harness.watch.verdict import record as record_of
from harness.watch.watching import RECORDS, WatchedTraining, follow
from tests.watch_states import process, state, training

PYTHON = sys.executable
BOTH = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
VARIABLES = "import os; print(os.environ['OWN'], os.environ['ADDED'])"
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print('there', flush=True)
time.sleep(60)
"""


class Shown:
    """Keeps what a display is given."""

    def __init__(self) -> None:
        self.output = ""
        self.findings: list[str] = []

    def update(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], output: str) -> None:
        self.output += output
        self.findings = [one.rule for one in findings]


@pytest.fixture(autouse=True)
def answers_ctrl_c() -> Iterator[None]:
    """Children ignore SIGINT where whoever runs the tests has it ignored, as nohup and `&` do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def watched(folder: Path, *words: str, stop_on: Severity | None = None) -> tuple[WatchedTraining, Shown]:
    command, shown = launch(words, folder, {}), Shown()
    return follow(command, WatchedTraining(folder=folder), shown, stop_on=stop_on), shown


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_command_runs_with_its_output_in_a_file_and_its_status_is_kept(tmp_path: Path) -> None:
    found, shown = watched(tmp_path, PYTHON, "-c", BOTH)
    assert found.status == 7
    assert sorted(shown.output.split()) == ["err", "out"]
    assert sorted((tmp_path / "output.log").read_text().split()) == ["err", "out"]
    assert shown.findings == ["nothing-observed"]


def test_what_a_shell_leaves_in_the_background_is_watched_to_its_end(tmp_path: Path) -> None:
    found, shown = watched(tmp_path, "bash", "-c", "(sleep 1; echo late) & echo soon")
    assert shown.output.split() == ["soon", "late"]
    assert found.status == 0


def test_what_was_started_before_is_not_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen([PYTHON, "-c", "import time; time.sleep(60)"]) as earlier:
        found, _ = watched(tmp_path, PYTHON, "-c", "pass")
        assert (found.status, earlier.poll()) == (0, None)
        earlier.kill()


def test_a_program_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such program"):
        launch(["no-such-program"], tmp_path, {})


def test_the_environment_is_the_users_and_what_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "mine")
    command = launch([PYTHON, "-c", VARIABLES], tmp_path, {"ADDED": "x"})
    wait_for(lambda: command.status is not None)
    assert command.read_output() == "mine x\n"


def test_signals_grow_harsher_until_the_command_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "ENDING", ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 0.3)))
    command = launch([PYTHON, "-c", STUBBORN], tmp_path, {})
    wait_for(lambda: "there" in command.read_output())
    command.end()

    def ended() -> bool:
        command.keep_ending()
        return command.status is not None

    wait_for(ended)
    assert command.process.returncode == -signal.SIGTERM


def test_a_hopeless_training_is_ended_where_that_is_wanted(tmp_path: Path) -> None:
    folder = tmp_path / RECORDS
    folder.mkdir()
    # No Python: one that is interrupted while it starts ends with a status of its own.
    for severity, left, seconds in ((Severity.BROKEN, 1, "300"), (None, 0, "0.5")):
        command, shown = launch(["sleep", seconds], tmp_path, {}), Shown()
        found = WatchedTraining(folder=tmp_path)
        for file, rank in state(30, loss=lambda n: float("nan")).ranks.items():
            found.state.ranks[file] = rank
        follow(command, found, shown, stop_on=severity)
        assert (found.stopped_for is not None) == bool(left)
        assert (found.status == -signal.SIGINT) == bool(left)


def test_the_checkpoint_that_is_kept_is_the_last_whole_one(tmp_path: Path) -> None:
    whole, cut, averaged = (tmp_path / name for name in ("model.pt.ep1", "model.pt.ep2", "model.pt.avg10"))
    found = WatchedTraining(folder=tmp_path)
    assert found.last_checkpoint is None
    for path, at, mean in ((whole, 1.0, False), (cut, 2.0, False), (averaged, 3.0, True)):
        path.write_bytes(b"x" * 10)
        saved = Saved(
            at=at,
            step=int(8 * at),
            epoch=0,
            path=str(path),
            bytes=10,
            seconds=0.1,
            tensors=3,
            missing=(),
            other_values=(),
            averaged=mean,
        )
        for record in (process(), training(), saved):
            found.state.add("host-100.jsonl", record)
    assert found.last_checkpoint is not None
    assert found.last_checkpoint.path == str(cut)
    cut.write_bytes(b"x" * 3)
    assert found.last_checkpoint.path == str(whole)
    assert record_of(found)["last_checkpoint"] == {"path": str(whole), "step": 8}
    whole.unlink()
    assert found.last_checkpoint is None
    assert record_of(found)["last_checkpoint"] is None


WATCH = """
import sys
from pathlib import Path
from harness.watch.launching import launch
from harness.watch.watching import WatchedTraining, follow

class Silent:
    def update(self, *_): pass

folder = Path(sys.argv[1])
follow(launch(sys.argv[2:], folder, {}), WatchedTraining(folder=folder), Silent(), stop_on=None)
print("status", flush=True)
"""
COUNTING = "import time\nfor n in range(1, 1000):\n    print(n, flush=True)\n    time.sleep(0.05)"


def counted(folder: Path) -> int:
    log = folder / "output.log"
    return len(log.read_text().split()) if log.exists() else 0


def watching_process(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([PYTHON, "-c", WATCH, str(folder), *words], stdout=subprocess.DEVNULL, text=True)


def test_the_training_goes_on_when_the_watching_process_is_killed(tmp_path: Path) -> None:
    process = watching_process(tmp_path, PYTHON, "-c", COUNTING)
    wait_for(lambda: counted(tmp_path) > 3)
    (child,) = [pid for pid in processes.children(process.pid) if processes.is_running(pid)]
    process.kill()
    process.wait()
    before = counted(tmp_path)
    try:
        wait_for(lambda: counted(tmp_path) > before + 3)
    finally:
        processes.kill(child)


def test_sigterm_ends_the_whole_command_and_no_process_is_left(tmp_path: Path) -> None:
    process = watching_process(tmp_path, "bash", "-c", f"{PYTHON} -c '{COUNTING}'; true")
    wait_for(lambda: counted(tmp_path) > 1)
    below = processes.descendants(process.pid)
    assert below
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert not any(map(processes.is_running, below))


def test_ctrl_c_without_a_terminal_reaches_the_command(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [PYTHON, "-c", WATCH, str(tmp_path), PYTHON, "-c", COUNTING],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: counted(tmp_path) > 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert "KeyboardInterrupt" in (tmp_path / "output.log").read_text()


def test_a_missing_log_ends_no_reading(tmp_path: Path) -> None:
    command = launch([PYTHON, "-c", "print(1)"], tmp_path, {})
    wait_for(lambda: command.status is not None)
    command.output.unlink()
    assert command.read_output() == ""
    assert isinstance(command, WatchedCommand)
