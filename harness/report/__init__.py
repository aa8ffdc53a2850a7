"""Reports of a run, for people who have never heard of this project: a page, a Markdown file, and JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.durable import write_document
from harness.performance.baselines.comparison import RunComparison
from harness.rules.verdicts import JudgedOutcome
from harness.run.store import LoadedRun

__all__ = ["ReportPaths", "write_reports"]


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """Where the reports were written."""

    html: Path
    markdown: Path
    junit: Path


def write_reports(
    run: LoadedRun,
    judged: Sequence[JudgedOutcome],
    out_dir: Path,
    *,
    title: str = "",
    published: Sequence[str] = (),
    against: RunComparison | None = None,
) -> ReportPaths:
    """Write `compatibility.html`, `compatibility.md` and `junit.xml`, each whole or not at all.

    Args:
        run: Where the outcomes come from.
        judged: The outcomes, compared with the known issues.
        out_dir: A folder, made if it is not there.
        title: The heading of the reports, if it is to be another than the usual one.
        published: The labels of all releases that exist; ranges of releases end where one of these was not run.
        against: The outcomes, compared with the baseline of their machine.

    Raises:
        StoreError: a file could not be written; the older one of that name is still whole.
    """
    # Imported here: the answer in the terminal needs none of the parts that only the reports have.
    from harness.report.html import render_html
    from harness.report.junit import render_junit
    from harness.report.markdown import render_markdown
    from harness.report.summary import TITLE, summarise

    title = title or TITLE
    summary = summarise(run, judged, title=title, published=published, against=against)
    paths = ReportPaths(
        html=out_dir / "compatibility.html", markdown=out_dir / "compatibility.md", junit=out_dir / "junit.xml"
    )
    write_document(paths.html, render_html(summary))
    write_document(paths.markdown, render_markdown(summary))
    write_document(paths.junit, render_junit(judged, title=title, repeat=summary.repeat).decode("utf-8"))
    return paths
