"""The result file and the end of the process decide together; silence is no pass."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from execute_scene import make_cell

from harness.core.cells import Frame, Outcome, Status
from harness.core.tree_events import Finished, ReleaseDied
from harness.run.artifacts import CellArtifacts
from harness.run.decide import LOG_LINES, decide, log_tail

GOOD: dict[str, Any] = {
    "status": "passed",
    "reason": "",
    "failure": None,
    "metrics": {"loss": 1.5},
    "evidence": {"seen": True},
    "shims": ["cuda-calls-stay-on-cpu"],
}
CELL = make_cell(0)
LOG = "one\ntwo\n"


def decided(result: Any = None, *, log: str = LOG, frames: tuple[Frame, ...] = (), **event: Any) -> Outcome:
    text = result if result is None or isinstance(result, str) else json.dumps(result)
    finished = Finished(**{"number": 0, "exit_code": 0, "seconds": 0.5, "started": "2026-01-01T00:00:00Z", **event})
    return decide(CELL, finished, CellArtifacts(result=text, log=log, frames=frames))


def failing(kind: str, message: str, status: str = "failed") -> dict[str, Any]:
    failure = {"type": kind, "message": message, "frames": [], "signature": f"{kind}@funasr/a.py:f"}
    return {**GOOD, "status": status, "reason": f"{kind}: {message}", "failure": failure}


def test_a_good_result_and_a_good_end_are_a_pass_with_all_that_was_said() -> None:
    outcome = decided(GOOD, peak_resident_bytes=4096)
    assert (outcome.status, outcome.reason, outcome.failure) == (Status.PASSED, "", None)
    assert outcome.metrics == {"loss": 1.5, "peak_resident_bytes": 4096}
    assert outcome.evidence == {"seen": True}
    assert outcome.shims == ("cuda-calls-stay-on-cpu",)
    assert (outcome.seconds, outcome.started) == (0.5, "2026-01-01T00:00:00Z")


def test_an_outcome_survives_the_way_to_disk_and_back() -> None:
    outcome = decided(failing("E", "m"), log="x")
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


@pytest.mark.parametrize("status", ["failed", "skipped", "errored", "out_of_memory"])
def test_a_check_speaks_for_itself(status: str) -> None:
    outcome = decided({**GOOD, "status": status, "reason": "because"})
    assert (outcome.status, outcome.reason) == (Status(status), "because")


@pytest.mark.parametrize(
    ("event", "status", "reason", "signature"),
    [
        ({}, Status.CRASHED, "exited with 0 before it gave a result; its last words: two", "Exit0@unknown"),
        (
            {"exit_code": 3},
            Status.CRASHED,
            "exited with 3 before it gave a result; its last words: two",
            "Exit3@unknown",
        ),
        (
            {"exit_code": None, "signal": int(signal.SIGABRT)},
            Status.CRASHED,
            "was ended by SIGABRT before it gave a result; its last words: two",
            "SIGABRT@unknown",
        ),
        (
            {"exit_code": None, "signal": 64 + 1},
            Status.CRASHED,
            "was ended by SIG65 before it gave a result; its last words: two",
            "SIG65@unknown",
        ),
        (
            {"exit_code": None, "signal": int(signal.SIGKILL), "oom_killed": True},
            Status.OUT_OF_MEMORY,
            "killed by the kernel, which had no memory left",
            "KernelOutOfMemory@unknown",
        ),
        (
            {"exit_code": None, "signal": int(signal.SIGKILL), "timed_out": True, "timeout_seconds": 90.0},
            Status.TIMED_OUT,
            "not done after 90 s; where it hung could not be seen",
            "Timeout@unknown",
        ),
        (
            {"exit_code": None, "signal": int(signal.SIGKILL), "over_memory": True, "memory_bytes": 4 << 30},
            Status.OUT_OF_MEMORY,
            "its processes held more than the 4 GiB they were allowed",
            "MemoryLimit@unknown",
        ),
        (
            {"exit_code": None, "timed_out": True, "timeout_seconds": 1.5, "survivors": 1},
            Status.TIMED_OUT,
            "not done after 1.5 s; where it hung could not be seen",
            "Timeout@unknown",
        ),
    ],
)
def test_an_end_without_a_result_is_reported_for_what_it_is(
    event: dict[str, Any], status: Status, reason: str, signature: str
) -> None:
    outcome = decided(None, **event)
    assert (outcome.status, outcome.reason) == (status, reason)
    assert outcome.failure is not None
    assert outcome.failure.signature == signature
    assert outcome.evidence["log_tail"] == "one\ntwo"


@pytest.mark.parametrize("end", [{"exit_code": 1}, {"exit_code": None, "signal": int(signal.SIGSEGV)}])
def test_a_pass_is_none_when_the_process_then_ends_badly(end: dict[str, Any]) -> None:
    outcome = decided(GOOD, **end)
    assert outcome.status is Status.CRASHED
    assert outcome.reason.startswith("gave a result (passed), and then ")
    assert outcome.evidence["result_before_the_end"] == "passed"
    assert outcome.metrics == {"loss": 1.5}


def test_a_pass_is_none_when_the_time_was_up_all_the_same() -> None:
    assert decided(GOOD, timed_out=True).status is Status.TIMED_OUT


def test_a_hang_in_a_release_is_signed_with_its_place() -> None:
    frames = tuple(
        Frame(file=file, line=1, function="f", code="")
        for file in ("harness/worker/process/cell_process.py", "funasr/a.py", "torch/b.py")
    )
    outcome = decided(None, timed_out=True, timeout_seconds=2.0, frames=frames)
    assert outcome.failure is not None
    assert outcome.failure.signature == "Timeout@funasr/a.py:f"
    assert outcome.failure.frames == frames[1:]
    assert outcome.reason == "not done after 2 s; it hung in funasr/a.py:f"


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "it is no JSON object"),
        ({**GOOD, "metrics": []}, "metrics is no JSON object"),
        ({**GOOD, "evidence": None}, "evidence is no JSON object"),
        (json.dumps(GOOD).replace("1.5", "Infinity"), "Infinity is not JSON"),
        ({**GOOD, "status": "blocked", "reason": "x"}, "a check cannot say blocked of itself"),
        ({**GOOD, "status": "fine"}, "'fine' is not a valid Status"),
        ({**GOOD, "reason": "but"}, "passed with the reason 'but'"),
        ({**GOOD, "status": "failed"}, "failed with the reason ''"),
        ({**GOOD, "shims": None}, "shims is no list of texts"),
        ({**GOOD, "failure": {"type": "E"}}, "the key 'message' is missing"),
        ({**GOOD, "failure": ["E"]}, ""),
        ({key: value for key, value in GOOD.items() if key != "metrics"}, "the key 'metrics' is missing"),
    ],
)
def test_a_malformed_result_is_errored_and_says_what_is_wrong(result: Any, fault: str) -> None:
    outcome = decided(result)
    assert outcome.status is Status.ERRORED
    assert outcome.reason.startswith("the result file is malformed: ")
    assert fault in outcome.reason


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("MemoryError", ""),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB"),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ("RuntimeError", "CUDA error: out of memory"),
    ],
)
@pytest.mark.parametrize("status", ["failed", "errored"])
def test_an_allocator_that_gives_up_is_out_of_memory(kind: str, message: str, status: str) -> None:
    outcome = decided(failing(kind, message, status))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.failure is not None
    assert outcome.failure.type == kind


def test_other_failures_are_not_taken_for_a_want_of_memory() -> None:
    assert decided(failing("AssertionError", "out of memory of the author")).status is Status.FAILED
    assert decided(failing("RuntimeError", "shapes differ")).status is Status.FAILED


@pytest.mark.parametrize(
    ("event", "status", "reason"),
    [
        (
            {"entering": False, "signal": 9},
            Status.CRASHED,
            "its release's process was ended by SIGKILL while it ran",
        ),
        (
            {"entering": True, "exit_code": 1},
            Status.CRASHED,
            "its release's process exited with 1 while the release was imported for it",
        ),
        (
            {"entering": True, "timed_out": True, "timeout_seconds": 120.0, "signal": 9},
            Status.TIMED_OUT,
            "entering the release was not done after 120 s; where it hung could not be seen",
        ),
        (
            {"entering": False, "exit_code": 70},
            Status.ERRORED,
            "the harness failed in the release's process while it ran",
        ),
    ],
)
def test_the_death_of_a_release_is_reported_by_the_cell_that_it_happened_to(
    event: dict[str, Any], status: Status, reason: str
) -> None:
    outcome = decide(CELL, ReleaseDied(number=0, batch=0, **event), CellArtifacts(log=LOG))
    assert (outcome.status, outcome.reason) == (status, reason)


def test_circumstances_are_evidence() -> None:
    assert decided(GOOD, leftovers_killed=2, survivors=1).evidence == {
        "seen": True,
        "leftovers_killed": 2,
        "survivors": 1,
    }


def test_the_error_of_entering_goes_with_what_did_not_pass() -> None:
    died = Finished(number=0, exit_code=1)
    assert decide(CELL, died, CellArtifacts(enter_error="ImportError: x")).evidence["enter_error"] == "ImportError: x"
    good = Finished(number=0, exit_code=0)
    assert "enter_error" not in decide(CELL, good, CellArtifacts(result=json.dumps(GOOD), enter_error="x")).evidence


def test_the_tail_of_a_log_is_short_in_both_directions() -> None:
    lines = log_tail("".join(f"{number}\n" for number in range(100)) + "y" * 9000)
    assert len(lines) == LOG_LINES
    assert lines[0] == str(101 - LOG_LINES)
    assert len(lines[-1]) < 600
    assert log_tail("10%\r50%\r100%\n") == ["100%"]
