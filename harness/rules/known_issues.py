"""What is expected to fail, in which releases, and why: `matrices/known_issues.toml`.

The form is described at the head of that file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from harness.config.toml_tables import Problems, Table, did_you_mean, read_document, tables_of
from harness.core.cells import Cell, Check, Device, Entry, Failure, Severity, Status
from harness.core.evidence.common import FINDING
from harness.core.versions import version_of
from harness.rules.code_that_ran import CodePlace, CodeThatRan, files_in
from harness.rules.issue_conditions import Condition

SCHEMA = 1
"""Version of the form of the file."""

NOT_YET_EXPLAINED = "not yet explained"
"""What `cause` says while nobody knows."""

TOLD_ELSEWHERE = "reported elsewhere"
"""What `applies_when` says where preflight finds the same on the user's own files."""

FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY)
"""The statuses that speak against a release."""

KEYS = (
    *("id", "title", "severity", "releases", "code", "variants", "checks", "shapes", "entry", "devices"),
    *("status", "signatures", "applies_when", "cause", "remedy", "upstream", "seen", "varies", "published"),
)

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class KnownIssue:
    """One way of failing that the harness has seen, and the cells that it is expected of."""

    id: str
    title: str
    severity: Severity
    """What the fault does to a training; it counts for more than what the rule for new findings derives."""
    releases: str | tuple[str, ...]
    """A specifier such as `>=1.0.7,<1.0.12`, or versions one by one; a local release goes by its version."""
    checks: tuple[Check, ...]
    code: tuple[CodePlace, ...] = ()
    """The code at fault, if known. The issue is expected wherever some of it runs (`harness.rules.code_that_ran`)."""
    variants: tuple[str, ...] = ()
    """Where the fault is a variant's own. None means all, as for the next three."""
    shapes: tuple[str, ...] = ()
    """Globs such as `v*-h320`."""
    entry: Entry | None = None
    """The one entry point that `finetune` is meant with; both when None. It says nothing of other checks."""
    devices: tuple[Device, ...] = ()
    status: Status = Status.FAILED
    signatures: tuple[str, ...] = ()
    """Empty only where a status leaves no traceback."""
    applies_when: tuple[Condition, ...] = ()
    """What a user's training has to have to meet it; all of them. None: every training of the releases meets it."""
    reported_elsewhere: bool = False
    """Whether preflight finds what it does on the user's own files, so that the issue need not be listed too."""
    cause: str
    remedy: str = ""
    upstream: tuple[str, ...] = ()
    """Reports such as `modelscope/FunASR#1478`."""
    seen: str
    """The id of a cell in which the harness itself saw it."""
    varies: str = ""
    """Why it shows on some machines and not on others; a cell that passes is then as expected."""

    published: str = ""
    """Why the published configuration meets `applies_when`; empty where a user's own setting has to."""

    @property
    def by_setting(self) -> bool:
        """Whether a user meets it by a setting of their own, and not by training the model as it was published."""
        return bool(self.applies_when) and not self.published

    @property
    def explained(self) -> bool:
        """Whether the cause is known."""
        return self.cause.strip().rstrip(".").lower() != NOT_YET_EXPLAINED

    @property
    def finding_signatures(self) -> frozenset[str]:
        """The signatures `Finding@CODE` among the issue's: what does not decide a cell's status."""
        return frozenset(signature for signature in self.signatures if signature.startswith(f"{FINDING}@"))

    @property
    def failing(self) -> tuple[str, ...]:
        """The other signatures: what a cell fails with."""
        return tuple(signature for signature in self.signatures if not signature.startswith(f"{FINDING}@"))

    @property
    def expects_failure(self) -> bool:
        """Whether a cell that has this issue fails; with findings alone it may pass."""
        return bool(self.failing) or not self.signatures

    def is_at(self, place: str) -> bool:
        """Whether a finding's place may be the code at fault.

        A model's code is in one file; what a trainer does wrong may show in whatever it calls. Nothing speaks against
        it where place or code are unknown.
        """
        files = files_in(place)
        return (
            not files
            or not self.code
            or any(place_of_code.file in files or not place_of_code.of_a_model for place_of_code in self.code)
        )

    def runs_in(self, ran: CodeThatRan) -> bool:
        """Whether some of the code at fault runs in a cell."""
        return not self.code or any(ran.has(place) for place in self.code)

    def covers(self, cell: Cell) -> bool:
        """Whether this cell is one of those that the issue speaks of, wherever its code runs."""
        return (
            cell.check in self.checks
            and (not self.variants or cell.variant in self.variants)
            and (not self.shapes or any(fnmatchcase(str(cell.dimensions), glob) for glob in self.shapes))
            and (self.entry is None or cell.entry in (None, self.entry))
            and (not self.devices or cell.device in self.devices)
            and self.concerns(cell.release)
        )

    def fits(self, status: Status, failure: Failure | None) -> bool:
        """Whether a failure is this one: the same status, and a signature that is listed."""
        if status is not self.status:
            return False
        return failure.signature in self.signatures if failure else not self.signatures

    def concerns(self, release: str) -> bool:
        """Whether a release is one of those that the issue names."""
        version = version_of(release)
        if version is None:
            return False
        if isinstance(self.releases, str):
            return SpecifierSet(self.releases).contains(version, prereleases=True)
        return any(Version(version.public) == Version(name) for name in self.releases)


