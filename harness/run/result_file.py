"""Reading a cell's result file: strict JSON of one form, or not an answer at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.cells import Check, Failure, Status
from harness.core.evidence.parsing import parse

_FROM_INSIDE = frozenset(Status) - {Status.BLOCKED, Status.CRASHED}
"""What a check can say of itself; `timed_out` where it stopped in time to say how far it came."""


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A well-formed result file."""

    status: Status
    reason: str
    failure: Failure | None
    metrics: Mapping[str, Any]
    evidence: Mapping[str, Any]
    shims: tuple[str, ...]


def read_answer(text: str | None, check: Check) -> tuple[CellResult | None, str]:
    """The answer, or what is wrong with it; its metrics and evidence have the form that the check declares."""
    if text is None:
        return None, "there is none"
    try:
        return _parse(json.loads(text, parse_constant=_refuse), check), ""
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return None, str(error)
    except KeyError as error:
        return None, f"the key {error} is missing"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _parse(data: Any, check: Check) -> CellResult:
    if not isinstance(data, dict):
        raise TypeError("it is no JSON object")
    status = Status(data["status"])
    if status not in _FROM_INSIDE:
        raise ValueError(f"a check cannot say {status} of itself")
    reason = data["reason"]
    if not isinstance(reason, str) or bool(reason.strip()) == (status is Status.PASSED):
        raise ValueError(f"{status} with the reason {reason!r}")
    for name, record in (("metrics", check.facts.metrics), ("evidence", check.facts.evidence)):
        if not isinstance(data[name], dict):
            raise TypeError(f"{name} is no JSON object")
        parse(record, data[name], place=name)
    failure = data["failure"]
    return CellResult(
        status=status,
        reason=reason,
        failure=Failure.from_json(failure) if failure else None,
        metrics=data["metrics"],
        evidence=data["evidence"],
        shims=tuple(map(str, data["shims"])),
    )
