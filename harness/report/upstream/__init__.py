"""A cell's findings as reports fit to be filed upstream, each with a script that was run to show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Release
from harness.core.durable import replace_file
from harness.core.errors import InputError
from harness.environments.environment import Environment
from harness.releases import fetch
from harness.report.upstream.document import document
from harness.report.upstream.finding import UpstreamFinding, findings
from harness.report.upstream.trial import ScriptTrial, run
from harness.rules.verdicts import JudgedOutcome
from harness.variants.catalogue import available, load_variant

REPORT, SCRIPT = "report.md", "reproduce.py"


@dataclass(frozen=True, kw_only=True)
class Written:
    """One finding's report, and whether its script showed it."""

    finding: UpstreamFinding
    folder: Path
    trial: ScriptTrial | None
    """None when no script can be made."""

    @property
    def sentence(self) -> str:
        """What came of it, in a line."""
        return self.trial.sentence if self.trial else f"no script was made: {self.finding.why_none}"


def write(
    judged: JudgedOutcome, release: Release, stack: Environment, *, cache: Path, folder: Path
) -> Iterator[Written]:
    """Write each finding of a cell into a folder of its own below `folder`, and run its script in the release.

    Raises:
        InputError: the cell found nothing wrong.
        HarnessError: the release cannot be had, or the folder not be written.
    """
    outcome = judged.outcome
    variant = load_variant(outcome.cell.variant) if outcome.cell.variant in available() else None
    upstream_findings = findings(judged, variant)
    if not upstream_findings:
        raise InputError(
            f"{outcome.cell.id} is {outcome.status}: there is nothing to report",
            next_step="choose a cell that failed; `funasr-harness show CELL_ID` shows what is known of it",
        )
    fetch([release], cache, jobs=1)
    for finding in upstream_findings:
        script, trial = _tried(finding, release, stack, cache)
        place = folder / finding.name
        place.mkdir(parents=True, exist_ok=True)
        replace_file(place / REPORT, document(finding, outcome, stack, script=script, trial=trial).encode())
        if script is not None:
            replace_file(place / SCRIPT, script.encode())
        yield Written(finding=finding, folder=place, trial=trial)


def _tried(
    finding: UpstreamFinding, release: Release, stack: Environment, cache: Path
) -> tuple[str | None, ScriptTrial | None]:
    """The first of the finding's scripts that shows it; the last one when none does."""
    script, trial = None, None
    for script in finding.scripts:
        trial = run(script, release, stack, cache=cache)
        if trial.shown:
            break
    return script, trial
