"""No message can break a table, a link or a page of Markdown."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.text.markdown import block, code, markdown_environment, md, render_template
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


def rendered(tmp_path, template, **values):
    (tmp_path / "x.md.j2").write_text(template, encoding="utf-8")
    return render_template(markdown_environment(tmp_path), "x.md.j2", **values)


@pytest.mark.parametrize("template", ["{{ x }}", "{% macro m(y) %}{{ y }}{% endmacro %}{{ m(x) }}", "{{ [x]|join }}"])
def test_a_template_escapes_whatever_it_prints(tmp_path, template):
    assert rendered(tmp_path, template, x="a | <b> `c`") == md("a | <b> `c`") + "\n"


def test_a_template_keeps_blank_lines_within_a_block_of_code_only(tmp_path):
    text = rendered(tmp_path, "a\n\n\n\n{{ x|block }}\n\n\n\nb\n", x="one\n\n\n```\ntwo")
    assert text == "a\n\n````text\none\n\n\n```\ntwo\n````\n\nb\n"


def test_a_table_in_a_template_keeps_its_columns_whatever_is_in_them(tmp_path):
    rows = "{% filter table %}\n | name\n{% for x in xs %}\n{{ x }} | {{ x|code }}\n{% endfor %}\n{% endfilter %}"
    lines = rendered(tmp_path, rows, xs=["a|b", "\n", "|"]).splitlines()
    assert {line.count("|") for line in lines} == {3}
    assert len(lines) == 5
