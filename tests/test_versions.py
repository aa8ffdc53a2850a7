"""Ranges are of releases that were really published one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from report_factory import RELEASES

from harness.core.versions import Order, in_words, installable

ORDER = Order.of(RELEASES[:12], ())


def test_releases_stand_in_the_order_of_versions_not_of_letters():
    assert Order.of(["1.0.10", "1.0.9", "1.0.2+local.ab", "1.0.2"], ()).labels == (
        "1.0.2",
        "1.0.2+local.ab",
        "1.0.9",
        "1.0.10",
    )


def test_a_range_names_its_ends_and_how_many():
    assert in_words(ORDER.spans(RELEASES[:6])) == "1.0.0 – 1.0.5 (6 releases)"
    assert in_words(ORDER.spans(["1.0.1", "1.0.0"])) == "1.0.0, 1.0.1"
    assert in_words(ORDER.spans(["1.0.3", "1.0.0"])) == "1.0.0, 1.0.3"


def test_a_published_release_that_was_not_run_ends_a_range():
    run = ["1.0.0", "1.0.1", "1.0.3", "1.0.4"]
    assert in_words(Order.of(run, RELEASES).spans(run)) == "1.0.0, 1.0.1, 1.0.3, 1.0.4"
    assert len(Order.of(run, RELEASES).spans(run)) == 2
    assert len(Order.of(run, ()).spans(run)) == 1


@given(st.sets(st.sampled_from(RELEASES)))
def test_ranges_lose_and_invent_no_release(chosen):
    order = Order.of(RELEASES, ())
    spans = order.spans(chosen)
    inside = [label for span in spans for label in RELEASES[RELEASES.index(span.first) : RELEASES.index(span.last) + 1]]
    assert inside == list(order.sorted(chosen))
    assert sum(span.count for span in spans) == len(chosen)


def test_what_cannot_be_a_version_comes_last_and_breaks_nothing():
    assert Order.of(["1.0.0", "odd name"], ()).labels == ("1.0.0", "odd name")


def test_pip_can_install_published_releases_only():
    assert installable("1.4.16")
    assert not installable("1.4.16+local.1a2b3c4d")
    assert not installable("odd name")
