"""The page of a preflight: its findings, the gravest first, with everything that the terminal leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from harness.preflight.all_releases.release_table import ReleaseTable
from harness.preflight.findings import Report
from harness.preflight.verdict import sentence
from harness.report.html import asset, content_policy, render_page

TITLES = {
    "broken": "Stops the training, or ruins its result",
    "wrong": "Trains something else than configured",
    "minor": "Changes nothing that is learned",
}


def render_preflight(report: Report, about: Mapping[str, str]) -> str:
    """The whole page; it needs nothing from elsewhere, runs no script, and escapes all that was read."""
    style = asset("page.css")
    groups = [
        (severity, list(members))
        for severity, members in groupby(report.findings, key=lambda finding: finding.severity)
    ]
    sections = [(name, list(members)) for name, members in groupby(report.facts, key=lambda fact: fact.section)]
    return render_page(
        "preflight.html.j2",
        report=report,
        about=about,
        groups=groups,
        sections=sections,
        titles=TITLES,
        verdict=sentence(report),
        style=style,
        policy=content_policy(style),
    )


def render_releases(table: ReleaseTable, about: Mapping[str, str]) -> str:
    """The page of `--release all`: every range of releases with all that stops or changes the training there."""
    style = asset("page.css")
    return render_page(
        "preflight_releases.html.j2", table=table, about=about, style=style, policy=content_policy(style)
    )
