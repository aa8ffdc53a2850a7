"""What became of a cell: decided from its result file *and* from how its process ended, so that silence is no pass."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core import wire
from harness.core.cells import Cell, Failure, Outcome, Status
from harness.core.tree_events import Finished, ReleaseDied
from harness.run.artifacts import CellArtifacts, CellResult, place, read_answer, without_tree

LOG_LINES = 30
"""How much of what a cell printed goes with an outcome that is no pass."""
_LONGEST_LINE = 500
_LONGEST_WORDS = 200
ENOUGH = 0.5
"""Of one processor: a cell that got less in its time limit, because it waited for a processor for at least as large a
part of it, was kept from its answer by the machine."""
_MEMORY_TYPES = frozenset({"MemoryError", "OutOfMemoryError"})
_ALLOCATING = frozenset({"RuntimeError", "OSError"})
_MEMORY_WORDS = (
    "std::bad_alloc",
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "you tried to allocate",
)


@dataclass(frozen=True, kw_only=True)
class _Decision:
    status: Status
    reason: str
    kind: str = ""
    """The failure's type, unless the answer holds a failure."""
    evidence: dict[str, Any] = field(default_factory=dict)


def decide(cell: Cell, event: Finished | ReleaseDied, remains: CellArtifacts) -> Outcome:
    """The outcome of a cell whose process has ended."""
    answer, fault = read_answer(remains.result, cell.check)
    decision = _judge(event, answer, fault, remains)
    failure = answer.failure if answer and not decision.kind else None
    if decision.kind:
        frames = without_tree(remains.frames)
        signature = f"{decision.kind}@{place(frames)}"
        failure = Failure(type=decision.kind, message=decision.reason, frames=frames, signature=signature)
    outcome = Outcome(
        cell=cell,
        status=decision.status,
        reason=decision.reason,
        failure=failure,
        metrics={**_peak(event), **(answer.metrics if answer else {})},
        evidence={**(answer.evidence if answer else {}), **decision.evidence},
        shims=answer.shims if answer else (),
        seconds=event.seconds,
        started=event.started,
    )
    return replace(outcome, evidence={**outcome.evidence, **_circumstances(outcome, event, remains)})


def errored(cell: Cell, reason: str, started: str = "") -> Outcome:
    """The outcome of a cell that the harness or the machine kept from being answered."""
    return Outcome(cell=cell, status=Status.ERRORED, reason=reason, started=started or wire.now())


