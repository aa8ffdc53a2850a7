"""Rows of releases with answers made up for the tests of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.cell_answer import CellAnswer
from harness.compare.transitions.search_space import CellTemplate, SearchSpace, asked_of, row_of_releases
from harness.core.cells import Depth, Device, Dimensions, Precision, Release, Status

GOOD = CellAnswer(status=Status.PASSED)
BAD = CellAnswer(status=Status.FAILED, signature="AssertionError@funasr/losses/label_smoothing_loss.py:forward")
OTHER = CellAnswer(status=Status.FAILED, signature="AttributeError@funasr/models/model.py:forward")


def asked(check: str = "loss_contract") -> CellTemplate:
    return asked_of(
        check,
        variant="paraformer",
        dimensions=Dimensions(vocab_size=8404, hidden_size=320),
        depth=Depth.REDUCED,
        device=Device.CPU,
        precision=Precision.FP32,
    )


def release(version: str) -> Release:
    return Release(label=version, version=version, kind="wheel", filename=f"{version}.whl", sha256="0" * 64)


def row_of(count: int) -> SearchSpace:
    return row_of_releases(asked(), [release(f"1.0.{number}") for number in range(count)])


@dataclass
class Oracle:
    """Answers for places, the next of several each time that a place is asked."""

    answers: Mapping[int, Sequence[CellAnswer | None]]
    asked: list[int] = field(default_factory=list)

    def __call__(self, places: Sequence[int]) -> dict[int, Observation]:
        found = {}
        for place in places:
            several = self.answers[place]
            answer = several[min(self.asked.count(place), len(several) - 1)]
            self.asked.append(place)
            found[place] = Observation(
                answer=answer, reason="" if answer else "it does not install", ran=answer is not None
            )
        return found


def oracle(*answers: CellAnswer | Sequence[CellAnswer | None] | None) -> Oracle:
    """One answer a place, or several where it changes its mind."""
    return Oracle({n: one if isinstance(one, list | tuple) else [one] for n, one in enumerate(answers)})
