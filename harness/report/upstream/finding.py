"""The findings of one outcome, each reported by itself, with the scripts that may show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.core.cells import Check, Dimensions, Outcome, Status
from harness.report.upstream.contract_script import contract_script, sizes
from harness.report.upstream.scripts import EXPECTED, data_script, property_script
from harness.rules.known_issues import KnownIssue
from harness.rules.verdicts import JudgedOutcome
from harness.variants.variant import Variant

_EXPECTED_TEXT = "No token that the list has should become <unk>, and none should be invented."
_ON_THE_MODEL = (Check.CONSTRUCT, Check.LOSS_CONTRACT)


@dataclass(frozen=True, kw_only=True)
class UpstreamFinding:
    """One fault of one cell."""

    name: str
    """The name of its folder."""
    title: str
    what: str
    """What happens, as the cell has it."""
    expected: str
    """What should happen."""
    issue: KnownIssue | None
    """The known issue that explains it."""
    scripts: tuple[str, ...]
    """Texts of scripts, the one that is easiest to read first; empty when none can be made."""
    why_none: str = ""
    """Why there is none."""


def findings(judged: JudgedOutcome, variant: Variant | None) -> tuple[UpstreamFinding, ...]:
    """What a cell found wrong, one by one; empty for a cell that found nothing."""
    outcome = judged.outcome
    if outcome.status is Status.PASSED or outcome.failure is None:
        return ()
    if outcome.cell.check is Check.PROPERTIES:
        return tuple(_of_properties(judged))
    if outcome.cell.check in (Check.DATA, Check.CHECKPOINT):
        return tuple(_of_questions(judged))
    return (_of_model(judged, variant),)


def _issues(judged: JudgedOutcome) -> tuple[KnownIssue, ...]:
    return tuple(issue for issue in (judged.issue, *judged.also) if issue is not None)


def _named(issues: Sequence[KnownIssue], part: str) -> KnownIssue | None:
    """The issue that explains this part of a finding with several."""
    for issue in issues:
        if any(part in signature.partition("@")[2].split("+") for signature in issue.signatures):
            return issue
    return None


def _of_model(judged: JudgedOutcome, variant: Variant | None) -> UpstreamFinding:
    outcome, issues = judged.outcome, _issues(judged)
    issue = issues[0] if issues else None
    title = issue.title if issue else f"{outcome.cell.variant or 'funasr'}: {outcome.reason}"
    scripts: tuple[str, ...] = ()
    why_none = f"a finding of {outcome.cell.check} takes more than a short script to show"
    if variant and outcome.cell.dimensions and outcome.cell.check in _ON_THE_MODEL:
        scripts = tuple(_contract_scripts(outcome, variant, outcome.cell.dimensions, title))
        why_none = "no script is known for this kind of finding"
    return UpstreamFinding(
        name=str(outcome.cell.check),
        title=title,
        what=outcome.reason,
        expected=_expected(outcome),
        issue=issue,
        scripts=scripts,
        why_none="" if scripts else why_none,
    )


def _contract_scripts(outcome: Outcome, variant: Variant, dimensions: Dimensions, title: str) -> Iterator[str]:
    for size in sizes(variant, dimensions):
        if text := contract_script(outcome, variant, size, title=title):
            yield text


def _expected(outcome: Outcome) -> str:
    kind = outcome.failure.signature.partition("@")[0] if outcome.failure else ""
    if outcome.cell.check is Check.CONSTRUCT:
        return "The model should build, and its loss for exactly as many classes as the vocabulary has tokens."
    if kind == "LossNotTheSum":
        return "The loss should be the sum of its parts, weighed as the config says."
    if kind == "NoGradient":
        return "After a backward pass, every part that the config trains should have a gradient."
    if outcome.cell.check is Check.LOSS_CONTRACT:
        return "A forward and a backward pass on a batch as the collator makes it should give a finite loss."
    return "The cell should pass."


def _of_properties(judged: JudgedOutcome) -> Iterator[UpstreamFinding]:
    outcome, issues = judged.outcome, _issues(judged)
    for example in outcome.evidence.get("counterexamples", ()):
        name, message = str(example["property"]), str(example["message"])
        issue = _named(issues, name)
        title = issue.title if issue else f"{outcome.cell.variant}: {message}"
        text = property_script(
            name,
            message,
            str(example["config"]),
            title=title,
            release=outcome.cell.release,
            shims=outcome.shims,
        )
        yield UpstreamFinding(
            name=name,
            title=title,
            what=message,
            expected=EXPECTED.get(name, f"The property {name} should hold."),
            issue=issue,
            scripts=(text,) if text else (),
            why_none="" if text else "no script is known for this property",
        )


def _of_questions(judged: JudgedOutcome) -> Iterator[UpstreamFinding]:
    outcome, issues = judged.outcome, _issues(judged)
    for question in outcome.evidence.get("questions", ()):
        if question.get("status") != "fails":
            continue
        name = str(question["name"])
        issue = _named(issues, name)
        title = issue.title if issue else f"{outcome.cell.check}: {question['message']}"
        in_data = outcome.cell.check is Check.DATA
        text = data_script(question, title=title, release=outcome.cell.release) if in_data else ""
        yield UpstreamFinding(
            name=name,
            title=title,
            what=str(question["message"]),
            expected=EXPECTED.get(name, _EXPECTED_TEXT) if text else "See the documentation of this check.",
            issue=issue,
            scripts=(text,) if text else (),
            why_none="" if text else "it takes a training, or more of the trainer than a short script can hold",
        )
