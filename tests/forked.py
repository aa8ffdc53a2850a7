"""Runs functions in forked children of a process that has imported torch.

What a function patches is gone with its child, and no test pays for the import but the first.
The process is one of its own, not pytest's: there nothing has used torch, so a fork of it is sound.
As a program it is that process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

_HERE = Path(__file__).parent
# The first optimizer that is made imports torch._dynamo, which takes longer than all else together.
_PRELOADED = ("torch", "torch._dynamo", "numpy", "omegaconf", "hydra", "pytest", "hypothesis", "soundfile")


class Forked:
    """Call it with a function of a test module and arguments that JSON can say; it gives back what JSON can say."""

    def __init__(self, room: Path) -> None:
        self._room = room
        self._calls = 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join((str(_HERE), str(_HERE.parent)))
        self._log = room / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )

    def __call__(self, function: Callable[..., Any], /, **arguments: Any) -> Any:
        """Run the function in a child and give its result.

        Raises:
            AssertionError: it raised, or its process ended without a result.
        """
        self._calls += 1
        folder = self._room / str(self._calls)
        folder.mkdir()
        call = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
        (folder / "call.json").write_text(json.dumps(call), encoding="utf-8")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline().strip()
        result = folder / "result.json"
        assert result.exists(), f"the child ended with {status or 'its server'}: {self._log.read_text()[-4000:]}"
        answer = json.loads(result.read_text(encoding="utf-8"))
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate()


def serve() -> None:
    """For each line, a folder, fork a child that does what its call says; answer with how it ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _perform(Path(line.strip()))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _perform(folder: Path) -> NoReturn:
    try:
        os.chdir(folder)
        answer = _answer(json.loads((folder / "call.json").read_text(encoding="utf-8")))
        draft = folder / "draft.json"
        draft.write_text(json.dumps(answer), encoding="utf-8")
        draft.rename(folder / "result.json")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _answer(call: Mapping[str, Any]) -> dict[str, Any]:
    try:
        function = getattr(importlib.import_module(call["module"]), call["function"])
        return {"value": function(**call["arguments"])}
    except BaseException:
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    serve()
