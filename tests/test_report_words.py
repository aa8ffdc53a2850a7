"""Every word that a reader can meet is explained."""

from __future__ import annotations

import pytest

from harness.cells import Check, Status, Verdict
from harness.inside import adaptations
from harness.report import words


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Check, words.RUNG_LETTER),
        (Check, words.RUNG_MEANING),
        (Check, words.RUNG_FAILS),
        (Status, words.STATUS_SIGN),
        (Status, words.STATUS_NAME),
        (Status, words.STATUS_MEANING),
        (Verdict, words.VERDICT_NAME),
        (Verdict, words.VERDICT_MEANING),
    ],
)
def test_each_word_is_there(kind, table):
    assert set(table) == set(kind)


@pytest.mark.parametrize("table", [words.RUNG_LETTER, words.STATUS_SIGN])
def test_no_sign_means_two_things(table):
    assert len(set(table.values())) == len(table)


def test_each_adaptation_that_the_harness_can_make_is_described():
    assert adaptations.SHIMS
    assert [name for name in adaptations.SHIMS if name not in words.ADAPTATION_MEANING] == []


def test_an_adaptation_without_a_description_is_no_error():
    assert "no description" in words.adaptation_meaning("something-new")
