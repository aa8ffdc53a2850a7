"""What the README says of the atlas is what the committed atlas says."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from harness.core.cells import Severity
from harness.core.release_order import Order, in_words
from harness.releases import load_lock
from harness.report.advice import ReleaseAnswer, ReleaseStanding, VariantAdvice
from harness.report.summary import summarise
from harness.rules.known_issues import load_known_issues
from harness.rules.verdicts import judge
from harness.run.store import load_run
from harness.variants.catalogue import available

ROOT = Path(__file__).parent.parent
ATLAS = ROOT / "reports" / "atlas"
BEGIN, END = "<!-- atlas -->", "<!-- /atlas -->"


ANSWER = {
    ReleaseStanding.TRAINS: "yes",
    ReleaseStanding.FAILS: "no",
    ReleaseStanding.PARTLY: "in part",
    ReleaseStanding.UNKNOWN: "not known",
}


def told(advice: VariantAdvice, order: Order) -> list[str]:
    """A row for releases with the same answer and the same faults, newest first."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for answer in advice.answers:
        wrong = any(reason.severity is Severity.WRONG for reason in answer.reasons)
        word = ANSWER[answer.standing] + (", wrong" if wrong and answer.standing is ReleaseStanding.TRAINS else "")
        rows[word, faults(answer)].append(answer.release)
    return [
        f"| `{advice.variant}` | {in_words(order.spans(releases))} | {word} | {text} |"
        for (word, text), releases in rows.items()
    ]


def faults(answer: ReleaseAnswer) -> str:
    """`**broken**: one. **wrong**: another.`, with every fault in it."""
    texts: dict[str, list[str]] = defaultdict(list)
    for reason in answer.reasons:
        texts[str(reason.severity)].append(reason.text)
    return " ".join(f"**{severity}**: {' '.join(found)}" for severity, found in texts.items())


@pytest.fixture(scope="module")
def table() -> str:
    run = load_run(ATLAS)
    issues = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())
    published = [release.label for release in load_lock(ROOT / "matrices" / "releases.lock.toml")]
    summary = summarise(run, judge(run.outcomes, issues), title="", published=published)
    rows = [row for advice in summary.advice.variants for row in told(advice, summary.grid.order)]
    return "\n".join(["| model | releases | can be fine-tuned | what is wrong |", "| --- | --- | --- | --- |", *rows])


def test_the_table_of_the_atlas_is_the_one_that_the_atlas_gives(table: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    written = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == table, f"the table should be:\n{table}"
