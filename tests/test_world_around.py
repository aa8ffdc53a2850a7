"""Closed pipes, full devices, odd homes and locales: a message, and an exit status that does not mean a regression."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
