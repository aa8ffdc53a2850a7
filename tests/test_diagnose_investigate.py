"""From a cell to its diagnosis: what is asked, and when it is asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from test_diagnose_divergence import DECODER, ENCODER, LOSS, PROJECTION, model, trace

from harness.compare.diagnose.investigate import ComparisonTarget, investigate
from harness.compare.diagnose.runner import Traced, TracedRunner
from harness.compare.diagnose.traces import Trace
from harness.core.cells import Cell, Outcome, Status
from harness.run.runner import TraceOptions

CELL = Cell.parse("2.0.0/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")
PROPERTIES = Cell.parse("2.0.0/paraformer/v8404-h320/reduced/properties/cpu-fp32")
AGAINST = ComparisonTarget(label="1.0.0", why="near", advice="Go back.")


@dataclass
class FakeAsker:
    """Answers at once: in 2.0.0 the cell dies in forward pass 3, in 1.0.0 it passes."""

    died_in: int = 3
    passes: bool = False
    asked: list[dict[str, TraceOptions]] = field(default_factory=list)

    def trace(self, options: Mapping[Cell, TraceOptions]) -> dict[Cell, Traced]:
        self.asked.append({cell.release: one for cell, one in options.items()})
        return {cell: self._answer(cell, one) for cell, one in options.items()}

    def _answer(self, cell: Cell, wish: Mapping[str, Any]) -> Traced:
        dies = cell.release == "2.0.0" and not self.passes
        numbers = [number for number in wish.get("passes", []) if not (dies and number >= self.died_in)]
        made = [self._pass(number) for number in numbers] + ([self._pass(self.died_in, "E")] if dies else [])
        status = Status.FAILED if dies else Status.PASSED
        outcome = Outcome(cell=cell, status=status, reason="it dies" if dies else "")
        base = trace([*model(ENCODER)])
        whole = Trace(
            model=base.model,
            modules=base.modules,
            built=(),
            functions=(),
            passes=tuple(one.passes[0] for one in made),
            called={},
        )
        return Traced(outcome=outcome, trace=whole, raw=None, install_dir=Path("nowhere"))

    def _pass(self, number: int, raised: str | None = None) -> Trace:
        return trace([*model(ENCODER, DECODER, PROJECTION, LOSS)], raised=raised, number=number)


def look(asker: FakeAsker, cell: Cell = CELL, against: ComparisonTarget | None = AGAINST, **known: Any) -> Any:
    return investigate(cast(TracedRunner, asker), cell, against, **known)


def test_what_dies_in_a_later_pass_is_asked_again_with_that_pass() -> None:
    asker = FakeAsker()
    found = look(asker)
    assert [asked["1.0.0"] for asked in asker.asked] == [{"passes": [0]}, {"passes": [0, 3]}]
    assert found.compared_pass == 3
    assert found.advice == "Go back."


def test_what_dies_in_the_first_pass_is_asked_once() -> None:
    asker = FakeAsker(died_in=0)
    assert look(asker).compared_pass == 0
    assert len(asker.asked) == 1


def test_what_passes_here_is_reported_so_and_nothing_is_advised() -> None:
    found = look(FakeAsker(passes=True))
    assert found.notices == ("2.0.0 passes here",)
    assert found.advice == ""
    assert found.cause == ""


def test_without_another_release_the_cell_is_asked_alone() -> None:
    asker = FakeAsker()
    assert look(asker, against=None).against == ""
    assert [list(asked) for asked in asker.asked] == [["2.0.0"]]


def test_a_property_is_held_against_its_counter_example() -> None:
    examples = [{"property": "one", "config": "a: 1"}, {"property": "two", "config": "b: 2"}]
    known = Outcome(cell=PROPERTIES, status=Status.FAILED, reason="x", evidence={"counterexamples": examples})
    asker = FakeAsker(died_in=0)
    found = look(asker, PROPERTIES, known=known, property_name="two")
    wish = asker.asked[0]["1.0.0"]
    assert wish is not None
    assert (wish["property"], wish["example"], found.example) == ("two", "b: 2", "b: 2")
