"""What a watched training leaves in its folder: the page, kept up to date while it trains, and `report.md`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.durable import replace_file, write_document
from harness.report.page_server import PageServer
from harness.report.watch_page import render_watch_page
from harness.report.watch_summary import WatchSummary, summarise
from harness.text import units
from harness.text.markdown import markdown_environment, render_template
from harness.text.plain import one_line, sentence
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.sections import where
from harness.watch.state import TrainingState

PAGE, MARKDOWN = "report.html", "report.md"
EVERY_SECONDS = 5.0
_SHARE = 0.02
"""Drawing the page takes at most this share of one core: a slow drawing makes the next one come later."""
_MOST_LINES, _LAST_LINES = 20, 3
_TEMPLATES = Path(__file__).parent / "templates"


class LivePage:
    """The page of a training that runs: a file in its folder, and where it is wanted an address on this machine."""

    def __init__(self, state: TrainingState, folder: Path, *, serve: bool = False) -> None:
        """Begin.

        Args:
            serve: Whether a browser on this machine can follow the page by its address.

        Raises:
            OSError: no port can be had.
        """
        self._state, self._folder, self._next = state, folder, 0.0
        self._server = PageServer() if serve else None
        self.problem = ""
        """Why the file is not up to date; empty while it is."""
        self.update((), ())

    @property
    def address(self) -> str:
        """Of the page that is served; empty without one."""
        return self._server.address if self._server else ""

    def update(
        self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], output: Sequence[str] = ()
    ) -> None:
        """Draw the page again; may be called many times a second, and draws every few seconds.

        Args:
            output: The last lines that the command printed.
        """
        if time.monotonic() < self._next:
            return
        began, path = time.thread_time(), self._folder / PAGE
        self._next = time.monotonic() + EVERY_SECONDS
        try:
            summary = summarise(self._state, findings, forecasts, running=True)
            content = _encoded(render_watch_page(self._state, summary, output=output, path=str(path.absolute())))
        except Exception as error:  # a fault of the page must not end the watching of somebody's training
            self.problem = f"a fault of the harness itself, in the page: {type(error).__name__}: {error}"
            return
        if self._server:
            self._server.page = content
        try:
            replace_file(path, content, durable=False)
            self.problem = ""
        except OSError as error:
            # A full disk does not end the watching: the next page may find space.
            self.problem = f"{path} is not up to date: {error.strerror or error}"
        self._next = time.monotonic() + max(EVERY_SECONDS, (time.thread_time() - began) / _SHARE)

    def close(self) -> None:
        """Stop serving."""
        if self._server:
            self._server.close()


@dataclass(frozen=True, kw_only=True)
class WatchReport:
    """The report at the end."""

    page: Path
    markdown: Path
    lines: tuple[str, ...]
    """For the terminal: at most twenty."""


def write_report(
    folder: Path,
    state: TrainingState,
    findings: Sequence[WatchFinding],
    forecasts: Sequence[Forecast] = (),
    *,
    output: Sequence[str] = (),
) -> WatchReport:
    """Write page and Markdown of a training that has ended.

    Raises:
        StoreError: they cannot be written.
    """
    summary = summarise(state, findings, forecasts, running=False)
    page, markdown = folder / PAGE, folder / MARKDOWN
    write_document(page, render_watch_page(state, summary, output=output))
    environment = markdown_environment(_TEMPLATES)
    write_document(markdown, render_template(environment, "watch.md.j2", s=summary, ranks=state.training_ranks))
    return WatchReport(page=page, markdown=markdown, lines=final_lines(summary, page))


def final_lines(summary: WatchSummary, page: Path) -> tuple[str, ...]:
    """What was trained, whether it learned, what was found, and where more is."""
    head = [f"{summary.now.title}: {summary.status}" if summary.now.title else summary.status]
    head += [summary.trained, summary.learned, *(f"not recorded: {text}" for text in summary.observers[:2])]
    lines = [sentence(one_line(text)) for text in head if text]
    shown = 0
    for finding in summary.findings:
        rows = [f"{finding.severity} {one_line(finding.rule)}: {where(finding)}{one_line(finding.message)}"]
        rows += [f"    what to do: {one_line(finding.remedy)}"] if finding.remedy else []
        if len(lines) + len(rows) > _MOST_LINES - _LAST_LINES:
            break
        lines, shown = [*lines, *rows], shown + 1
    if shown < len(summary.findings):
        lines.append(f"and {units.plural(len(summary.findings) - shown, 'more finding')}")
    elif not shown:
        lines.append("nothing found")
    return (*lines, f"page: {page}", f"text: {page.with_name(MARKDOWN)}")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
