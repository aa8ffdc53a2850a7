"""The run as JUnit XML, which CI systems show with the tests of a project."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from harness.core.cells import Status, Verdict
from harness.report.failures import signature_of
from harness.rules.verdicts import JudgedOutcome
from harness.run.repeat_commands import Repeating
from harness.text.plain import shortened

_ELEMENT = {
    Verdict.REGRESSION: "failure",
    Verdict.UNEXPECTED_PASS: "failure",
    Verdict.FAULT: "error",
    Verdict.YOURS: "error",
    Verdict.UNDECIDED: "error",
    Verdict.KNOWN: "skipped",
    Verdict.FOLLOWS: "skipped",
}


def render_junit(judged: Sequence[JudgedOutcome], *, title: str, repeat: Repeating) -> bytes:
    """One `testcase` per cell.

    Regressions and unexpected passes fail; a fault, a user's own input and what is not decided are errors; known ones
    are skipped.
    """
    cases = [_case(item, repeat) for item in judged]
    attributes = {
        "name": shortened(title),
        "tests": str(len(cases)),
        "failures": _count(cases, "failure"),
        "errors": _count(cases, "error"),
        "skipped": _count(cases, "skipped"),
        "time": f"{sum(item.outcome.seconds for item in judged):.3f}",
    }
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    suite.extend(cases)
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _case(item: JudgedOutcome, repeat: Repeating) -> ElementTree.Element:
    outcome = item.outcome
    case = ElementTree.Element(
        "testcase",
        {
            "classname": shortened(outcome.cell.release),
            "name": shortened(outcome.cell.id),
            "time": f"{outcome.seconds:.3f}",
        },
    )
    if item.severity:
        properties = ElementTree.SubElement(case, "properties")
        for defect in item.defects:
            value = f"{defect.severity}: {defect.title}"
            ElementTree.SubElement(
                properties, "property", {"name": shortened(defect.signature), "value": shortened(value)}
            )
        ElementTree.SubElement(properties, "property", {"name": "severity", "value": item.severity})
    kind = _ELEMENT.get(item.verdict)
    if outcome.status is Status.PASSED and item.verdict is Verdict.KNOWN:
        # It passed; what was found besides is listed, and stands among the properties.
        kind = None
    if kind is None and outcome.status is not Status.PASSED:
        kind = "skipped"
    if kind is not None:
        grave = f"{item.severity}: " if item.severity else ""
        element = ElementTree.SubElement(case, kind, {"message": shortened(grave + (item.sentence or outcome.reason))})
        if kind != "skipped":
            wrong = item.defects[0].signature if item.defects and not outcome.failure else signature_of(outcome)
            element.set("type", shortened(wrong))
            element.text = _text(item, repeat)
    return case


def _text(item: JudgedOutcome, repeat: Repeating) -> str:
    outcome = item.outcome
    defects = [f"{defect.severity}: {defect.signature}: {defect.title}" for defect in item.defects]
    lines = [outcome.reason, *defects, f"repeat with: {repeat.show(outcome.cell.id)}"]
    if outcome.failure:
        lines += [f"{frame.file}:{frame.line} in {frame.function}: {frame.code}" for frame in outcome.failure.frames]
        lines.append(f"{outcome.failure.type}: {outcome.failure.message}")
    return "\n".join(shortened(line) for line in lines if line)


def _count(cases: Sequence[ElementTree.Element], kind: str) -> str:
    return str(sum(1 for case in cases if case.find(kind) is not None))
