"""Which of a log's errors ended the training, and what is said of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Severity
from harness.explain.explanation import LogExplanation, Owner
from harness.explain.known import by_signature, explained_by, of_rule
from harness.explain.messages import MessageRule, filled, message_rules
from harness.explain.reading import LogRecord
from harness.explain.release_index import ReleaseIndex
from harness.explain.tracebacks import LoggedError
from harness.explain.unknown import unexplained
from harness.explain.which_release import LogRelease

PREFLIGHT = "funasr-harness preflight MODEL --script finetune.sh"
_OUT_OF_MEMORY = "OutOfMemoryError"
_MOST_EXPLAINED = 12


@dataclass(frozen=True, kw_only=True)
class ErrorExplainer:
    """Explains the errors of one log."""

    release: LogRelease
    index: ReleaseIndex
    cache: Path

    def explanations(self, record: LogRecord) -> Iterator[LogExplanation]:
        """Of every error that is no consequence of another; of one that went on, nothing."""
        ending = [error for error in record.errors if self._ended(error, record)]
        ending = list(_without_repeats(ending))
        with_rules = [(error, *self._rule(error)) for error in ending]
        first_hand = [(error, cause, rule) for error, cause, rule in with_rules if rule is None or not rule.follows]
        for error, cause, rule in (first_hand or with_rules)[:_MOST_EXPLAINED]:
            yield self._explain(error, cause, rule)

    def _ended(self, error: LoggedError, record: LogRecord) -> bool:
        """Whether no training step came after it: what was caught and logged has ended nothing."""
        before = record.steps_after.get(error.at)
        return before is None or record.training.steps <= before

    def _rule(self, error: LoggedError) -> tuple[LoggedError, MessageRule | None]:
        """The rule of the messages for an error, or for one in its chain: the last one first."""
        for candidate in (error, *reversed(error.chain)):
            for rule in message_rules():
                if rule.match(candidate) is not None and (rule.title or of_rule(rule.issues, self.release)):
                    return candidate, rule
        return error, None

    def _explain(self, error: LoggedError, cause: LoggedError, rule: MessageRule | None) -> LogExplanation:
        for candidate in (error, *reversed(error.chain)):
            # An allocator's error has the place of whatever ran, and says nothing of it.
            if candidate.type != _OUT_OF_MEMORY and (issue := by_signature(candidate, self.release, self.index)):
                return explained_by(issue, candidate, self.release)
        if rule is None:
            return unexplained(_innermost(error), self.release, self.index, self.cache)
        if issue := of_rule(rule.issues, self.release):
            return explained_by(issue, cause, self.release)
        values = rule.match(cause) or {}
        return LogExplanation(
            owner=rule.owner,
            rule=rule.id,
            severity=Severity.BROKEN,
            title=filled(rule.title, values),
            cause=filled(rule.cause, values),
            remedy=filled(rule.remedy, values),
            commands=(PREFLIGHT,) if rule.preflight else (),
            evidence=tuple(_evidence(cause)),
            at=cause.at or error.at,
            ranks=(error.rank,) if error.rank else (),
        )


def _innermost(error: LoggedError) -> LoggedError:
    """The worker's own exception where the outer one only reports it."""
    reports = error.text.startswith("Caught ") and error.chain
    return error.chain[-1] if reports else error


def _evidence(error: LoggedError) -> Iterator[str]:
    text = f"{error.type}: {error.text}" if error.text else error.type
    yield text
    inner = error.own or (error.frames[-1] if error.frames else None)
    if inner:
        yield f"{inner.file}:{inner.line} in {inner.function}: {inner.code}"


def _without_repeats(errors: Sequence[LoggedError]) -> Iterator[LoggedError]:
    """A line without frames that repeats the message of a traceback is that one."""
    with_frames = {
        (chained.type, chained.message) for error in errors if error.frames for chained in (error, *error.chain)
    }
    for error in errors:
        if error.frames or (error.type, error.message) not in with_frames:
            yield error


def ended_by_signal(record: LogRecord, explanations: Sequence[LogExplanation]) -> LogExplanation | None:
    """What ended a process from outside; None where an error of the processes' own says more."""
    consequences = {rule.id for rule in message_rules() if rule.follows}
    if any(explanation.rule not in consequences for explanation in explanations):
        return None
    # torchrun ends the other ranks with SIGTERM once one has failed.
    return next((_SIGNALS[number] for number in (9, 11, 7, 6) if record.signals[number]), None)


_SIGNALS = {
    9: LogExplanation(
        owner=Owner.MACHINE,
        rule="signal-9",
        severity=Severity.BROKEN,
        title="A process was ended by signal 9 (SIGKILL)",
        cause="The process itself did nothing wrong that it could report: signal 9 comes from outside and cannot be "
        "caught. Linux sends it where the machine's memory (not the GPU's) runs out, a job scheduler at a limit.",
        remedy="`dmesg | grep -i -e oom -e killed` says whether it was the memory. If so, lower "
        "dataset_conf.num_workers "
        "or raise the memory limit of the container.",
    ),
    11: LogExplanation(
        owner=Owner.MACHINE,
        rule="signal-11",
        severity=Severity.BROKEN,
        title="A process crashed (SIGSEGV) in compiled code",
        cause="",
        remedy="Run again with `python -X faulthandler`, which prints the Python frames of a crash, and "
        "explain that log.",
    ),
    7: LogExplanation(
        owner=Owner.MACHINE,
        rule="signal-7",
        severity=Severity.BROKEN,
        title="A process was ended by signal 7 (SIGBUS)",
        cause="A page of mapped memory could not be had: /dev/shm is full, or a mapped file was cut off.",
        remedy="Start the container with --ipc=host or --shm-size=16g, or set ++dataset_conf.num_workers=0.",
    ),
    6: LogExplanation(
        owner=Owner.UNKNOWN,
        rule="signal-6",
        severity=Severity.BROKEN,
        title="A process aborted itself (SIGABRT)",
        cause="",
        remedy="The line before says why: NCCL's watchdog and C++ exceptions end so.",
    ),
}
