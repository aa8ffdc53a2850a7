"""What the README says of the atlas is what the committed atlas says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.judge.known import load_known_issues
from harness.judge.verdicts import judge
from harness.releases import load_lock
from harness.report.advice import VariantAdvice
from harness.report.order import Span
from harness.report.summary import summarise
from harness.runs import load_run
from harness.variants import available

ROOT = Path(__file__).parent.parent
ATLAS = ROOT / "reports" / "atlas"
BEGIN, END = "<!-- atlas -->", "<!-- /atlas -->"


def span(one: Span) -> str:
    return str(one)


def told(advice: VariantAdvice) -> list[str]:
    rows = [f"| `{advice.variant}` | yes | {', '.join(map(span, advice.trains)) or '–'} | |"]
    rows += [
        f"| `{advice.variant}` | no | {', '.join(map(span, reason.spans))} | {reason.text} |" for reason in advice.fails
    ]
    return rows


@pytest.fixture(scope="module")
def table() -> str:
    run = load_run(ATLAS)
    issues = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())
    published = [release.label for release in load_lock(ROOT / "matrices" / "releases.lock.toml")]
    summary = summarise(run, judge(run.outcomes, issues), title="", published=published)
    rows = [row for advice in summary.advice.variants for row in told(advice)]
    return "\n".join(["| model | can be fine-tuned | releases | why not |", "| --- | --- | --- | --- |", *rows])


def test_the_table_of_the_atlas_is_the_one_that_the_atlas_gives(table: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    written = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == table, f"the table should be:\n{table}"
