"""The report as Markdown, fit to be filed upstream."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Outcome
from harness.environments.environment import Environment
from harness.report.upstream.finding import UpstreamFinding
from harness.report.upstream.trial import Trial
from harness.text.markdown import block, code, md

_NOISE = ("ffmpeg", "Warning", "warn(", "funasr version", "Check update")


def document(
    finding: UpstreamFinding, outcome: Outcome, stack: Environment, *, script: str | None, trial: Trial | None
) -> str:
    """The text of `report.md`."""
    return "\n".join(_lines(finding, outcome, stack, script, trial)).rstrip("\n") + "\n"


def _lines(
    finding: UpstreamFinding, outcome: Outcome, stack: Environment, script: str | None, trial: Trial | None
) -> Iterator[str]:
    cell = outcome.cell
    yield from (f"# {md(finding.title)}", "")
    about = f", model {code(cell.variant)}" if cell.variant else ""
    yield from ("## Versions", "", f"FunASR {md(cell.release)}{about}, torch {md(stack.torch_version)},")
    yield from (f"Python {md(stack.python_version)}, on the {'CPU' if cell.device == 'cpu' else 'GPU'}.", "")
    yield from ("## What happens", "", md(finding.what, at_most=2000), "")
    if trial is not None and trial.shown:
        yield from ("The script below prints:", "", block(_without_noise(trial.output)), "")
    yield from ("## What should happen", "", md(finding.expected, at_most=2000), "")
    yield from _where(finding, outcome)
    yield from _script(finding, script, trial)
    if finding.issue and finding.issue.upstream:
        yield from ("## See also", "", *(f"- {md(report)}" for report in finding.issue.upstream), "")


def _where(finding: UpstreamFinding, outcome: Outcome) -> Iterator[str]:
    issue = finding.issue
    frames = outcome.failure.frames if outcome.failure else ()
    own = [frame for frame in frames if frame.file.startswith("funasr/")]
    if not own and not (issue and issue.explained):
        return
    yield from ("## Where", "")
    if issue and issue.explained:
        yield from (md(issue.cause, at_most=4000), "")
    if own:
        told = [f"{frame.file}, line {frame.line}, in {frame.function}\n    {frame.code}" for frame in own]
        yield from (block("\n".join(told)), "")


def _script(finding: UpstreamFinding, script: str | None, trial: Trial | None) -> Iterator[str]:
    yield from ("## Script", "")
    if script is None or trial is None:
        yield from (f"No script was made: {md(finding.why_none)}.", "")
        return
    yield from (md(trial.sentence[0].upper() + trial.sentence[1:]) + ".", "")
    if not trial.shown:
        yield from ("So this report is not called reproducible. What the script printed:", "", block(trial.output), "")
    yield from ("It exits with 10 when the fault shows and with 0 when it does not.", "")
    yield block(script).replace("```text", "```python", 1)


def _without_noise(output: str) -> str:
    """What the script itself printed: libraries' remarks say nothing of the fault."""
    return "\n".join(line for line in output.splitlines() if not any(word in line for word in _NOISE))
