"""Outcomes → verdicts, and the exit status of a run.

| status | listed as a known issue | verdict |
| --- | --- | --- |
| passed, skipped | no | as expected |
| passed | yes | unexpected pass |
| failed, timed out, crashed, out of memory | yes, with this status and signature | known |
| failed with a finding of several parts | all of its parts | known |
| the same | some of its parts | regression |
| the same | more parts than it has | unexpected pass |
| the same | no, and a key, value or file of the user's is the cause | yours |
| the same | no, with a user's input, and stock input did not run or ended otherwise | undecided |
| the same | no, or with another | regression |
| skipped | the release lacks what a setting of the user's alone names | yours |
| passed or failed, with findings (`Finding@CODE`) | not all of them | regression |
| the same | all of them | known |
| the same | some that were looked for and no longer show | unexpected pass |
| blocked | the cell that blocks it is known | known |
| blocked | the cell that blocks it is the user's | yours |
| blocked | the cell that blocks it is a regression, undecided or a fault | follows |
| errored | either | fault |

An issue is listed for a cell when it covers the cell and the code that it blames runs there (`code_that_ran`).
Where nothing was looked for (no `findings` in the evidence), a finding that does not show contradicts nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.cells import Cell, Outcome, Severity, Status, Verdict
from harness.core.evidence.common import FINDING
from harness.core.evidence.properties import PropertyEvidence
from harness.rules.code_that_ran import CodeThatRan
from harness.rules.convergence import apply_convergence
from harness.rules.defects import Defect, defects_of
from harness.rules.known_issues import FAILURES, KnownIssue, KnownIssues
from harness.rules.multi_part import CompoundSignature, Explanation, conflicts_with, explain
from harness.rules.release_contents import apply_absence_rule, apply_registry_rule
from harness.rules.severity import gravest
from harness.rules.stock_input import awaits_stock_input, breaks_configuration, is_undecided, of_input
from harness.rules.user_input import own_absent_component

EXIT_EXPECTED = 0
EXIT_UNEXPECTED = 1
EXIT_YOURS = 2
"""As for other bad input: the user has something to correct, and nothing speaks against a release."""
EXIT_FAULT = 3


@dataclass(frozen=True, kw_only=True)
class JudgedOutcome:
    """An outcome and what is to be thought of it."""

    outcome: Outcome
    verdict: Verdict
    issue: KnownIssue | None = None
    """The known issue that explains it, or that it contradicts."""
    also: tuple[KnownIssue, ...] = ()
    """Further known issues, where a finding has several parts and each has an issue of its own."""
    sentence: str
    """Why this verdict."""
    defects: tuple[Defect, ...] = ()
    """What is wrong with the cell, one by one; empty where nothing is, or where it was not run."""

    @property
    def severity(self) -> Severity | None:
        """That of the gravest defect, and None where nothing is wrong; a regression without a defect is `broken`."""
        without = Severity.BROKEN if self.verdict is Verdict.REGRESSION else None
        return gravest(defect.severity for defect in self.defects) or without

    def severity_of(self, part: str) -> Severity | None:
        """That of one question, property or condition of the check; None where that is not among the defects."""
        return gravest(defect.severity for defect in self.defects if defect.signature.partition("@")[2] == part)


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What an outcome is judged by."""

    by_id: Mapping[str, Outcome]
    issues: KnownIssues
    code: Mapping[tuple[str, str | None], frozenset[str]]
    """The classes that cells of a release and variant recorded."""

    def listed(self, outcome: Outcome) -> tuple[KnownIssue, ...]:
        """The issues that cover a cell and whose code runs in it."""
        cell = outcome.cell
        return self.issues.matching(cell, CodeThatRan.of(outcome, self.code.get((cell.release, cell.variant), ())))


