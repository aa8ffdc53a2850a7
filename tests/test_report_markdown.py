"""The Markdown file is short, its tables hold, and its links lead somewhere."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import ISSUE, RELEASES, atlas, cell, judged, loss_failure, outcome, run_of, tuned
from strategies import outcomes as any_outcomes
from test_report_html import HOSTILE, _saying

from harness.core.cells import Status
from harness.report.markdown import render_markdown
from harness.report.summary import summarise


def file_of(outcomes):
    return render_markdown(summarise(run_of(outcomes), judged(outcomes), published=RELEASES))


@pytest.fixture(scope="module")
def whole() -> str:
    return file_of(atlas())


def prose(text):
    """The file without its blocks of code, which hold what they hold."""
    return re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def tables(text):
    """Runs of lines with pipes; each as the number of its columns, line by line."""
    found = re.findall(r"(?:^\|.*\n)+", prose(text), re.MULTILINE)
    return [[len(line.split("|")) for line in table.splitlines()] for table in found]


def test_neighbours_with_equal_rows_share_one(whole):
    assert "| 1.0.6 – 1.0.11 (6 releases)" in whole
    grid = whole.partition("## What fails")[0]
    assert len([line for line in grid.splitlines() if line.startswith("| 1.")]) < 15


def test_a_row_of_the_grid_leads_to_its_failure_and_its_curve(whole):
    row = next(line for line in whole.splitlines() if line.startswith("| 1.0.6 – 1.0.11"))
    assert "[C ✗ L](#failure-" in row
    assert "[✓ F](#curve-" in row


def test_the_file_is_small_enough_for_a_code_host(whole):
    assert len(whole.encode("utf-8")) < 100_000


def test_every_link_within_the_file_has_its_anchor(whole):
    assert set(re.findall(r"\]\(#([\w-]+)\)", whole)) <= set(re.findall(r'<a id="([\w-]+)"></a>', whole))


def test_every_row_of_a_table_has_as_many_columns_as_its_head(whole):
    found = tables(whole)
    assert len(found) > 8
    assert all(len(set(columns)) == 1 for columns in found)


def test_the_answer_and_the_known_cause_are_there(whole):
    assert "```shell\npip install funasr==1.4.9\n```" in whole
    assert ISSUE.title in whole
    assert "[modelscope/FunASR&#35;1478](https://github.com/modelscope/FunASR/issues/1478)" in whole
    assert "> **Not measured on a GPU: no VRAM figure in this report.**" in whole


def skeleton(text):
    """What a code host makes of a file, roughly: the kinds of its lines, links, and tags."""
    text = prose(text)
    return (
        re.findall(r"^(#+|- |> |\|)", text, re.MULTILINE),
        re.findall(r"\]\(([^)]*)\)", text),
        re.findall(r"<[^>]*>", text),
        text.count("`"),
    )


@pytest.mark.parametrize(
    "words", [*HOSTILE, "a|b", "`", "```\nend", "[x](javascript:alert(1))", "\n\n# head\n\n- item"]
)
def test_nothing_that_a_release_says_becomes_markup(words):
    assert skeleton(file_of(_saying(words))) == skeleton(file_of(_saying("tame")))


@settings(max_examples=40)
@given(st.lists(any_outcomes, unique_by=lambda found: found.cell.id, max_size=5))
def test_any_run_makes_a_file_whose_tables_hold(outcomes):
    assert all(len(set(columns)) == 1 for columns in tables(file_of(outcomes)))


def test_the_headline_names_the_checks_that_passed_and_those_that_did_not():
    failure = replace(loss_failure(1, 2), frames=(), signature="PropertyFails@tokens_see_no_future")
    text = file_of([tuned("1.0.0"), outcome(cell("1.0.0", "properties"), Status.FAILED, failure=failure)])
    assert "every check that was run passed" not in text
    assert "paraformer_streaming: passed: finetune; wrong: properties; not run: import, construct," in text
    assert "≠ **Of these, wrong**: it trains something other than configured" in text
