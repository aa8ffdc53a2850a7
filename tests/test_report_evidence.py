"""Nothing that was seen is lost, and nothing is told twice."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import RELEASES, SHAPES, atlas, blocked, cell, judged, loss_failure, outcome, training, tuned
from strategies import outcomes as any_outcomes

from harness.config.expansion import import_cell
from harness.core.cells import Status
from harness.core.versions import Order, in_words
from harness.report.cell_details import facts_of
from harness.report.evidence import build_cards
from harness.report.failures import group_failures
from harness.report.learning import group_curves


def cards_of(outcomes):
    found = judged(outcomes)
    order = Order.of({item.outcome.cell.release for item in found}, ())
    return build_cards(found, order, groups=group_failures(found, order), curves=group_curves(found, order))


def told(of):
    return {fact.name: fact.text for fact in facts_of(of)}


def ids_in(cards):
    return Counter(member.id for card in cards for row in card.rows for member in row.members)


def test_every_cell_of_an_atlas_is_in_exactly_one_row():
    outcomes = atlas(RELEASES[:12])
    assert ids_in(cards_of(outcomes)) == Counter(outcome.cell.id for outcome in outcomes)


@settings(max_examples=40)
@given(st.lists(any_outcomes, unique_by=lambda outcome: outcome.cell.id, max_size=5))
def test_every_cell_of_any_run_is_in_exactly_one_row(outcomes):
    assert ids_in(cards_of(outcomes)) == Counter(outcome.cell.id for outcome in outcomes)


def test_what_is_equal_in_many_releases_is_reported_once():
    cards = cards_of([outcome(cell(release, "construct"), metrics={"parameters": 5}) for release in RELEASES])
    assert [len(card.rows) for card in cards] == [1]
    assert in_words(cards[0].rows[0].spans) == "1.0.0 – 1.4.9 (101 releases)"


def test_another_number_of_parameters_has_a_row_of_its_own():
    cards = cards_of([outcome(cell(f"1.4.{n}", "construct"), metrics={"parameters": 5 + n}) for n in range(2)])
    assert [row.facts[0].text for row in cards[0].rows] == ["5", "6"]


def test_shapes_of_one_failure_share_its_traceback():
    failing = [
        outcome(cell(RELEASES[6], "loss_contract", shape=shape), Status.FAILED, failure=loss_failure(320, 8404))
        for shape in SHAPES
    ]
    (card,) = cards_of(failing)
    assert (len(card.lines), len(card.rows), card.group.number) == (4, 4, 1)


def test_the_reason_of_a_blocked_cell_does_not_split_a_row_by_release():
    found = []
    for release in RELEASES[:3]:
        failing = outcome(cell(release, "construct"), Status.FAILED, failure=loss_failure(1, 2))
        found += [failing, blocked(cell(release, "loss_contract"), failing.cell)]
    (row,) = cards_of(found)[1].rows
    assert row.reason.startswith("Not run: it depends on …/paraformer_streaming/")
    assert len(row.members) == 3


def test_shims_tell_cells_apart():
    plain, adapted = outcome(cell("1.4.0", "construct")), outcome(cell("1.4.1", "construct"), shims=("a",))
    assert [card.shims for card in cards_of([plain, adapted])] == [(), ("a",)]


def test_the_end_of_the_log_is_kept_for_what_did_not_pass():
    log = {"log_tail": "x" * 5000 + "the end"}
    passed = tuned("1.4.0", evidence=log)
    failed = tuned("1.4.1", status=Status.FAILED, reason="It failed.", evidence=log)
    assert [(len(card.log), card.log[-7:]) for card in cards_of([passed, failed])] == [(0, ""), (2000, "the end")]


def test_the_time_of_a_cell_is_reported_from_the_quickest_to_the_slowest():
    cells = [outcome(cell(f"1.4.{n}", "construct"), seconds=0.25 + n / 4) for n in range(3)]
    assert cards_of(cells)[0].rows[0].seconds == "250 ms – 750 ms"


def test_what_the_checks_see_is_reported_in_words():
    imported = outcome(
        import_cell("1.4.0"),
        metrics={"modules_imported": 1300},
        evidence={"undeclared": ["tiktoken"], "submodule_errors": [{"module": "a.b", "error": "ImportError: c"}]},
    )
    assert told(imported) == {
        "modules imported": "1,300",
        "undeclared": "tiktoken",
        "why they failed": "a.b: ImportError: c",
    }
    seen = {"name": "criterion_att", "classes": 8404, "input_shape": [4, 12, 320], "width": 320}
    contract = outcome(cell("1.4.0", "loss_contract"), evidence={"loss_inputs": [seen]})
    assert told(contract) == {"what entered the loss": "criterion_att got width 320, wants 8404 (shape 4 × 12 × 320)"}


def test_a_fine_tune_is_reported_with_all_its_losses_and_what_it_changed():
    facts = told(tuned("1.4.0", metrics=training() | {"losses": [10.1, 9.123456789], "steps": 2}))
    assert facts["losses"] == "10.1, 9.123456789"
    assert facts["steps"] == "2 of 16 expected"
    assert facts["parameters changed by"] == "encoder 2.1 %, predictor 3.4 %, decoder 1.5 %"
    assert facts["trainer"] == "the release's own recipe calls this trainer"


def test_a_users_rows_are_accounted_for():
    evidence = {
        "file": "mine.jsonl",
        "listed": 8,
        "trainable": 7,
        "reasons": [{"line": 3, "key": "a", "reason": "source_len is 2500, above max_token_length 2048"}],
    }
    one = outcome(cell("1.4.16", "finetune"), metrics={"user_rows": {"arrived": 7}}, evidence={"user_rows": evidence})
    assert told(one)["your rows"] == (
        "mine.jsonl: 8 listed, 7 within the limits, 7 reached training. "
        "Left out: line 3: source_len is 2500, above max_token_length 2048"
    )
    assert "your rows" not in told(outcome(cell("1.4.16", "finetune")))
