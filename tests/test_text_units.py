"""Numbers with units for people, and never a made-up one."""

from __future__ import annotations

import math

import pytest

from harness.core.numbers import any_number, any_numbers
from harness.text import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, "4.2 ms"),
        (0.432, "432 ms"),
        (0.9999, "1.0 s"),
        (3.42, "3.4 s"),
        (99.97, "1 min 40 s"),
        (125, "2 min 05 s"),
        (3725, "1 h 02 min"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds, text):
    assert units.duration(seconds) == text


def test_memory_is_reported_in_mebibytes():
    assert units.memory(1_610_612_736) == "1,536 MiB"
    assert units.memory(None) == "–"


def test_losses_that_are_no_numbers_say_so():
    assert [units.loss(value) for value in (9.0367123, 3.0, math.nan, math.inf, None)] == [
        "9.0367",
        "3.0000",
        "nan",
        "inf",
        "–",
    ]


def test_a_tiny_change_is_not_shown_as_none():
    assert [units.share(value) for value in (0.021, 1e-7, 0.0, None)] == ["2.1 %", "1e-05 %", "0", "–"]


@pytest.mark.parametrize("value", [None, "many", True, [], {}, "1e5", 10**400])
def test_what_is_no_number_is_not_read_as_one(value):
    assert any_number(value) is None


def test_the_words_for_what_json_cannot_say_are_read():
    assert math.isnan(any_number("nan"))
    assert any_number("-inf") == -math.inf
    assert units.finite(any_numbers([1, "nan", None, "inf", 2.5])) == (1.0, 2.5)


def test_one_thing_has_no_plural():
    assert [units.plural(amount, "cell") for amount in (0, 1, 1200)] == ["0 cells", "1 cell", "1,200 cells"]
