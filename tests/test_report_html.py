"""The page is whole in itself, every link in it leads somewhere, and nothing that a release says is obeyed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import Page
from report_factory import (
    ISSUE,
    RELEASES,
    atlas,
    cell,
    judged,
    loss_failure,
    outcome,
    run_of,
    training,
    tuned,
)
from strategies import outcomes as any_outcomes

from harness.core.cells import Cell, Frame, Status
from harness.report.html import render_html
from harness.report.summary import summarise
from harness.rules.known_issues import KnownIssues
from harness.text.plain import anchor

MOST_BYTES = 3 * 2**20

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=https://example.org/x onerror=alert(1)>',
    "'; </style></title></script><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt; &amp;",
    "\u202eright to left\u2066 \x00\x1b[31m\x07",
)


def page_of(outcomes, issues=KnownIssues(issues=(ISSUE,)), **fields):  # noqa: B008 - a frozen record
    return render_html(summarise(run_of(outcomes, **fields), judged(outcomes, issues), published=RELEASES))


@pytest.fixture(scope="module")
def whole() -> str:
    return page_of(atlas())


def test_an_atlas_fits_into_three_mebibytes(whole):
    assert len(whole.encode("utf-8")) < MOST_BYTES


def test_an_atlas_whose_every_curve_and_loss_differs_fits_too():
    different = [
        replace(found, metrics={**found.metrics, **_own(found, number)}) for number, found in enumerate(atlas())
    ]
    assert len(page_of(different).encode("utf-8")) < MOST_BYTES


def _own(found, number):
    if found.metrics.get("losses"):
        return training(10 + number / 1000, seed=number / 7, noise=number)
    return {"loss": 9 + number / 10000} if "loss" in found.metrics else {}


def test_every_cell_has_one_anchor_and_every_link_leads_to_one(whole):
    page = Page.of(whole)
    ids = Counter(page.values("id"))
    assert max(ids.values()) == 1
    assert {anchor(found.cell.id) for found in atlas()} <= set(ids)
    targets = [href.removeprefix("#") for href in page.values("href") if href.startswith("#")]
    assert len(targets) > 1000
    assert set(targets) <= set(ids)


def test_the_page_asks_for_nothing_from_elsewhere(whole):
    page = Page.of(whole)
    assert not page.values("src")
    elsewhere = {(tag, value) for tag, name, value in page.attributes if name == "href" and not value.startswith("#")}
    assert {tag for tag, _ in elsewhere} == {"a", "link"}
    assert ("link", "data:,") in elsewhere
    assert all(
        value.startswith("https://github.com/modelscope/FunASR/issues/") for tag, value in elsewhere if tag == "a"
    )
    assert not re.search(r"@import|url\(|style=|\son\w+=", whole)


def test_the_policy_allows_the_one_style_and_the_one_script_of_the_page(whole):
    policy = next(value for tag, name, value in Page.of(whole).attributes if tag == "meta" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", whole, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_release_says_becomes_markup(text):
    tame, wild = (Page.of(page_of(_saying(words))) for words in ("tame", text))
    assert wild.tags == tame.tags
    assert [name for _, name, _ in wild.attributes] == [name for _, name, _ in tame.attributes]
    assert wild.values("href") == tame.values("href")
    assert not set("\u202e\u2066\x00\x1b\x07") & set(wild.text)


def _saying(words):
    """A run in which everything that comes from a release says `words`."""
    at = cell("1.4.0", "loss_contract")
    failure = replace(
        loss_failure(320, 8404),
        type=words,
        message=words,
        signature=f"A@{words}",  # so that the order of the groups does not depend on the words
        frames=(Frame(file=words, line=1, function=words, code=words),),
    )
    evidence = {
        "undeclared": [words],
        "submodule_errors": [{"module": words, "error": words}],
        "losses": [{"name": words, "type": words, "classes": words}],
        "loss_inputs": [{"name": words, "classes": 1, "input_shape": [1], "width": 1}],
        "trainer_options": [words],
        "log_tail": words,
        "entry_is_native": True,
        "findings": [{"code": "found", "message": words, "place": words, "detail": {words: words}}],
    }
    metrics = training() | {"stats": {words: [1, 2]}, "relative_change_by_group": {words: 1}}
    found = [
        outcome(Cell.parse("1.4.0/-/-/-/import/cpu-fp32"), evidence=evidence, shims=(words,)),
        outcome(at, Status.FAILED, f"reason {words}", failure=failure, evidence=evidence, shims=(words,)),
        tuned("1.4.1", status=Status.FAILED, reason=f"reason {words}", metrics=metrics, evidence=evidence),
    ]
    # What has not its declared form never comes to a report.
    assert [one.as_declared() for one in found] == found
    return found


def test_the_grid_shows_how_grave_things_are_by_colour_and_by_sign():
    def failed(release, signature):
        failure = replace(loss_failure(320, 8404), frames=(), signature=signature)
        return tuned(release, status=Status.FAILED, reason="r", failure=failure)

    outcomes = [
        failed("1.0.3", "NotTrained@accuracy"),
        failed("1.0.2", "NotTrained@schedule"),
        failed("1.0.1", "NotTrained@log"),
        tuned("1.0.0"),
    ]
    page = page_of(outcomes)
    marks = re.findall(r'<td class="(l-\w+) edge"><a [^>]*>([^<]+)</a></td>', page)
    assert marks == [("l-broken", "✗ F*"), ("l-wrong", "≠ F*"), ("l-minor", "≈ F*"), ("l-passed", "✓ F")]
    colours = {name: re.search(rf"\.{name} {{([^}}]*)}}", page)[1] for name, _ in marks}
    assert len(set(colours.values())) == 4


def test_the_headline_names_the_checks_that_passed_and_those_that_did_not():
    page = page_of(
        [
            outcome(cell("1.0.0", "construct")),
            tuned("1.0.0"),
            outcome(
                cell("1.0.0", "properties"),
                Status.FAILED,
                failure=replace(loss_failure(1, 2), frames=(), signature="PropertyFails@tokens_see_no_future"),
            ),
        ]
    )
    text = " ".join(Page.of(page).text.partition("Releases by model and shape")[0].split())
    assert "every check that was run passed" not in text
    headline = (
        "✓ passed construct, finetune ≠ wrong properties ∙ not run import, loss_contract, data, checkpoint, decode"
    )
    assert headline in text


def test_a_known_issue_is_reported_with_cause_remedy_and_reports(whole):
    text = Page.of(whole).text
    assert ISSUE.title in text
    assert ISSUE.cause in text
    assert ISSUE.remedy in text
    assert 'href="https://github.com/modelscope/FunASR/issues/1478"' in whole


def test_an_address_that_is_no_report_does_not_become_a_link():
    odd = KnownIssues(issues=(replace(ISSUE, upstream=("javascript:alert(1)",)),))
    failing = outcome(cell(RELEASES[6], "loss_contract"), Status.FAILED, failure=loss_failure(320, 8404))
    page = Page.of(page_of([failing], odd))
    assert "javascript:alert(1)" in page.text
    assert not any("javascript" in href for href in page.values("href"))


def test_the_banner_is_there_without_a_gpu_and_gone_with_one():
    assert 'id="no-vram"><strong>Not measured on a GPU: no VRAM figure in this report.' in page_of([tuned("1.4.0")])
    at = Cell.parse("1.4.0/paraformer/v8404-h320/full/finetune@train/cuda-bf16")
    metrics = training() | {"peak_allocated_bytes": 5 * 2**30, "peak_used_bytes": 6 * 2**30}
    on_gpu = page_of([outcome(at, metrics=metrics)], gpus=("H100",))
    assert 'id="no-vram"' not in on_gpu
    assert "5,120 MiB" in on_gpu


def test_the_answer_has_a_line_to_copy(whole):
    assert '<pre class="copy">pip install funasr==1.4.9</pre>' in whole


def test_the_answer_of_a_run_without_a_good_release_offers_none():
    page = page_of([outcome(cell("1.4.0", "construct"), Status.FAILED, failure=loss_failure(1, 2))])
    assert 'class="copy"' not in page


def test_a_page_of_nothing_can_be_made():
    assert "0 cells of 0 releases" in page_of([])


@settings(max_examples=40)
@given(st.lists(any_outcomes, unique_by=lambda found: found.cell.id, max_size=5))
def test_any_run_makes_a_page_whose_links_hold(outcomes):
    page = Page.of(page_of(outcomes))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.values("href") if href.startswith("#")} <= set(ids)
