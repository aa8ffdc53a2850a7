"""What preflight finds: each finding has a severity, a place, evidence and the line to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.cells import Severity


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a finding is: a file with a line or a dotted key."""

    file: str = ""
    """The path as the user named it; empty for the command line."""
    line: int | None = None
    """Counted from 1."""
    key: str = ""
    """Dotted: `train_conf.max_epoch`; in a jsonl the row's `key`, in a checkpoint the tensor's name."""

    def __str__(self) -> str:
        # Of the release's own files many have the same name.
        where = self.file if self.file.startswith("funasr/") else Path(self.file).name or "command line"
        where += f":{self.line}" if self.line is not None else ""
        return f"{where}, {self.key}" if self.key else where


@dataclass(frozen=True, kw_only=True)
class PreflightFinding:
    """One problem of the user's files, command or release."""

    severity: Severity
    """`broken`: it will not train, or the result is not the model; `wrong`: something else is trained than the files
    and the command say; `minor`: what is learned is the same."""
    rule: str
    """Short, unique, as in the docs' table: `tokens-output-size`."""
    message: str
    """What is wrong and what follows from it, in one sentence without the place."""
    place: Place
    evidence: tuple[str, ...] = ()
    """What was read or measured, a line each. Data from outside: whoever prints it escapes it."""
    remedy: str = ""
    """What to do, if possible the line to type."""
    count: int = 1
    """How many rows, keys or tensors it is about."""


GRAVEST_FIRST = tuple(Severity)


def ordered(findings: Iterable[PreflightFinding]) -> tuple[PreflightFinding, ...]:
    """The findings, the gravest first; within a severity in the order in which they were found."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: GRAVEST_FIRST.index(finding.severity)))


@dataclass(frozen=True, kw_only=True)
class PreflightFact:
    """Something that was measured or computed and is no problem: `rows that are trained on`, `8 of 8`."""

    section: str
    """Headline of the group: `data`, `weights`, `schedule`, `memory`, `dry run`."""
    label: str
    value: str
    detail: bool = False
    """Whether the terminal shows it with `-v` only."""


@dataclass(frozen=True, kw_only=True)
class PreflightPart:
    """What one part of preflight has to say."""

    findings: tuple[PreflightFinding, ...] = ()
    facts: tuple[PreflightFact, ...] = ()
    skipped: str = ""
    """Why this part was not checked, in one sentence; empty where it was."""


_SAID_BETTER = {"model-not-built": "key-refused", "text-for-switch": "word-for-no"}
"""By rule, one that says the same of a key and has the remedy: reading the code knows what building only ends at."""


_FORESEEN = ("forward-ends", "validation-ends")
"""What reading the release's code says will end the training; a dry run that ends at this line says the same."""


_LOADS_BASE = ("later-load-takes-base", "known-fine-tuned-folder-loads-its-base")
"""That a later load takes the base, seen in the files of a saved folder; and as a known issue, which is graver."""


def _without_repeats(findings: Sequence[PreflightFinding]) -> Iterator[PreflightFinding]:
    rules_said = {(finding.rule, finding.place.key.rpartition(".")[2]) for finding in findings}
    foreseen, ended = (
        {(finding.place.file, finding.place.line) for finding in findings if finding.rule in rules}
        for rules in (_FORESEEN, ("training-ends",))
    )
    for finding in findings:
        line = (finding.place.file, finding.place.line)
        if finding.rule in _FORESEEN and line in ended:
            yield replace(finding, evidence=("the dry run ended at this line", *finding.evidence))
        elif (finding.rule == "training-ends" and line in foreseen) or (
            finding.rule == _LOADS_BASE[0] and any(other.rule == _LOADS_BASE[1] for other in findings)
        ):
            continue
        elif (_SAID_BETTER.get(finding.rule, ""), finding.place.key.rpartition(".")[2]) not in rules_said:
            yield finding


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that preflight has to say about a set of files and one release."""

    release: str
    findings: tuple[PreflightFinding, ...]
    facts: tuple[PreflightFact, ...]
    skipped: tuple[str, ...]
    faults: tuple[str, ...] = ()
    """Parts that a fault of the harness kept from an answer, each with its exception."""
    unanswered: tuple[str, ...] = ()
    """Parts about which the release gave no answer in time."""

    @classmethod
    def of(
        cls, release: str, parts: Sequence[PreflightPart], *, faults: Sequence[str] = (), unanswered: Sequence[str] = ()
    ) -> Report:
        """The parts together."""
        return cls(
            release=release,
            findings=ordered(_without_repeats([finding for part in parts for finding in part.findings])),
            facts=tuple(fact for part in parts for fact in part.facts),
            skipped=tuple(part.skipped for part in parts if part.skipped),
            faults=tuple(faults),
            unanswered=tuple(unanswered),
        )

    @property
    def clean(self) -> bool:
        """Whether nothing above `minor` was found."""
        return all(finding.severity is Severity.MINOR for finding in self.findings)

    @property
    def go(self) -> bool:
        """Whether nothing above `minor` was found, and no part was kept from an answer."""
        return self.clean and not self.faults and not self.unanswered
