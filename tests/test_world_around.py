"""Closed pipes, full devices, odd homes and locales: a message, and an exit status that does not mean a regression."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import execute_scene
import pytest
from execute_scene import Scene

from harness.core.cells import Status
from harness.core.durable import unforeseen_storage_error
from harness.core.errors import StackError
from harness.environments.environment import probe
from harness.releases import default_cache
from tests.campaign.real_soak import matrix_of

ROOT = Path(__file__).parent.parent
CALL = "import sys; from harness.cli import main; sys.exit(main())"
SAYS = (
    "import sys\n"
    "from harness.commands.exit_status import guarded\n"
    "from harness.text.terminal import say\n"
    "def call():\n"
    "    sys.stdin.readline()\n"
    "    for _ in range(3): say('x' * 100_000)\n"
    "    print('done')\n"
    "    return {status}\n"
    "sys.exit(guarded(call, command={command!r}, debug=False))\n"
)


def environment(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "PYTHONUTF8")}
    return {**kept, "PYTHONPATH": str(ROOT), **changed}


def test_a_command_whose_messages_nobody_reads_goes_on_and_keeps_its_status() -> None:
    """As in `2>&1 | head`."""
    program = [sys.executable, "-c", SAYS.format(command="run", status=0)]
    with subprocess.Popen(
        program, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stderr is not None
        assert command.stdin is not None
        assert command.stdout is not None
        command.stderr.close()
        command.stdin.write("go\n")
        command.stdin.flush()
        assert command.stdout.read() == "done\n"
    assert command.returncode == 0


@pytest.mark.parametrize(("name", "status"), [("list", 0), ("run", 3), ("gate", 3)])
def test_a_command_whose_output_nobody_reads_says_that_nothing_was_found_only_if_it_looks_for_nothing(
    name: str, status: int
) -> None:
    program = [sys.executable, "-c", SAYS.format(command=name, status=1)]
    with subprocess.Popen(
        program, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        command.stdout.close()
        command.stdin.write("go\n")
        command.stdin.flush()
    assert command.returncode == status


def test_a_full_device_for_the_output_is_the_machines_fault() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CALL, "list", "pr"],
            env=environment(),
            text=True,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 3
    assert "likely cause: the disk is full" in done.stderr


@pytest.mark.parametrize(
    ("variables", "words", "status", "said"),
    [
        ({"HOME": "/proc", "XDG_CACHE_HOME": ""}, ("releases", "fetch", "1.4.16"), 3, "set FUNASR_HARNESS_CACHE"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, ("list", "pr"), 0, "/loss_contract/cpu-fp32"),
        ({"COLUMNS": "20"}, ("list", "pr"), 0, "/loss_contract/cpu-fp32"),
    ],
    ids=["home", "locale", "columns"],
)
def test_an_odd_surrounding_has_its_message(
    variables: dict[str, str], words: tuple[str, ...], status: int, said: str
) -> None:
    env = environment(**variables)
    env.pop("FUNASR_HARNESS_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words], env=env, text=True, capture_output=True, check=False, encoding="utf-8"
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    assert "a fault of the harness itself" not in done.stderr


NO_PATHS = ("~nosuchuser/x", "a" * 5000, "a/" * 2500, "a\0b")
OPTIONS = (
    ("list", "pr", "--lock"),
    ("run", "pr", "--known-issues"),
    ("run", "pr", "--cache"),
    ("run", "pr", "-o"),
    ("preflight", "model", "--script"),
    ("list",),
)


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_a_path_that_no_file_can_have_is_bad_input(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli import main

    for text in NO_PATHS:
        with contextlib.suppress(SystemExit):
            status = main([*words, text])
            assert status == 2
        said = capsys.readouterr().err
        assert said.count("error: ") == 1, said
        assert "fault of the harness itself" not in said
        assert len(said) < 20_000
        assert "there is no user ~nosuchuser" in said or "longer than a path" in said or "NUL" in said, said


@pytest.mark.parametrize("variable", ["FUNASR_HARNESS_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_cache_in_the_home_of_nobody_is_bad_input(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.core.errors import InputError

    for name in ("FUNASR_HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/" + "a" * 5000 if variable == "HOME" else "~nosuchuser/cache")
    if variable == "HOME":
        assert default_cache().name == "funasr-harness"
    else:
        with pytest.raises(InputError, match=f"{variable} names no folder: there is no user ~nosuchuser"):
            default_cache()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_what_the_machine_lacks_is_no_fault_of_the_harness(number: int) -> None:
    found = unforeseen_storage_error(OSError(number, os.strerror(number)))
    assert found is not None
    assert found.exit_code == 3
    assert found.cause
    assert found.next_step


JUMPS = (
    "import random, time\n"
    "_real = time.time\n"
    "time.time = lambda: _real() + random.choice((-1e6, 0.0, 1e6))\n"
    "time.time_ns = lambda: int(time.time() * 1e9)\n"
)


def test_a_clock_that_jumps_changes_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By eleven days to and fro, at each look at it, in every process."""
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scene = Scene(tmp_path / "workspace", isolated=True)
    hanging = scene.add("hangs")
    scene.limits[hanging] = 2.0
    others = scene.bystanders(2)
    outcomes = scene.run()
    assert outcomes[hanging].status is Status.TIMED_OUT
    assert {outcomes[cell].status for cell in others} == {Status.PASSED}
    assert all(0 < outcome.seconds < 300 for outcome in outcomes.values())
    assert outcomes[hanging].seconds >= 2.0


