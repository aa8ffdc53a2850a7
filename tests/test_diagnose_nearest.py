"""The nearest release in which a cell passes, and the advice that follows from the runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.diagnose.nearest import Record, RecordedStatus, about_property, read_record
from harness.core.cells import Cell, Failure, Outcome, Status
from harness.core.errors import InputError

PUBLISHED = ("1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.0.5")
REST = "paraformer/v8404-h320/reduced/{}/cpu-fp32"


def outcome(
    label: str, status: str, *, check: str = "loss_contract", signature: str = "A@f", **more: object
) -> Outcome:
    failure = None if status == "passed" else Failure(type="A", message="m", signature=signature)
    return Outcome(
        cell=Cell.parse(f"{label}/{REST.format(check)}"),
        status=Status(status),
        reason="" if status == "passed" else "why",
        failure=failure,
        **more,  # type: ignore[arg-type]
    )


def record(asked: str, **statuses: str) -> Record:
    seen = {}
    for name, words in statuses.items():
        label = name.replace("_", ".").removeprefix("v")
        status, _, signature = words.partition(" ")
        seen[label] = RecordedStatus(
            outcome=outcome(label, status, signature=signature or "A@f"), run=Path("reports/atlas"), matrix="m"
        )
    return Record(cell=Cell.parse(f"{asked}/{REST.format('loss_contract')}"), seen=seen, published=PUBLISHED)


def test_the_nearest_comes_first_and_of_two_the_later() -> None:
    one = record("1.0.2", v1_0_0="passed", v1_0_1="passed", v1_0_2="failed", v1_0_3="passed", v1_0_5="passed")
    assert one.passing() == ["1.0.3", "1.0.1", "1.0.0", "1.0.5"]
    assert one.why("1.0.3") == "the nearest release in which this cell passes (reports/atlas); later, next to it"
    assert one.why("1.0.5").endswith("later, 2 published releases between")


def test_a_local_release_stands_after_that_of_its_version() -> None:
    one = record("1.0.2+local.1a2b3c4d", v1_0_2="passed", v1_0_4="passed")
    assert one.passing() == ["1.0.2", "1.0.4"]
    assert "earlier, next to it" in one.why("1.0.2")


@pytest.mark.parametrize(
    ("statuses", "advice"),
    [
        ({"v1_0_3": "passed", "v1_0_5": "passed"}, "Upgrade to 1.0.3 or later; 1.0.5, the newest, passes too."),
        ({"v1_0_3": "passed", "v1_0_4": "failed"}, "Upgrade to 1.0.3 or later, but not to 1.0.4."),
        ({"v1_0_3": "passed", "v1_0_4": "failed B@g"}, "Upgrade to 1.0.3 or later; 1.0.4 fails otherwise."),
        ({"v1_0_1": "passed"}, "Go back to 1.0.1: in no later release that was run does this cell pass."),
        ({"v1_0_4": "failed"}, ""),
    ],
)
def test_the_advice_says_no_more_than_was_run(statuses: dict[str, str], advice: str) -> None:
    assert record("1.0.2", v1_0_2="failed", **statuses).advice() == advice


def of_properties(label: str, **statuses: str) -> RecordedStatus:
    evidence = {"properties": [{"name": name, "status": status} for name, status in statuses.items()]}
    return RecordedStatus(
        outcome=outcome(label, "failed", check="properties", evidence=evidence), run=Path("r"), matrix="m"
    )


def test_of_properties_the_first_is_taken_that_holds_somewhere() -> None:
    seen = {
        "1.0.1": of_properties("1.0.1", first="fails", second="holds"),
        "1.0.2": of_properties("1.0.2", first="fails", second="known"),
    }
    one = Record(cell=seen["1.0.2"].outcome.cell, seen=seen, published=PUBLISHED)
    assert about_property(one).asked == "second"
    assert about_property(one).passing() == ["1.0.1"]
    assert about_property(one, "first").passing() == []
    with pytest.raises(InputError, match="asked no property 'secnd'"):
        about_property(one, "secnd")


def test_runs_that_cannot_be_read_are_skipped_and_told(tmp_path: Path) -> None:
    found = read_record(Cell.parse(f"1.0.2/{REST.format('construct')}"), PUBLISHED, [tmp_path])
    assert found.seen == {}
    assert "holds no run" in found.notices[0]


def test_the_committed_atlas_knows_the_neighbour_of_the_reported_bug() -> None:
    published = ("1.0.16", "1.0.17", "1.0.18", "1.0.19")
    cell = Cell.parse("1.0.17/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32")
    found = read_record(cell, published, [Path(__file__).parent.parent / "reports" / "atlas"])
    assert found.passing()[0] == "1.0.18"
