"""The report of one finding as Markdown, fit to be filed upstream; the text is in `templates/report.md.j2`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.cells import Frame, Outcome
from harness.environments.environment import Environment as ReleaseEnvironment
from harness.report.upstream.finding import UpstreamFinding
from harness.report.upstream.trial import ScriptTrial
from harness.text.markdown import markdown_environment, render_template

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_NOISE = ("ffmpeg", "Warning", "warn(", "funasr version", "Check update")


def document(
    finding: UpstreamFinding,
    outcome: Outcome,
    stack: ReleaseEnvironment,
    *,
    script: str | None,
    trial: ScriptTrial | None,
) -> str:
    """The text of `report.md`."""
    frames = outcome.failure.frames if outcome.failure else ()
    return render_template(
        _environment(),
        "report.md.j2",
        finding=finding,
        cell=outcome.cell,
        stack=stack,
        script=script,
        trial=trial,
        frames=[frame for frame in frames if frame.file.startswith("funasr/")],
        explained=finding.issue is not None and finding.issue.explained,
    )


@cache
def _environment() -> Environment:
    environment = markdown_environment(_TEMPLATES)
    environment.filters.update(
        without_noise=_without_noise,
        traceback=_traceback,
        capitalised=lambda text: text[:1].upper() + text[1:],
    )
    return environment


def _traceback(frames: Sequence[Frame]) -> str:
    return "\n".join(f"{frame.file}, line {frame.line}, in {frame.function}\n    {frame.code}" for frame in frames)


def _without_noise(output: str) -> str:
    """What the script itself printed: libraries' remarks say nothing of the fault."""
    return "\n".join(line for line in output.splitlines() if not any(word in line for word in _NOISE))