@dataclass(frozen=True, kw_only=True)
class KnownIssues:
    """All issues of one file."""

    issues: tuple[KnownIssue, ...] = ()

    def matching(self, cell: Cell, ran: CodeThatRan | None = None) -> tuple[KnownIssue, ...]:
        """The issues that cover a cell and whose code runs in it, in the file's order.

        Args:
            cell: object cell.
            ran: What is known about the code that ran; before it has, what the cell itself says.
        """
        covering = [issue for issue in self.issues if issue.covers(cell)]
        if not covering:
            return ()
        known = ran or CodeThatRan.expected(cell)
        return tuple(issue for issue in covering if issue.runs_in(known))


def load_known_issues(path: Path, *, variants: Sequence[str]) -> KnownIssues:
    """Read the known issues.

    Args:
        path: The TOML file.
        variants: The names that an issue may speak of.

    Raises:
        MatrixError: all that is wrong with the file, at once.
    """
    document = read_document(path)
    problems = Problems(source=str(path))
    top = Table(values=document.tables, place="", problems=problems)
    top.only(["schema", "issue"])
    if top.values.get("schema") != SCHEMA or isinstance(top.values["schema"], bool):
        problems.add("schema", f"expected {SCHEMA}, found {top.values.get('schema')!r}")
    issues: list[KnownIssue] = []
    for table in tables_of(top.values, "issue", problems):
        issue = _read_issue(table, variants)
        if issue is not None and any(other.id == issue.id for other in issues):
            problems.add(table.at("id"), f'"{issue.id}" names an issue above')
        elif issue is not None:
            issues.append(issue)
    problems.stop_if_any()
    return KnownIssues(issues=tuple(issues))


def _read_issue(table: Table, variants: Sequence[str]) -> KnownIssue | None:
    noted = len(table.problems.found)
    table.only(KEYS)
    entry = _one_of(table, "entry", Entry)
    status = _one_of(table, "status", Status, legal=FAILURES)
    severity = _one_of(table, "severity", Severity)
    if not table.has("severity"):
        table.problems.add(table.at("severity"), f"missing: one of {', '.join(Severity)}")
    issue = KnownIssue(
        id=_text(table, "id"),
        title=_text(table, "title"),
        severity=severity or Severity.BROKEN,
        releases=_releases(table),
        code=_code(table),
        variants=_listed(table, "variants", lambda name: "" if name in variants else did_you_mean(name, variants)),
        checks=_choices(table, "checks", Check, required=True),
        shapes=_listed(
            table, "shapes", lambda glob: "" if _SHAPE_GLOB.fullmatch(glob) else "expected a form like v*-h320"
        ),
        entry=entry,
        devices=_choices(table, "devices", Device),
        status=status or Status.FAILED,
        signatures=_listed(table, "signatures"),
        applies_when=_conditions(table),
        reported_elsewhere=table.values.get("applies_when") == TOLD_ELSEWHERE,
        cause=_text(table, "cause"),
        remedy=_text(table, "remedy", default=""),
        upstream=_listed(
            table, "upstream", lambda report: "" if _REPORT.fullmatch(report) else "expected owner/name#1"
        ),
        seen=_text(table, "seen"),
        varies=_text(table, "varies", default=""),
        published=_text(table, "published", default=""),
    )
    if issue.status is Status.FAILED and not issue.signatures:
        table.problems.add(table.at("signatures"), "missing: a failure is recognised by its signature")
    if issue.entry is not None and issue.checks and not any(check.through_trainer for check in issue.checks):
        table.problems.add(table.at("entry"), "only checks about a trainer have an entry point")
    if len(table.problems.found) > noted:
        return None
    _note_seen(table, issue)
    return issue


