"""The known issue that an error is: by its signature, the release, and the code that it went through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from harness.config.built_in import KNOWN_ISSUES_NAME, LOCK_NAME, shipped_file
from harness.core.cells import Cell, Release, Severity
from harness.core.versions import version_of
from harness.explain.cells import cell_command
from harness.explain.explanation import LogExplanation, Owner
from harness.explain.messages import message_rules
from harness.explain.release_index import ReleaseIndex
from harness.explain.tracebacks import LoggedError
from harness.explain.which_release import LogRelease, spans
from harness.releases import load_lock
from harness.rules.known_issues import KnownIssue, load_known_issues
from harness.variants.catalogue import available


@cache
def known_issues() -> tuple[KnownIssue, ...]:
    """All of the built-in file, or of `matrices/` in the working folder."""
    return load_known_issues(shipped_file(KNOWN_ISSUES_NAME), variants=available()).issues


@cache
def issues_by_id() -> dict[str, KnownIssue]:
    """The same by id."""
    return {issue.id: issue for issue in known_issues()}


@cache
def released() -> tuple[Release, ...]:
    """The published releases, oldest first."""
    return load_lock(shipped_file(LOCK_NAME))


def by_signature(error: LoggedError, release: LogRelease, index: ReleaseIndex) -> KnownIssue | None:
    """The issue that lists an error's signature, in one of the releases that the log can be of."""
    named_elsewhere = {issue for rule in message_rules() for issue in rule.issues}
    signatures = {error.signature, *_signatures_of_code(error, index)}
    for issue in known_issues():
        # Where a rule of the messages names the issue, that rule reports it: it also compares the text.
        if issue.id in named_elsewhere or not signatures & set(issue.failing):
            continue
        if concerns(issue, release) and _went_through(issue, error):
            return issue
    return None


def of_rule(names: Sequence[str], release: LogRelease) -> KnownIssue | None:
    """The first of some issues that the log's release can have."""
    return next((issue for name in names if (issue := issues_by_id().get(name)) and concerns(issue, release)), None)


def concerns(issue: KnownIssue, release: LogRelease) -> bool:
    """Whether one of the releases that the log can be of has the issue."""
    return not release.known or any(map(issue.concerns, release.versions))


def releases_of(issue: KnownIssue) -> tuple[str, ...]:
    """The published releases that have it, oldest first."""
    return tuple(release.version for release in released() if issue.concerns(release.version))


def nearest_without(issue: KnownIssue, release: LogRelease) -> str:
    """The first later release without the issue; empty where every later one has it."""
    having = [version for version in release.versions if issue.concerns(version)] if release.known else []
    own_version = version_of(having[-1] if having else releases_of(issue)[0])
    later = (release.version for release in released() if not issue.concerns(release.version))
    return next(
        (
            candidate
            for candidate in later
            if own_version and (version := version_of(candidate)) and version > own_version
        ),
        "",
    )


def explained_by(issue: KnownIssue, error: LoggedError | None, release: LogRelease, *, at: int = 0) -> LogExplanation:
    """What a known issue says, for a log of this release."""
    all_versions = tuple(release.version for release in released())
    without = nearest_without(issue, release)
    title = issue.title
    model = _needs_model(issue, error)
    remedy = issue.remedy or (f"pip install funasr=={without}" if without else "No release is without it.")
    return LogExplanation(
        owner=Owner.FUNASR,
        rule=issue.id,
        severity=Severity(issue.severity),
        title=f"{title}, if the model is {model}" if model else title,
        cause=issue.cause,
        releases=spans(releases_of(issue), all_versions),
        remedy=remedy,
        commands=tuple(filter(None, (_cell(issue, release),))),
        evidence=tuple(_facts(without, error)),
        upstream=issue.upstream,
        at=at or (error.at if error else 0),
        ranks=(error.rank,) if error and error.rank else (),
    )


def _cell(issue: KnownIssue, release: LogRelease) -> str:
    """The command of the cell in which it was seen; of the log's own release where the issue covers that."""
    example_cell = Cell.parse(issue.seen)
    having = [version for version in release.versions if issue.concerns(version)] if release.known else []
    cell_of_log = replace(example_cell, release=having[-1]) if having else example_cell
    return cell_command(cell_of_log, example_cell) if issue.covers(cell_of_log) else cell_command(example_cell)


def _facts(without: str, error: LoggedError | None) -> Iterator[str]:
    yield f"nearest later release without it: {without}" if without else "the newest release has it too"
    if error and error.own:
        yield f"{error.own.file}:{error.own.line} in {error.own.function}: {error.own.code}"


def _signatures_of_code(error: LoggedError, index: ReleaseIndex) -> set[str]:
    """Of a bare assertion without frames: the places that have its code."""
    if error.frames or error.type != "AssertionError" or not error.message:
        return set()
    code = error.message if error.message.startswith("assert ") else f"assert {error.message}"
    return {
        f"AssertionError@{occurrence.file}:{occurrence.name.rpartition('.')[2]}" for occurrence in index.having(code)
    }


def _went_through(issue: KnownIssue, error: LoggedError) -> bool:
    """Whether an error's frames are of the model that the issue is about; nothing speaks against it without frames."""
    models = {place.file for place in issue.code if place.file.endswith("/model.py")}
    files = {frame.file for frame in error.frames if frame.file.startswith("funasr/models/")}
    return not models or not files or bool(models & files)


def _needs_model(issue: KnownIssue, error: LoggedError | None) -> str:
    """The model's class, where the issue is one model's and the log does not show which model it was."""
    models = {place.file: place.class_name for place in issue.code if place.file.endswith("/model.py")}
    if error is None or not models or any(frame.file in models for frame in error.frames):
        return ""
    return " or ".join(sorted(set(models.values())))
