"""Every word that a reader can meet is explained."""

from __future__ import annotations

import pytest

from harness.core.cells import Check, Status, Verdict
from harness.report import labels
from harness.worker.release import shims


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Status, labels.STATUS_SIGN),
        (Status, labels.STATUS_NAME),
        (Status, labels.STATUS_MEANING),
        (Verdict, labels.VERDICT_NAME),
        (Verdict, labels.VERDICT_MEANING),
    ],
)
def test_each_word_is_there(kind, table):
    assert set(table) == set(kind)


@pytest.mark.parametrize("table", [{check: check.facts.letter for check in Check}, labels.STATUS_SIGN])
def test_no_sign_means_two_things(table):
    assert len(set(table.values())) == len(table)


def test_each_shim_that_the_harness_can_make_is_described():
    assert shims.SHIMS
    assert [name for name in shims.SHIMS if name not in labels.SHIM_MEANING] == []


def test_an_shim_without_a_description_is_no_error():
    assert "no description" in labels.shim_meaning("something-new")
