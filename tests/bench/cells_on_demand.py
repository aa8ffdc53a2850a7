"""Runs cells of one release, one for each line that it reads: `python cells_on_demand.py ORDER.json`.

A release's process is forked from one that holds the libraries: one that records what its cells use, as reuse needs it,
and one that does not. Each cell is forked from one of them, as the harness does it. `recorded 1` on standard input runs
the second cell of the order in the first process, `plain -1` forks from the other one a cell that does nothing.
The answer is the processor time that the kernel counted for the cell's process, in seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOTHING = -1


def main(order_path: str) -> None:
    order = json.loads(Path(order_path).read_text("utf-8"))
    # What releases print is no answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for name in order["preload"]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    release = {**order["release"], "order": order_of_registrations(order["release"])}
    requests = [{**request, "release": release} for request in order["requests"]]
    sides = {
        "recorded": ReleaseProcess({**release, "records_code": True}, requests),
        "plain": ReleaseProcess(release, requests),
    }
    print(json.dumps({name: side.entering_seconds for name, side in sides.items()}), file=answers)
    for line in sys.stdin:
        side, number = line.split()
        print(sides[side].cell(int(number)), file=answers)


def order_of_registrations(release: Mapping[str, Any]) -> list[list[str]]:
    """As a run with reuse finds it out beforehand, in a process of its own."""
    reading, writing = os.pipe()
    if not os.fork():
        from harness.worker.checks import dispatch

        result = dispatch.run({"check": "registrations", "release": release, "device": "cpu"})
        with os.fdopen(writing, "w") as file:
            json.dump([row[:3] for row in result["evidence"]["registry"]["registrations"]], file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        rows: list[list[str]] = json.load(file)
    os.wait()
    return rows


class ReleaseProcess:
    """A process that has entered the release and forks a cell for each number that it reads."""

    def __init__(self, release: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> None:
        words_out, self._words = os.pipe()
        answers, answers_in = os.pipe()
        if not os.fork():
            os.close(self._words)
            try:
                serve(release, requests, words_out, answers_in)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        os.close(answers_in)
        self._answers = os.fdopen(answers)
        self.entering_seconds = float(self._answers.readline())

    def cell(self, number: int) -> float:
        """Run a cell; returns its processor time in seconds."""
        os.write(self._words, f"{number}\n".encode())
        return float(self._answers.readline())


def serve(release: Mapping[str, Any], requests: Sequence[Mapping[str, Any]], words: int, answers: int) -> None:
    """Enter the release and run cells until nobody is at the other end."""
    from harness.worker.checks import dispatch
    from harness.worker.record import code_used

    begin = time.process_time()
    dispatch.enter({**release, "below": []})
    os.write(answers, f"{time.process_time() - begin}\n".encode())
    for line in os.fdopen(words):
        child = os.fork()
        if not child:
            number = int(line)
            if number == NOTHING:
                os._exit(0)
            result = dispatch.run(requests[number])
            assert (code_used.RESULT in result) is ("records_code" in release), "recorded against the order"
            json.dumps(result)
            os._exit(0 if result["status"] == "passed" else 1)
        _, status, usage = os.wait4(child, 0)
        if status:
            raise SystemExit("a cell did not pass")
        os.write(answers, f"{usage.ru_utime + usage.ru_stime}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
