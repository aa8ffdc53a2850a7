"""No message can break a table, a link or a page of Markdown."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.text.markdown import block, code, md
from harness.text.plain import one_line

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b \\| c",
    "`code` ``more``",
    "[x](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "one\n\n# two\n- three",
    "@everyone $x$ *bold* _it_ ~~gone~~",
    "&lt;b&gt;",
    "https://example.org www.example.org",
    "a\u202eb\x00",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_markdown_reads_is_left(text):
    shown = re.sub(r"&#\d+;", "", md(text))
    assert not re.search(r"[<>|`\\*\[\]~#!$@&\n]|(?<!\w)_|_(?!\w)|://|www\.", shown)


@given(st.text())
def test_a_reader_sees_the_very_text(text):
    assert html.unescape(md(text, at_most=10**6)) == one_line(text, at_most=10**6)


def test_words_stay_legible_in_the_source():
    assert md("paraformer_streaming at v8404-h320: x.size(2) == 320") == (
        "paraformer_streaming at v8404-h320: x.size(2) == 320"
    )


def test_code_has_the_look_of_code():
    assert code("a`b|c") == "<code>a&#96;b&#124;c</code>"
    assert code("  ") == ""


@given(st.text())
@example("```")
@example("a\n````\nb")
def test_no_text_ends_its_own_block(text):
    lines = block(text).split("\n")
    fence = lines[0].removesuffix("text")
    assert lines[-1] == fence
    assert not any(fence in line for line in lines[1:-1])
