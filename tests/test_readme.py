"""What the READMEs say of the atlas is what the committed atlas says, in English and in Chinese."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.core.cells import Severity
from harness.core.versions import Order, in_words
from harness.releases import load_lock
from harness.report import terminal
from harness.report.advice import ReleaseAnswer, ReleaseStanding, VariantAdvice
from harness.report.summary import Summary, summarise
from harness.rules.known_issues import load_known_issues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.store import LoadedRun, load_run
from harness.text.plain import sentence
from harness.variants.catalogue import available

ROOT = Path(__file__).parent.parent
ATLAS = ROOT / "reports" / "atlas"
ISSUES = load_known_issues(ROOT / "matrices" / "known_issues.toml", variants=available())
CHINESE = tomllib.loads((ROOT / "tests" / "readme_zh.toml").read_text(encoding="utf-8"))
BEGIN, END = "<!-- atlas -->", "<!-- /atlas -->"
HEADINGS = ("model", "releases", "can be fine-tuned", "what is wrong")

ANSWER = {
    ReleaseStanding.TRAINS: "yes",
    ReleaseStanding.FAILS: "no",
    ReleaseStanding.PARTLY: "in part",
    ReleaseStanding.UNKNOWN: "not known",
}

Translate = Callable[[str], str]


def rows_of(advice: VariantAdvice, order: Order, translate: Translate) -> list[str]:
    """A row for releases with the same answer and the same faults, newest first."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for answer in advice.answers:
        wrong = any(reason.severity is Severity.WRONG for reason in answer.reasons)
        word = ANSWER[answer.standing] + (", wrong" if wrong and answer.standing is ReleaseStanding.TRAINS else "")
        rows[translate(word), faults(answer, translate)].append(answer.release)
    return [
        f"| `{advice.variant}` | {translate(in_words(order.spans(releases)))} | {word} | {text} |"
        for (word, text), releases in rows.items()
    ]


def faults(answer: ReleaseAnswer, translate: Translate) -> str:
    """`**broken**: one. **wrong**: another.`, each fault once and the minor ones left to the report."""
    texts: dict[str, list[str]] = defaultdict(list)
    titles: set[str] = set()
    for reason in answer.reasons:
        title = reason.text.partition(": ")[2]
        if reason.severity is not Severity.MINOR and title not in titles:
            titles.add(title)
            texts[str(reason.severity)].append(translate(reason.text))
    return " ".join(f"**{severity}**: {' '.join(found)}" for severity, found in texts.items())


def english(text: str) -> str:
    return text


def chinese(text: str, phrases: dict[str, dict[str, str]] = CHINESE) -> str:
    """A cell of the table in Chinese.

    Raises:
        KeyError: tests/readme_zh.toml lacks a phrase.
    """
    if re.match(r"\d", text):
        return re.sub(r" \((\d+) releases\)", r"（\1 个版本）", text).replace(", ", "、")
    if text in phrases["words"]:
        return phrases["words"][text]
    for issue in ISSUES.issues:
        if text.endswith(end := f": {sentence(issue.title)}"):
            prefix, place = re.fullmatch(r"(.+?)(?: at (.+) only)?", text.removesuffix(end)).groups()
            shown = prefix if prefix == prefix.lower() else phrases["prefixes"][prefix]
            return f"{shown}{f'（仅 {place}）' if place else ''}：{phrases['titles'][issue.id]}。"
    raise KeyError(text)


def table_of(summary: Summary, translate: Translate) -> str:
    rows = [row for advice in summary.advice.variants for row in rows_of(advice, summary.grid.order, translate)]
    return "\n".join([f"| {' | '.join(map(translate, HEADINGS))} |", "| --- | --- | --- | --- |", *rows])


def table_in(page: str) -> str:
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def atlas() -> LoadedRun:
    return load_run(ATLAS)


@pytest.fixture(scope="module")
def judged(atlas: LoadedRun) -> tuple[JudgedOutcome, ...]:
    return judge(atlas.outcomes, ISSUES)


@pytest.fixture(scope="module")
def summary(atlas: LoadedRun, judged: tuple[JudgedOutcome, ...]) -> Summary:
    published = [release.label for release in load_lock(ROOT / "matrices" / "releases.lock.toml")]
    return summarise(atlas, judged, title="", published=published)


def test_the_terminal_gives_the_answer_that_the_report_gives(judged: tuple[JudgedOutcome, ...]) -> None:
    text = terminal.answer(judged, (), width=100)
    assert "paraformer_streaming: can be fine-tuned with" in text
    assert text.count("the newest here, 1.4.16: ") == 2


@pytest.mark.parametrize(("name", "translate"), [("README.md", english), ("README.zh.md", chinese)])
def test_the_table_of_the_atlas_is_the_one_that_the_atlas_gives(
    name: str, translate: Translate, summary: Summary
) -> None:
    wanted = table_of(summary, translate)
    assert table_in(text_of(name)) == wanted, f"the table of {name} should be:\n{wanted}"


@pytest.mark.parametrize(("name", "translate"), [("README.md", english), ("README.zh.md", chinese)])
@pytest.mark.parametrize(
    ("right", "planted"), [("1.0.29", "1.0.30"), ("| `paraformer` | 1.0.28 |", "| `paraformer` | 1.0.27 |")]
)
def test_a_wrong_table_is_found(name: str, translate: Translate, right: str, planted: str, summary: Summary) -> None:
    page = text_of(name)
    assert right in table_in(page)
    assert table_in(page.replace(right, planted)) != table_of(summary, translate)


def test_a_title_without_a_translation_is_found(summary: Summary) -> None:
    with pytest.raises(KeyError, match="train-ds-ignores-the-device"):
        table_of(summary, partial(chinese, phrases={**CHINESE, "titles": {}}))
    assert set(CHINESE["titles"]) <= {issue.id for issue in ISSUES.issues}


def numbers_of_cards(page: str) -> list[str]:
    """The rows of the table of predicted batches."""
    return re.findall(r"^\| \d+ GB \|.*\|$", page, flags=re.MULTILINE)


def test_the_predicted_batches_are_the_same_wherever_they_are_shown() -> None:
    first, *others = (numbers_of_cards(text_of(name)) for name in ("docs/performance.md", "README.md", "README.zh.md"))
    assert len(first) == 4
    assert others == [first, first]


def blocks(page: str) -> list[str]:
    """The blocks of commands, without comments, and of output."""
    found = re.findall(r"^```\w+\n.*?^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r" +#.*$", "", block, flags=re.MULTILINE) for block in found]


def linked(page: str) -> list[str]:
    """The files that it links to, in their order, each once, without the READMEs themselves."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))
    return [one for one in dict.fromkeys(targets) if not one.startswith("README")]


def test_both_readmes_have_the_same_commands_outputs_and_links() -> None:
    english_page, chinese_page = text_of("README.md"), text_of("README.zh.md")
    assert blocks(chinese_page) == blocks(english_page)
    assert linked(chinese_page) == linked(english_page)
    assert chinese_page.count("\n#") == english_page.count("\n#")


def test_a_readme_that_lacks_a_command_is_found() -> None:
    page = text_of("README.md")
    assert blocks(page.replace("funasr-harness watch -- ", "funasr-harness run ")) != blocks(page)