def judge(outcomes: Sequence[Outcome], issues: KnownIssues) -> tuple[JudgedOutcome, ...]:
    """Hold each outcome against the known issues; the order stays.

    A blocked cell is judged by the cell that blocks it, which has to be among the outcomes. Fine-tunes are held
    against each other first, which is what `harness/rules/convergence.py` needs a whole run for.
    """
    declared = [outcome.as_declared() for outcome in outcomes]
    outcomes = apply_absence_rule(apply_registry_rule(apply_convergence(declared)))
    code: dict[tuple[str, str | None], frozenset[str]] = defaultdict(frozenset)
    for outcome in outcomes:
        code[outcome.cell.release, outcome.cell.variant] |= frozenset(outcome.common.code)
    scene = _Scene(by_id={outcome.cell.id: outcome for outcome in outcomes}, issues=issues, code=code)
    return tuple(_judge_one(outcome, scene) for outcome in outcomes)


def exit_code(
    judged: Sequence[JudgedOutcome], *, planned: Sequence[Cell] = (), changed: bool = False, missing: int = 0
) -> int:
    """The exit status of a run: 0 as expected, 1 for a regression or an unexpected pass, 3 for faults, 2 for a user's
    own input that cannot be used and nothing worse.

    A run without outcomes is a fault, and so is a planned cell that has none, or `missing` cells whose names are not
    known: what was not measured is no success.
    What `changed` against the machine's baseline counts like a regression, for better
    or worse.
    """
    verdicts = {item.verdict for item in judged}
    if changed or verdicts & {Verdict.REGRESSION, Verdict.UNEXPECTED_PASS}:
        return EXIT_UNEXPECTED
    without = {cell.id for cell in planned} - {item.outcome.cell.id for item in judged}
    if not verdicts or without or missing or verdicts & {Verdict.FAULT, Verdict.UNDECIDED, Verdict.FOLLOWS}:
        return EXIT_FAULT
    return EXIT_YOURS if Verdict.YOURS in verdicts else EXIT_EXPECTED


def _judge_one(outcome: Outcome, scene: _Scene) -> JudgedOutcome:
    if outcome.status is Status.BLOCKED:
        return _judge_blocked(outcome, scene)
    if outcome.status is Status.ERRORED:
        return _fault(outcome, f"The harness or the machine is to blame: {outcome.reason}")
    if outcome.status is Status.TIMED_OUT and _stopped_in_time(outcome):
        return _fault(outcome, f"The search was not finished, which says nothing about the release: {outcome.reason}")
    listed = scene.listed(outcome)
    defects = defects_of(outcome, listed)
    showing = {defect.issue.id for defect in defects if defect.issue and _is_finding(defect)}
    failing = [issue for issue in listed if issue.expects_failure]
    if outcome.status in FAILURES:
        judged = _judge_failure(outcome, failing, showing)
    else:
        judged = _judge_sound(outcome, [issue for issue in failing if issue.id not in showing])
    judged = _with_findings(judged, defects, listed)
    if judged.verdict in (Verdict.YOURS, Verdict.UNDECIDED):
        # What the user's own input caused, or may have, is no defect of the release.
        defects = tuple(defect for defect in defects if _is_finding(defect))
    return replace(judged, defects=defects)


def _stopped_in_time(outcome: Outcome) -> bool:
    """Whether `properties` reported how far it came: the machine was too slow; a release that hangs reports nothing."""
    evidence = outcome.common
    return isinstance(evidence, PropertyEvidence) and bool(evidence.stopped_by_the_time_limit)


def _judge_sound(outcome: Outcome, failing: Sequence[KnownIssue]) -> JudgedOutcome:
    contradicted = [issue for issue in failing if not issue.varies and conflicts_with(outcome, issue)]
    if outcome.status is Status.PASSED and contradicted:
        return JudgedOutcome(
            outcome=outcome,
            verdict=Verdict.UNEXPECTED_PASS,
            issue=contradicted[0],
            sentence=f"It passed, and is listed as failing ({contradicted[0].id}: {contradicted[0].title}).",
        )
    if outcome.status is Status.SKIPPED and (cause := own_absent_component(outcome)):
        return JudgedOutcome(outcome=outcome, verdict=Verdict.YOURS, sentence=f"It was skipped: {cause}")
    sentence = "It passed." if outcome.status is Status.PASSED else f"It was skipped: {outcome.reason}"
    return JudgedOutcome(outcome=outcome, verdict=Verdict.AS_EXPECTED, sentence=sentence)


