"""The picture of a loss curve says what the numbers say, whatever they are."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.report.loss_chart import again, draw, spark
from harness.text.units import bars

SVG = "{http://www.w3.org/2000/svg}"
losses = st.lists(st.none() | st.floats(), max_size=40)


def drawn(values, epochs=()):
    return draw(values, epochs, title="a loss", name="curve-1-picture")


def test_axes_are_labelled_and_the_picture_has_a_title():
    root = ElementTree.fromstring(drawn([10.0, 8.0, 5.0, 4.0], [9.0, 4.5]))
    texts = [element.text for element in root.iter("text")]
    assert root.get("role") == "img"
    assert root.findtext("title") == "a loss"
    assert {"loss", "optimizer step", "1", "4", "10"} <= set(texts)


def test_a_falling_loss_falls_and_each_step_has_a_dot():
    picture = drawn([10.0, 8.0, 5.0, 4.0])
    line = re.search(r'class="c-line" d="([^"]+)"', picture)[1]
    heights = [float(y) for y in re.findall(r" ([\d.]+)", line)]
    assert heights == sorted(heights)
    assert re.search(r'class="c-dots" d="([^"]+)"', picture)[1].count("h0") == 4


def test_the_mean_of_each_epoch_is_a_level_line_with_its_value():
    assert re.findall(r"mean of epoch (\d): ([\d.]+)", drawn([10.0, 8.0, 5.0, 4.0], [9.0, 4.5])) == [
        ("1", "9.0000"),
        ("2", "4.5000"),
    ]


def test_epochs_that_do_not_divide_the_steps_are_not_drawn():
    assert "c-mean" not in drawn([10.0, 8.0, 5.0], [9.0, 4.5])


def test_a_loss_that_is_no_number_is_a_cross_and_a_gap():
    picture = drawn([10.0, math.nan, 5.0, math.inf])
    assert re.search(r'class="c-lost" d="([^"]+)"', picture)[1].count("m0 -8") == 2
    assert re.search(r'class="c-line" d="([^"]+)"', picture)[1].count("M") == 2
    assert bars([10.0, math.nan, 5.0, None]) == "█×▁×"


@given(losses, losses)
@example([0.0, 5e-324], [])
@example([1.0, 1.0000000000000002], [])
@example([-9.9e299, 9.9e299], [])
def test_any_numbers_give_a_sound_picture(values, epochs):
    picture = drawn(values, epochs)
    if picture:
        ElementTree.fromstring(picture)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<title>[^<]*</title>", "", picture))
    assert len(bars(values)) == len(values)
    spark(values)


@pytest.mark.parametrize("values", [[], [None], [math.nan, math.inf]])
def test_nothing_is_drawn_of_nothing(values):
    assert drawn(values) == ""


def test_a_second_showing_refers_to_the_first():
    assert 'href="#curve-1-picture"' in again(title="a loss", name="curve-1-picture")
    assert 'id="curve-1-picture"' in drawn([1.0, 2.0])


def test_a_title_cannot_leave_its_element():
    assert "<script>" not in draw([1.0, 2.0], [], title="</title><script>", name="x")
