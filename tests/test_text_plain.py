"""Foreign text is shown and never obeyed; anchors tell cells apart."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cells

from harness.text.plain import anchor, one_line, plain, sentence, upstream_url


@given(cells(), cells())
def test_two_cells_never_share_an_anchor(one, other):
    assert (anchor(one.id) == anchor(other.id)) == (one.id == other.id)


@given(st.text(), st.text())
def test_not_even_ids_that_no_cell_has_share_an_anchor(one, other):
    assert (anchor(one) == anchor(other)) == (one == other)


@given(st.text(min_size=1))
def test_an_anchor_needs_no_escape_in_html_or_in_an_address(text):
    assert re.fullmatch(r"[A-Za-z0-9._~!-]+", anchor(text))


def test_an_anchor_can_be_read():
    found = anchor("1.4.16+local.1a2b3c4d/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")
    assert found == "1.4.16!2b!local.1a2b3c4d~paraformer~v8404-h320~reduced~finetune!40!train~cpu-fp32"


@given(st.text(st.characters(exclude_categories=())))
def test_plain_text_is_legal_in_xml_and_can_be_encoded(text):
    shown = plain(text)
    shown.encode("utf-8")
    element = ElementTree.Element("a")
    element.text = shown
    assert ElementTree.fromstring(ElementTree.tostring(element)).text == (shown or None)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("a\u2066b\u200bc", "a\\u2066b\\u200bc"),
        ("a\x00b\x07", "a\\x00b\\x07"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\udc80", "\\udc80"),
        ("中文 — мир", "中文 — мир"),
    ],
)
def test_what_could_act_is_made_visible(hostile, shown):
    assert plain(hostile) == shown


def test_one_line_has_no_line_ends_and_is_cut_with_an_ellipsis():
    assert one_line("a\n\n  b\tc") == "a b c"
    assert one_line("x" * 50, at_most=10) == "x" * 9 + "…"


def test_a_sentence_gets_one_full_stop():
    assert [sentence(text) for text in ("It fails", "It fails.", "")] == ["It fails.", "It fails.", ""]


@pytest.mark.parametrize("name", ["javascript:alert(1)", "https://example.org", "a/b#0", "a/b#1\n", "", "a/b/c#1"])
def test_only_the_name_of_a_report_becomes_an_address(name):
    assert upstream_url(name) == ""


def test_the_name_of_a_report_leads_to_it():
    assert upstream_url("modelscope/FunASR#1478") == "https://github.com/modelscope/FunASR/issues/1478"