def log_tail(text: str) -> list[str]:
    """The last lines, none of them endless."""
    lines = [line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").rstrip().split("\n")]
    return [line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " […]" for line in lines[-LOG_LINES:]]


def _judge(event: Finished | ReleaseDied, answer: CellResult | None, fault: str, remains: CellArtifacts) -> _Decision:
    """How the process ended goes before what it said."""
    if isinstance(event, ReleaseDied):
        return _release_died(event, remains)
    if event.over_memory:
        return _Decision(
            status=Status.OUT_OF_MEMORY,
            reason=f"its processes held more than the {event.memory_bytes / 2**30:.3g} GiB they were allowed",
            kind="MemoryLimit",
        )
    if event.timed_out:
        return _busy(event, event.timeout_seconds) or _timed_out(event.timeout_seconds, remains)
    if event.exit_code != 0:
        return _ended_badly(event, answer, remains)
    if remains.result is None:
        return _crashed("exited with 0 before it gave a result", "Exit0", remains)
    if answer is None:
        return _Decision(status=Status.ERRORED, reason=f"the result file is malformed: {fault}")
    if _is_memory(answer) and answer.status in (Status.FAILED, Status.ERRORED):
        return _Decision(status=Status.OUT_OF_MEMORY, reason=answer.reason)
    return _Decision(status=answer.status, reason=answer.reason)


def _release_died(event: ReleaseDied, remains: CellArtifacts) -> _Decision:
    when = "while the release was imported for it" if event.entering else "while it ran"
    if event.timed_out and (busy := _busy(event, event.timeout_seconds, "entering the release was ")):
        return busy
    if event.silent and (busy := _busy(event, event.seconds, "its release's process was ended, ")):
        return busy
    if event.timed_out:
        return _Decision(
            status=Status.TIMED_OUT,
            reason=f"entering the release was not done after {event.timeout_seconds:g} s; {_place_words(remains)}",
            kind="Timeout",
        )
    if event.silent:
        reason = f"its release's process reported nothing any more {when}, and was ended"
        return _Decision(status=Status.CRASHED, reason=reason, kind="Silent")
    if event.exit_code == wire.OWN_FAULT:
        return _Decision(status=Status.ERRORED, reason=f"the harness failed in the release's process {when}")
    ending, kind = how_ended(event.exit_code, event.signal)
    return _Decision(status=Status.CRASHED, reason=f"its release's process {ending} {when}", kind=kind)


def _timed_out(limit: float, remains: CellArtifacts) -> _Decision:
    reason = f"not done after {limit:g} s; {_place_words(remains)}"
    return _Decision(status=Status.TIMED_OUT, reason=reason, kind="Timeout")


def _busy(event: Finished | ReleaseDied, limit: float, subject: str = "") -> _Decision | None:
    """The decision for a cell that had too little of a processor to be judged by the clock.

    None for a cell that sleeps, which waits for no processor, and for one that computes on a processor that it got.
    None too where the kernel does not count the time that threads wait.
    """
    if event.ran_seconds >= ENOUGH * limit or event.waited_seconds < ENOUGH * limit:
        return None
    reason = (
        f"{subject}not done after {limit:.4g} s because the machine was busy: it ran for {event.ran_seconds:.3g} s and "
        f"waited for a processor for {event.waited_seconds:.3g} s"
    )
    return _Decision(status=Status.ERRORED, reason=reason)


def _place_words(remains: CellArtifacts) -> str:
    where = place(without_tree(remains.frames))
    return "where it hung could not be seen" if where == "unknown" else f"it hung in {where}"


def _ended_badly(event: Finished, answer: CellResult | None, remains: CellArtifacts) -> _Decision:
    ending, kind = how_ended(event.exit_code, event.signal)
    evidence = {"result_before_the_end": str(answer.status)} if answer else {}
    if event.signal == signal.SIGKILL and event.oom_killed:
        reason = "killed by the kernel, which had no memory left"
        return _Decision(status=Status.OUT_OF_MEMORY, reason=reason, kind="KernelOutOfMemory", evidence=evidence)
    if answer:
        reason = f"gave a result ({answer.status}), and then {ending}"
        return _Decision(status=Status.CRASHED, reason=reason, kind=kind, evidence=evidence)
    if event.exit_code == wire.OWN_FAULT:
        words = _last_words(remains)
        return _Decision(status=Status.ERRORED, reason=f"the harness failed in the cell's process{words}")
    return _crashed(f"{ending} before it gave a result", kind, remains)


def _crashed(reason: str, kind: str, remains: CellArtifacts) -> _Decision:
    return _Decision(status=Status.CRASHED, reason=reason + _last_words(remains), kind=kind)


def how_ended(exit_code: int | None, signum: int | None) -> tuple[str, str]:
    """In words, and as the type of a failure."""
    if signum is not None:
        try:
            name = signal.Signals(signum).name
        except ValueError:
            name = f"SIG{signum}"
        return f"was ended by {name}", name
    if exit_code is not None:
        return f"exited with {exit_code}", f"Exit{exit_code}"
    return "could not be ended", "Unkillable"


def _last_words(remains: CellArtifacts) -> str:
    lines = [line.strip() for line in log_tail(remains.log) if line.strip()]
    return f"; its last words: {lines[-1][:_LONGEST_WORDS]}" if lines else ""


def _peak(event: Finished | ReleaseDied) -> dict[str, object]:
    peak = event.peak_resident_bytes if isinstance(event, Finished) else None
    return {} if peak is None else {"peak_resident_bytes": peak}


def _circumstances(outcome: Outcome, event: Finished | ReleaseDied, remains: CellArtifacts) -> dict[str, object]:
    evidence: dict[str, Any] = {}
    if isinstance(event, Finished) and event.leftovers_killed:
        evidence["leftovers_killed"] = event.leftovers_killed
    if isinstance(event, Finished) and event.survivors:
        evidence["survivors"] = event.survivors
    if outcome.status in (Status.PASSED, Status.SKIPPED):
        return evidence
    if remains.log.strip() and "log_tail" not in outcome.evidence:
        evidence["log_tail"] = "\n".join(log_tail(remains.log))
    if remains.enter_error:
        evidence["enter_error"] = remains.enter_error
    return evidence


def _is_memory(answer: CellResult) -> bool:
    if answer.failure is None:
        return False
    message = answer.failure.message.lower()
    kind = answer.failure.type.rpartition(".")[2]
    return kind in _MEMORY_TYPES or (kind in _ALLOCATING and any(words in message for words in _MEMORY_WORDS))


def blocked(cell: Cell, below: Sequence[Outcome]) -> Outcome:
    """The outcome of a cell whose earlier checks are `below`, of which at least one did not pass.

    It names the lowest that did not pass by itself. What was skipped skips all that depends on it, for the same reason.
    """
    causes = [outcome for outcome in below if outcome.status is not Status.PASSED]
    roots = [outcome for outcome in causes if outcome.status is not Status.BLOCKED] or causes
    cause = min(roots, key=lambda outcome: outcome.cell.check.position)
    if cause.status is Status.SKIPPED:
        evidence = {**cause.evidence, "skipped_with": cause.evidence.get("skipped_with", cause.cell.id)}
        inherited = {key: value for key, value in evidence.items() if key in ("absent", "skipped_with")}
        return Outcome(cell=cell, status=Status.SKIPPED, reason=cause.reason, evidence=inherited, started=wire.now())
    words = cause.status.replace("_", " ")
    return Outcome(
        cell=cell,
        status=Status.BLOCKED,
        reason=f"depends on {cause.cell.id}, which {_VERB.get(cause.status, 'ended as ' + words)}",
        evidence={"blocked_by": cause.cell.id},
        started=wire.now(),
    )


_VERB = {
    Status.FAILED: "failed",
    Status.CRASHED: "crashed",
    Status.TIMED_OUT: "timed out",
    Status.OUT_OF_MEMORY: "ran out of memory",
    Status.BLOCKED: "is blocked itself",
    Status.ERRORED: "was not answered, by a fault of the harness or the machine",
}
