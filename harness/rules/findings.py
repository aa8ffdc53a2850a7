"""What is wrong with a cell and did not decide its status: `evidence["findings"]`.

A compatibility shim, a variant's YAML or the trainer's options may excuse a fault, so that the check can go on; and a
check may see something beside its own question. Each such fault is a finding with a code, and `Finding@CODE` is the
signature by which a known issue lists it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.cells import Outcome
from harness.core.numbers import mapping, sequence

FINDINGS = "findings"
"""The key in the evidence; an outcome without it was made before anything was looked for, and says nothing."""

KIND = "Finding"
"""What stands before the code in a signature."""

UNREADABLE = "unreadable-finding"
"""The code that stands for an entry that does not have the form: what nobody can read is not passed over."""

_CODE = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong that did not decide the cell's status."""

    code: str
    """What it is, such as `key-registered-twice`."""
    message: str
    """One sentence."""
    place: str = ""
    """`funasr/….py:function`, a key or `file:line`; empty where it is not known."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """What a known issue lists it by."""
        return f"{KIND}@{self.code}"


def findings_of(outcome: Outcome) -> tuple[Finding, ...] | None:
    """The findings of an outcome, in their order; None where none were looked for.

    An entry that does not have the form becomes a finding of the code `UNREADABLE`.
    """
    if FINDINGS not in outcome.evidence:
        return None
    entries = outcome.evidence[FINDINGS]
    if not isinstance(entries, list | tuple):
        return (_unreadable(entries),)
    return tuple(_read(entry) for entry in sequence(entries))


def _read(entry: object) -> Finding:
    told = mapping(entry)
    code, message, place = told.get("code"), told.get("message"), told.get("place")
    if not isinstance(code, str) or not _CODE.fullmatch(code) or not isinstance(message, str):
        return _unreadable(entry)
    return Finding(
        code=code,
        message=message,
        place=place if isinstance(place, str) else "",
        detail=mapping(told.get("detail")),
    )


def _unreadable(entry: object) -> Finding:
    return Finding(code=UNREADABLE, message=f"An entry among the findings does not have their form: {entry!r:.200}")