def _with_findings(judged: JudgedOutcome, defects: Sequence[Defect], listed: Sequence[KnownIssue]) -> JudgedOutcome:
    """The verdict, with what was found besides the cell's own question."""
    outcome, findings = judged.outcome, [defect for defect in defects if _is_finding(defect)]
    unlisted = sorted({finding.signature for finding in findings if finding.issue is None})
    if unlisted:
        sentence = f"{judged.sentence} No known issue covers what else was found: {', '.join(unlisted)}."
        return replace(judged, verdict=Verdict.REGRESSION, sentence=sentence)
    if judged.verdict not in (Verdict.AS_EXPECTED, Verdict.KNOWN):
        return judged
    shown = {defect.issue.id for defect in defects if defect.issue}
    found_before = [
        issue for issue in listed if issue.finding_signatures and not issue.varies and issue.id not in shown
    ]
    resolved = found_before if _looked(outcome) else []
    if resolved:
        names = ", ".join(issue.id for issue in resolved)
        sentence = f"{judged.sentence} What is listed as found there no longer is ({names})."
        return replace(
            judged, verdict=Verdict.UNEXPECTED_PASS, issue=resolved[0], also=tuple(resolved[1:]), sentence=sentence
        )
    judged_issues = (judged.issue, *judged.also) if judged.issue else ()
    further = tuple(
        dict.fromkeys(finding.issue for finding in findings if finding.issue and finding.issue not in judged_issues)
    )
    if not further:
        return judged
    names = ", ".join(issue.id for issue in further)
    first, *others = (*judged_issues, *further)
    sentence = f"{judged.sentence} What else was found is listed ({names})."
    return replace(judged, verdict=Verdict.KNOWN, issue=first, also=tuple(others), sentence=sentence)


def _is_finding(defect: Defect) -> bool:
    return defect.signature.startswith(f"{FINDING}@")


def _looked(outcome: Outcome) -> bool:
    """Whether the cell came far enough for a finding that does not show to be gone."""
    if outcome.common.findings is None:
        return False
    ended = outcome.status is Status.FAILED and outcome.failure and CompoundSignature.of(outcome.failure.signature)
    return outcome.status is Status.PASSED or bool(ended)


def _judge_failure(outcome: Outcome, listed: Sequence[KnownIssue], showing: Collection[str]) -> JudgedOutcome:
    """Judge a failure; `showing` are the issues of which a finding shows, so that they are not gone."""
    parts = explain(outcome, [issue for issue in listed if issue.status is outcome.status])
    if parts:
        absent = (issue for issue in parts.absent if issue.id not in showing and not issue.varies)
        parts = replace(parts, absent=tuple(absent))
    if parts and parts.issues:
        return _judge_parts(outcome, parts)
    for issue in listed:
        if issue.fits(outcome.status, outcome.failure):
            return JudgedOutcome(
                outcome=outcome,
                verdict=Verdict.KNOWN,
                issue=issue,
                sentence=f"It {_status_in_words(outcome.status)} as listed ({issue.id}: {issue.title}).",
            )
    if (cause := outcome.common.yours) and cause.reason:
        sentence = f"It {_status_in_words(outcome.status)}: {cause.reason}"
        return JudgedOutcome(outcome=outcome, verdict=Verdict.YOURS, sentence=sentence)
    if undecided := _why_undecided(outcome):
        sentence = f"It {_status_in_words(outcome.status)}: {outcome.reason.rstrip('. ')}; {undecided}"
        return JudgedOutcome(outcome=outcome, verdict=Verdict.UNDECIDED, sentence=sentence)
    signature = outcome.failure.signature if outcome.failure else "no signature"
    sentence = f"It {_status_in_words(outcome.status)} ({signature}), and no known issue covers it."
    if listed:
        expected = "; ".join(
            f"{issue.status} with {' or '.join(issue.failing) or 'no signature'} ({issue.id})" for issue in listed
        )
        ending = _status_in_words(outcome.status)
        sentence = f"It {ending} in another way than listed: {signature}, where {expected} is expected."
    return JudgedOutcome(
        outcome=outcome, verdict=Verdict.REGRESSION, issue=listed[0] if listed else None, sentence=sentence
    )


