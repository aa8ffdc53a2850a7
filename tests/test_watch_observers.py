"""The observers of a user's training without a training: their syntax, their start, what they write."""

from __future__ import annotations

import ast
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.rules.unigram import Criterion, Unigram
from harness.watch.launch_environment import RECORDS, STARTUP, environment
from harness.watch.reading import RecordFolder
from harness.watch.records import Ended
from harness.worker.watch import writing
from harness.worker.watch.observer import TrainingObserver
from harness.worker.watch.unigram import UnigramBaseline

FOLDER = Path(__file__).parent.parent / "harness" / "worker" / "watch"
MODULES = sorted(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_the_observers_are_written_in_python_3_8_and_import_nothing_of_the_harness(module: Path) -> None:
    tree = ast.parse(module.read_text("utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] in {*sys.stdlib_module_names, "torch"}, name
        # New in Python 3.9.
        assert not (isinstance(node, ast.Attribute) and node.attr in ("removeprefix", "removesuffix")), module


def run_python(folder: Path, *words: str, base: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    given = environment(folder, {"PATH": os.environ["PATH"], **(base or {})})
    return subprocess.run([sys.executable, *words], env=given, capture_output=True, text=True, timeout=60, check=False)


def write_trainer(folder: Path) -> None:
    """A package with the name of FunASR's trainer and nothing in it."""
    for name in ("funasr/__init__.py", "funasr/train_utils/__init__.py", "funasr/train_utils/trainer.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "funasr/version.txt").write_text("1.9.9\n")


def test_the_users_own_sitecustomize_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['MINE'] = 'ran'\n")
    code = "import os, sys; print(os.environ['MINE'], sys.modules['sitecustomize'].__file__, *sys.path)"
    done = run_python(tmp_path, "-c", code, base={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.split()[:2] == ["ran", str(tmp_path / "sitecustomize.py")]
    assert str(STARTUP) not in done.stdout


def test_a_process_that_imports_no_trainer_is_left_alone(tmp_path: Path) -> None:
    code = "import sys, json, email; print(*sorted(one for one in sys.modules if 'harness' in one))"
    done = run_python(tmp_path, "-c", code)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("\n", "", [])


def test_where_nothing_can_be_written_the_training_goes_on(tmp_path: Path) -> None:
    write_trainer(tmp_path)
    (tmp_path / "torch.py").write_text("raise ImportError('none here')\n")
    (tmp_path / "train.py").write_text("import funasr.train_utils.trainer\nprint('goes on')\n")
    done = run_python(tmp_path / "nowhere", str(tmp_path / "train.py"), base={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr


def test_a_trainer_that_fails_before_it_trains_has_a_record_of_it(tmp_path: Path) -> None:
    write_trainer(tmp_path)
    (tmp_path / "torch.py").write_text("raise ImportError('none here')\n")
    (tmp_path / "train.py").write_text("import funasr.train_utils.trainer\nraise KeyError('planted')\n")
    records = tmp_path / "records"
    records.mkdir()
    done = run_python(records, str(tmp_path / "train.py"), "++a=b", base={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    (file,) = records.iterdir()
    first, *observers, last = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert (first["kind"], first["funasr"], first["argv"][-1]) == ("process", "1.9.9", "++a=b")
    # Without torch none of them has anything to observe.
    assert {one["kind"] for one in observers} == {"observer"}
    assert (last["kind"], last["how"], last["status"]) == ("end", "exception", 1)
    assert last["exception"] == "builtins.KeyError: 'planted'"


def test_without_a_folder_for_records_nothing_begins() -> None:
    assert environment(Path("records"), {})[RECORDS] == str(Path("records").absolute())
    code = "import sys; print([type(one).__name__ for one in sys.meta_path])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(STARTUP)}, capture_output=True, text=True, check=True
    )
    assert "TrainerFinder" not in done.stdout


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text("utf-8").splitlines() if line]


def test_a_line_that_a_full_disk_cut_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writing.RecordWriter(str(tmp_path), {"format": 1})
    writer.write("step", {"step": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    writer.write("step", {"step": 2})
    monkeypatch.setattr(os, "write", write)
    writer.write("step", {"step": 3})
    assert writer.lost == 1
    (file,) = tmp_path.iterdir()
    whole = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    assert [one.get("step") for one in whole] == [None, 1, 3]


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    writer = writing.RecordWriter(str(tmp_path), {})
    child = os.fork()
    if not child:
        writer.write("step", {"step": 1})
        os._exit(0)
    os.waitpid(child, 0)
    assert not list(tmp_path.iterdir())


def test_a_second_process_of_the_same_number_gets_a_file_of_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        writing.RecordWriter(str(tmp_path), {}).begin()
    assert len(list(tmp_path.iterdir())) == 3


def test_what_json_lacks_is_written_as_text(tmp_path: Path) -> None:
    writing.RecordWriter(str(tmp_path), {}).write("step", {"loss": [math.nan, math.inf, -math.inf, 1.5], "x": object()})
    assert lines(tmp_path)[1]["loss"] == ["nan", "inf", "-inf", 1.5]
    assert lines(tmp_path)[1]["x"] == "object"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_baseline_is_that_of_the_rules(smoothing: float) -> None:
    rows = [(5, 6, 7, 2), (5, 9, 2), (5, 10, 11, 12, 2)]
    ids = [token for row in rows for token in row]
    baseline = UnigramBaseline()
    baseline.configure(30, smoothing)
    baseline.add(ids)
    criterion = Criterion(classes=30, smoothing=smoothing, normalize_length=True)
    expected = Unigram.of(criterion, {token: ids.count(token) for token in ids}).loss(rows)
    assert baseline.loss() == pytest.approx(expected)
    assert baseline.tokens == 12


def test_an_engine_that_does_not_show_itself_is_found_where_the_trainer_holds_it() -> None:
    """DeepSpeed's `train` calls that of the module within it, so that no wrapper is seen there."""

    class DeepSpeedEngine:
        module = network = object()

    observer = TrainingObserver(writing.RecordWriter("nowhere", {}))
    for model, held, wrapped in (
        (DeepSpeedEngine(), DeepSpeedEngine.network, "DeepSpeedEngine"),
        (DeepSpeedEngine(), object(), ""),
        (DeepSpeedEngine.network, DeepSpeedEngine.network, ""),
    ):
        observer.network, observer.wrapped = held, ""
        observer._find_wrapper(sys._getframe())
        assert observer.wrapped == wrapped, model


def terminated(folder: Path, code: str) -> tuple[int, list[Any]]:
    """The status of a trainer that SIGTERM is sent to, and its records."""
    write_trainer(folder)
    (folder / "torch.py").write_text("raise ImportError('none here')\n")
    (folder / "train.py").write_text(f"import os, signal, time\nimport funasr.train_utils.trainer\n{code}\n")
    (folder / "records").mkdir()
    done = run_python(folder / "records", str(folder / "train.py"), base={"PYTHONPATH": str(folder)})
    return done.returncode, [one for _, one in RecordFolder(folder / "records").read()]


def test_sigterm_ends_the_process_as_before_and_is_recorded_with_its_place(tmp_path: Path) -> None:
    # Another process sends it while this one is in a call of C's that holds the interpreter: no handler of Python runs.
    code = """
import ctypes, subprocess
def waits():
    ctypes.pythonapi.sleep(20)
subprocess.Popen(['sh', '-c', f'sleep 0.5; kill {os.getpid()}'])
waits()"""
    status, found = terminated(tmp_path, code)
    assert status == -signal.SIGTERM
    (ended,) = [one for one in found if isinstance(one, Ended)]
    assert (ended.how, ended.status) == ("signal", 143)
    assert any("in waits" in line for line in ended.traceback)


def test_a_process_that_native_code_aborts_ends_as_before_and_is_recorded_with_its_place(tmp_path: Path) -> None:
    code = """
import ctypes
def reduces():
    ctypes.pythonapi.abort()
reduces()"""
    status, found = terminated(tmp_path, code)
    assert status == -signal.SIGABRT
    (ended,) = [one for one in found if isinstance(one, Ended)]
    assert (ended.how, ended.status, ended.exception) == ("crash", None, "Fatal Python error: Aborted")
    assert any("in reduces" in line for line in ended.traceback)


@pytest.mark.parametrize("ending", ["raise KeyError('planted')", "try:\n    1 / 0\nexcept Exception:\n    sys.exit(1)"])
def test_an_exception_is_recorded_before_the_interpreter_finishes(tmp_path: Path, ending: str) -> None:
    """torchrun sends SIGTERM to the ranks beside one that failed, and torch's own ends take a while."""
    late = "import atexit, sys\natexit.register(lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    status, found = terminated(tmp_path, late + ending)
    assert status == -signal.SIGKILL
    (ended,) = [one for one in found if isinstance(one, Ended)]
    assert ended.how == "exception"


def test_the_batch_that_a_process_was_in_is_known_after_a_signal(tmp_path: Path) -> None:
    code = """
from _funasr_harness_watch.start import _begun as observer
observer.termination.at(2, 5)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)"""
    status, found = terminated(tmp_path, code)
    assert status == -signal.SIGTERM
    (ended,) = [one for one in found if isinstance(one, Ended)]
    assert (ended.epoch, ended.batches) == (2, 5)


def test_a_signal_that_the_training_handles_stays_its_own(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: print('mine'))\nos.kill(os.getpid(), signal.SIGTERM)"
    status, found = terminated(tmp_path, code)
    assert status == 0
    (ended,) = [one for one in found if isinstance(one, Ended)]
    assert ended.how == "finished"
    assert [path.suffix for path in (tmp_path / "records").iterdir()] == [".jsonl"]


def test_a_forked_child_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    code = """
pid = os.fork()
if not pid:
    time.sleep(20)
os.kill(pid, signal.SIGTERM)
assert os.waitpid(pid, 0)[1] == signal.SIGTERM"""
    status, found = terminated(tmp_path, code)
    assert status == 0
    assert [one.how for one in found if isinstance(one, Ended)] == ["finished"]