_SHAPE_GLOB = re.compile(r"v[0-9*?]+-h[0-9*?]+")
_REPORT = re.compile(r"[\w.-]+/[\w.-]+#[1-9][0-9]*", re.ASCII)


def _note_seen(table: Table, issue: KnownIssue) -> None:
    """An issue that does not cover the very cell in which it was seen says something else than it means.

    Whether its code ran there is for the outcome to say: a traceback may go through code that no config names.
    """
    try:
        cell = Cell.parse(issue.seen)
        covered = issue.covers(cell)
    except ValueError as error:
        table.problems.add(table.at("seen"), str(error))
        return
    if covered and all(place.entry and place.entry != cell.entry for place in issue.code) and issue.code:
        table.problems.add(table.at("code"), f'none of it runs in the cell "{issue.seen}" in which it was seen')
    if not covered:
        table.problems.add(table.at("seen"), f'the issue does not cover the cell "{issue.seen}" in which it was seen')


def _text(table: Table, key: str, *, default: str | None = None) -> str:
    """The text of a key; empty where it is wrong, which is noted, or where it may be missing and is."""
    return table.text(key, default=default) or ""


def _conditions(table: Table) -> tuple[Condition, ...]:
    value = table.values.get("applies_when", {})
    if value == TOLD_ELSEWHERE:
        return ()
    if not isinstance(value, Mapping):
        table.problems.add(table.at("applies_when"), f'expected a table of conditions, or "{TOLD_ELSEWHERE}"')
        return ()
    conditions = tuple(Condition(name=str(name), test=str(test)) for name, test in value.items())
    for condition in conditions:
        if problem := condition.problem():
            table.problems.add(table.at("applies_when"), f'"{condition}": {problem}')
    return conditions


def _releases(table: Table) -> str | tuple[str, ...]:
    value = table.values.get("releases")
    if isinstance(value, list):
        return _listed(table, "releases", lambda text: "" if version_of(text) else "expected a version such as 1.0.7")
    text = _text(table, "releases")
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        table.problems.add(table.at("releases"), f'"{text}" is no specifier such as ">=1.0.7,<1.0.12"')
    return text


def _code(table: Table) -> tuple[CodePlace, ...]:
    def about(text: str) -> str:
        try:
            CodePlace.parse(text)
        except ValueError as error:
            return str(error)
        return ""

    noted = len(table.problems.found)
    texts = _listed(table, "code", about)
    return tuple(map(CodePlace.parse, texts)) if len(table.problems.found) == noted else ()


def _listed(table: Table, key: str, about: Callable[[str], str] = lambda _: "") -> tuple[str, ...]:
    """The strings of a key, or the one string; `about` gives a problem with one, or nothing."""
    if not table.has(key):
        return ()
    items = table.texts(key, lone=True) or ()
    for item in items:
        if problem := about(item):
            table.problems.add(table.at(key), f'"{item}": {problem}')
    return items


def _choices(
    table: Table, key: str, kind: type[Word], *, legal: Sequence[Word] = (), required: bool = False
) -> tuple[Word, ...]:
    """The words of a key, each a member of an enumeration; those that are not are noted."""
    words = tuple(legal) or tuple(kind)
    if required and not table.has(key):
        table.problems.add(table.at(key), "missing")
    items = _listed(table, key, lambda word: "" if word in words else did_you_mean(word, words))
    return tuple(kind(item) for item in items if item in words)


def _one_of(table: Table, key: str, kind: type[Word], *, legal: Sequence[Word] = ()) -> Word | None:
    if isinstance(table.values.get(key), list):
        table.problems.add(table.at(key), "expected one text, found a list")
        return None
    chosen = _choices(table, key, kind, legal=legal)
    return chosen[0] if chosen else None