def _why_undecided(outcome: Outcome) -> str:
    """Why nobody knows whose a failure with a user's input is; empty where that is known."""
    stock = outcome.common.on_stock_input
    if awaits_stock_input(outcome) and not breaks_configuration(outcome):
        ended = f" ({stock.cell} is {stock.status})" if stock else ""
        return f"whether your own input is the cause is not known: the same check of stock input did not run{ended}."
    if stock and is_undecided(outcome):
        ended = stock.signature or stock.status.replace("_", " ")
        return (
            "whether your own input is the cause is not known: the same check of stock input fails in another way "
            f"({stock.cell}: {ended})."
        )
    return ""


def _judge_parts(outcome: Outcome, parts: Explanation) -> JudgedOutcome:
    names = ", ".join(issue.id for issue in parts.issues)
    if parts.unexplained and awaits_stock_input(outcome) and of_input(parts.unexplained):
        verdict = Verdict.UNDECIDED
        sentence = f"It {_status_in_words(outcome.status)} as listed ({names}). Whether your own input is the cause of "
        sentence += f"{', '.join(parts.unexplained)} is not known: the same check of stock input did not run."
    elif parts.unexplained:
        verdict, sentence = (
            Verdict.REGRESSION,
            f"It {_status_in_words(outcome.status)} as listed ({names}), and with what no known ",
        )
        sentence += f"issue covers: {', '.join(parts.unexplained)}."
    elif parts.absent:
        resolved = ", ".join(issue.id for issue in parts.absent)
        verdict, sentence = Verdict.UNEXPECTED_PASS, f"What is listed as failing no longer does ({resolved})."
    else:
        title = f": {parts.issues[0].title}" if len(parts.issues) == 1 else ""
        verdict, sentence = Verdict.KNOWN, f"It {_status_in_words(outcome.status)} as listed ({names}{title})."
    first, *others = (*parts.absent, *parts.issues) if verdict is Verdict.UNEXPECTED_PASS else parts.issues
    return JudgedOutcome(outcome=outcome, verdict=verdict, issue=first, also=tuple(others), sentence=sentence)


def _judge_blocked(outcome: Outcome, scene: _Scene) -> JudgedOutcome:
    root = _root(outcome, scene.by_id)
    if root is None:
        named = outcome.common.blocked_by or "a cell that its outcome does not name"
        return _fault(outcome, f"It is blocked by {named}, which has no outcome of its own in this run.")
    if root.status is Status.PASSED:
        return _fault(outcome, f"It is blocked by {root.cell.id}, which passed.")
    below = _judge_one(root, scene)
    depends_on = f"It depends on {root.cell.id}, which is judged {below.verdict.replace('_', ' ')}"
    if below.verdict is Verdict.KNOWN:
        return JudgedOutcome(
            outcome=outcome,
            verdict=Verdict.KNOWN,
            issue=below.issue,
            sentence=f"{depends_on} ({below.issue.id if below.issue else ''}).",
        )
    inherited = (Verdict.AS_EXPECTED, Verdict.YOURS)
    verdict = below.verdict if below.verdict in inherited else Verdict.FOLLOWS
    return JudgedOutcome(outcome=outcome, verdict=verdict, sentence=f"{depends_on}.")


def _root(outcome: Outcome, by_id: Mapping[str, Outcome]) -> Outcome | None:
    """The first cell down the chain of blocked ones that is not blocked itself; None when the chain leads nowhere."""
    followed: set[str] = set()
    current: Outcome | None = outcome
    while current is not None and current.status is Status.BLOCKED:
        if current.cell.id in followed:
            return None
        followed.add(current.cell.id)
        current = by_id.get(current.common.blocked_by)
    return current


def _fault(outcome: Outcome, sentence: str) -> JudgedOutcome:
    return JudgedOutcome(outcome=outcome, verdict=Verdict.FAULT, sentence=sentence)


def _status_in_words(status: Status) -> str:
    return {Status.OUT_OF_MEMORY: "ran out of memory"}.get(status, status.replace("_", " "))