def run_program(scene: Scene, *before: str) -> dict[str, Any]:
    """The outcomes of a scene that is run in a process of its own, by cell."""
    scene_file = scene.save(scene.workspace.parent / "scene.json")
    env = environment(PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "tests"), str(scene.workspace.parent))))
    program = [*before, sys.executable, execute_scene.__file__, str(scene_file)]
    done = subprocess.run(program, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return {line["id"]: line for line in lines if "id" in line}


NO_SHARED_MEMORY = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def can_unshare() -> bool:
    """Whether this kernel lets its user have other mounts."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NO_SHARED_MEMORY, "true"], capture_output=True, check=False).returncode == 0


READ_ONLY = 'mount -t tmpfs -o ro none /dev/shm && ! touch /dev/shm/x 2> /dev/null && exec "$@"'
NONE_AT_ALL = (
    'other=$(mktemp -d) && mount -t tmpfs none "$other" && for name in null zero random urandom; do '
    'touch "$other/$name" && mount --bind "/dev/$name" "$other/$name" || exit 9; done && '
    'ln -s /proc/self/fd "$other/fd" && mount --rbind "$other" /dev && ! test -e /dev/shm && exec "$@"'
)


@pytest.mark.skipif(not can_unshare(), reason="this kernel gives its users no mounts of their own")
@pytest.mark.parametrize("without", [READ_ONLY, NONE_AT_ALL], ids=["read-only", "none at all"])
def test_cells_run_where_nobody_can_write_to_shared_memory(tmp_path: Path, without: str) -> None:
    scene = Scene(tmp_path / "workspace")
    cells = [*scene.bystanders(1), scene.add("exits_with_three")]
    found = run_program(scene, *NO_SHARED_MEMORY, without, "sh")
    assert [found[cell.id]["status"] for cell in cells] == ["passed", "passed", "crashed"]


MEMORY_GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_group(size: int) -> Iterator[Path]:
    """A control group whose processes have so many bytes together."""
    for top, limit in zip(MEMORY_GROUPS, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = top / f"funasr-harness-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(size))
                yield group
            finally:
                group.rmdir()
            return
    pytest.skip("this user can make no control group for memory")


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group whose processes have 300 MB together."""
    with memory_group(300 << 20) as group:
        yield group


def test_a_cell_that_the_kernel_ends_for_want_of_memory_takes_nobody_along(tmp_path: Path, small_memory: Path) -> None:
    """The machine has less than the limit of a cell allows: the kernel ends it."""
    scene = Scene(tmp_path / "workspace", memory=8 << 30)
    before, eater = scene.bystanders(1), scene.add("eats_memory", bytes=600 << 20)
    others = [*before, *scene.bystanders(1)]
    found = run_program(scene, *within(small_memory))
    assert found[eater.id]["status"] == "out_of_memory"
    assert found[eater.id]["reason"] == "killed by the kernel, which had no memory left"
    assert {found[cell.id]["status"] for cell in others} == {"passed"}


def within(group: Path) -> tuple[str, ...]:
    """Words that start a program in this control group."""
    return "sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"


def test_a_machine_too_small_for_the_imports_of_all_releases_is_named(tmp_path: Path, small_memory: Path) -> None:
    scene = Scene(tmp_path / "workspace")
    (tmp_path / "takes_much.py").write_text("taken = b'x' * (600 << 20)\n")
    scene.preload = ("takes_much",)
    cell = scene.add("passes")
    outcome = run_program(scene, *within(small_memory))[cell.id]
    assert outcome["status"] == "errored"
    assert outcome["reason"] == (
        "not run: the process of all releases was ended by the kernel, which had no memory left, and again after it"
        " was restarted"
    )


def test_a_machine_too_small_for_torch_is_named(tmp_path: Path, small_memory: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\ntaken = b'x' * (600 << 20)\n")
    python.chmod(0o755)
    code = (
        "import sys; from harness.core.errors import StackError; from harness.environments.environment import probe\n"
        "try: probe(sys.argv[1])\n"
        "except StackError as error: print(error.what, error.cause, error.next_step, sep='; ')"
    )
    words = [*within(small_memory), sys.executable, "-c", code, str(python)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), text=True, capture_output=True, check=False)
    assert "was ended by SIGKILL while it imported torch; the kernel had no memory left; give" in done.stdout


def test_an_interpreter_that_somebody_kills_is_no_want_of_memory(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    with pytest.raises(StackError) as raised:
        probe(python)
    assert raised.value.cause == "somebody killed it"


def odd_folder(place: Path) -> Path:
    """A folder with a path of 200 characters, with spaces and Chinese."""
    folder = place / "我的 语音 模型"
    folder /= "a long name " + "x" * (200 - len(str(folder)) - 14) + "x"
    folder.mkdir(parents=True)
    assert len(str(folder)) >= 200
    return folder


NO_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "20", "HOME": "/nonexistent"}
ONE_CORE = ("taskset", "-c", str(min(os.sched_getaffinity(0))))


@pytest.mark.skipif(shutil.which("taskset") is None, reason="util-linux is not installed")
def test_cells_run_on_one_core_without_a_locale_or_a_home_in_a_long_path(tmp_path: Path) -> None:
    scene = Scene(odd_folder(tmp_path) / "workspace")
    cells = [*scene.bystanders(1), scene.add("exits_with_three")]
    found = run_program(scene, "env", *(f"{name}={value}" for name, value in NO_LOCALE.items()), *ONE_CORE)
    assert [found[cell.id]["status"] for cell in cells] == ["passed", "passed", "crashed"]


@pytest.mark.long
@pytest.mark.release
@pytest.mark.skipif(shutil.which("taskset") is None, reason="util-linux is not installed")
def test_a_release_runs_in_two_gigabytes_on_one_core_without_a_locale_or_a_home_in_a_long_path(tmp_path: Path) -> None:
    folder = odd_folder(tmp_path)
    (folder / "small matrix.toml").write_text(matrix_of("1.4.16"))
    words = [*ONE_CORE, sys.executable, "-m", "harness", "run", "small matrix.toml", "-o", "out folder"]
    env = environment(**NO_LOCALE, FUNASR_HARNESS_CACHE=str(default_cache()))
    with memory_group(2 << 30) as group:
        done = subprocess.run([*within(group), *words], cwd=folder, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (folder / "out folder" / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["passed"] * 3
