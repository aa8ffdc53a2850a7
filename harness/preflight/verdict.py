"""The verdict in one sentence, and the record that `--json` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding, Report
from harness.text.units import plural

SCHEMA = 1
"""Version of the record's format."""

_DOES = {
    Severity.BROKEN: ("stops this training or ruins its result", "stop this training or ruin its result"),
    Severity.WRONG: ("makes it train something else than configured", "make it train something else than configured"),
}


def sentence(report: Report) -> str:
    """Whether to start the training, and why not."""
    count = Counter(finding.severity for finding in report.findings)
    minor = plural(count[Severity.MINOR], "remark") if count[Severity.MINOR] else ""
    if report.clean and not report.go:
        lost = [*report.unanswered, *(fault.partition(":")[0] for fault in report.faults)]
        return (
            f"Not decided: nothing was found that stops or changes this training{f' ({minor})' if minor else ''}, but "
            f"there is no answer about {' and '.join(lost)}. Run it again; a busy machine may be why."
        )
    if report.go:
        unchecked = len(report.skipped)
        reservation = f"; {plural(unchecked, 'part')} not checked" if unchecked else ""
        return (
            f"Go: nothing was found that stops or changes this training{f' ({minor})' if minor else ''}{reservation}."
        )
    words = [
        f"{plural(count[severity], 'problem')} {does[count[severity] > 1]}"
        for severity, does in _DOES.items()
        if count[severity]
    ]
    return f"No go: {', and '.join(words)}."


def record(report: Report, about: Mapping[str, str]) -> dict[str, object]:
    """The report as JSON; `about` says what was looked at."""
    return {
        "schema": SCHEMA,
        "release": report.release,
        "about": dict(about),
        "go": report.go,
        "verdict": sentence(report),
        "findings": [_finding(finding) for finding in report.findings],
        "facts": [{"section": fact.section, "label": fact.label, "value": fact.value} for fact in report.facts],
        "not_checked": list(report.skipped),
        "faults_of_the_harness": list(report.faults),
    }


def _finding(finding: PreflightFinding) -> dict[str, object]:
    return {
        "severity": finding.severity,
        "rule": finding.rule,
        "message": finding.message,
        "place": {"file": finding.place.file, "line": finding.place.line, "key": finding.place.key},
        "count": finding.count,
        "evidence": list(finding.evidence),
        "remedy": finding.remedy,
    }
