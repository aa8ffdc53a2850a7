"""A diagnosis in words: nothing of it can break a page."""

from __future__ import annotations

from dataclasses import replace

from golden_files import assert_golden

from harness.compare.diagnose.diagnosis import Diagnosis, ReboundArgument
from harness.compare.diagnose.format import markdown, sentence_markdown, terminal
from harness.compare.diagnose.shape_trace import ShapeRow
from harness.core.cells import Cell, Status

CELL = Cell.parse("2.0.0/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32")
ROW = ShapeRow(
    module="decoder", class_name="D", given="[4]", expected="[8404]", found="[320]", note="never called", first=True
)


def diagnosis(**fields: object) -> Diagnosis:
    base = {"cell": CELL, "against": "1.0.0", "why": "near", "status": Status.FAILED, "reason": "it fails"}
    return Diagnosis(**{**base, "against_status": Status.PASSED, **fields})  # type: ignore[arg-type]


def test_the_cause_comes_before_the_evidence() -> None:
    text = terminal(
        diagnosis(cause="`a` is `b`.", first="`decoder` exists and was never called", shape_trace=(ROW,), advice="Go.")
    )
    assert text.index("Cause: `a` is `b`.") < text.index("What to do: Go.") < text.index("> decoder")


def test_without_a_cause_it_says_what_is_known_and_what_is_not() -> None:
    text = terminal(diagnosis(known=("x ended",), unknown=("why",)))
    assert "The cause is not known.\n  known: x ended\n  not known: why" in text


def test_what_is_quoted_looks_like_code_and_nothing_acts() -> None:
    assert sentence_markdown("`a_b` gives <i> and `c`.") == "<code>a_b</code> gives &#60;i&#62; and <code>c</code>."
    assert "`" not in sentence_markdown("an odd ` one")


def test_foreign_text_breaks_neither_terminal_nor_page() -> None:
    evil = diagnosis(reason="\x1b[31m<script>\u202e", cause="``` <script> ` | x", example="```\n<script>")
    assert "\x1b" not in terminal(evil)
    page = markdown(evil)
    assert "\u202e" not in page
    head, _, block = page.partition("The counterexample:")
    assert "<script>" not in head
    assert block.strip().startswith("````text")


def test_the_stored_form_can_be_read_by_a_program() -> None:
    stored = diagnosis(shape_trace=(ROW,), cause="c", rule="r").to_json()
    assert (stored["schema"], stored["cell"], stored["rule"]) == (1, CELL.id, "r")
    assert stored["shape_trace"][0]["first"] is True


def test_the_output_of_diagnose() -> None:
    same = replace(ROW, module="encoder", found="[8404]", note="", first=False)
    call = ReboundArgument(
        call="decoder", caller="funasr/models/x.py:3", given="chunk_mask", place=5, was="chunk_mask",
        now="return_hidden", value="[4, 1, 9]", signature="(a, b)", other_signature="(a, c)",
    )  # fmt: skip
    one = diagnosis(
        cause="`a` is `b`.", first="`decoder` exists and was never called", shape_trace=(same, ROW), compared_pass=0,
        calls=(call,), advice="Install 1.0.0.", setting="set `x: 1`", notices=("a notice",), example="seed: 1",
    )  # fmt: skip
    assert_golden("diagnose.txt", terminal(one) + "\n")
    assert_golden("diagnose.md", markdown(one))
    nothing = diagnosis(known=("it ended",), unknown=("why",))
    assert_golden("diagnose_unknown.txt", terminal(nothing) + "\n")
