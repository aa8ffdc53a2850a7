"""What the evidence of every check may hold, and the records that several checks share.

A field that is None, or an empty container, was not observed; records of old runs lack the fields that came later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_CODE = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong that did not decide the cell's status."""

    code: str
    """What it is, in kebab-case, such as `key-registered-twice`."""
    message: str
    """One sentence."""
    place: str = ""
    """`funasr/….py:function`, a key or `file:line`; empty where it is not known."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What was observed; its keys depend on the code."""

    def __post_init__(self) -> None:
        if not _CODE.fullmatch(self.code):
            raise ValueError(f"expected a code in kebab-case, found {self.code!r:.60}")

    @property
    def signature(self) -> str:
        """The signature by which a known issue lists it."""
        return f"{FINDING}@{self.code}"


FINDING = "Finding"
"""The part of a finding's signature before the `@`."""


@dataclass(frozen=True, kw_only=True)
class LeftOutRow:
    """A row of the user's file that the release does not train on."""

    line: int
    """Line in the file, from 1."""
    key: str = ""
    """The row's own `key`."""
    reason: str = ""
    """Why it is left out."""
    frames: int | None = None
    """Length of the recording in frames of 10 ms, where `source_len` is not that."""


@dataclass(frozen=True, kw_only=True)
class UserRows:
    """What a release's own limits leave of a user's file."""

    file: str = ""
    """Name of the file."""
    listed: int | None = None
    """Rows in it."""
    trainable: int | None = None
    """Rows that the release's limits allow."""
    reasons: tuple[LeftOutRow, ...] = ()
    """The first `NAMED_ROWS` of the others."""


@dataclass(frozen=True, kw_only=True)
class OwnSettings:
    """What a user's own variant sets."""

    file: str = ""
    """Name of the YAML file, with that of the model folder before it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values by dotted path."""
    near: Mapping[str, str] = field(default_factory=dict)
    """By path: the known key that it resembles, for paths that are not known."""
    stock: str = ""
    """Name of the harness's own variant of the same model; empty where there is none."""
    shared: tuple[str, ...] = ()
    """Paths that this variant sets as well, to another value."""


@dataclass(frozen=True, kw_only=True)
class Reused:
    """Where the outcome of a cell that was not run is from."""

    cell: str = ""
    """The id of the cell that ran, of another release or in an earlier run."""
    ran: str = ""
    """When that was; UTC, ISO 8601."""


@dataclass(frozen=True, kw_only=True)
class UserCause:
    """Why a failure is the user's and not the release's."""

    reason: str = ""
    """One sentence with the file, the key or the value."""


@dataclass(frozen=True, kw_only=True)
class StockOutcome:
    """How the same check of the same release ends on stock input: the harness's own variant and speech."""

    cell: str = ""
    """Its id."""
    status: str = ""
    signature: str = ""
    """Of its failure; empty where it has none."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class CellEvidence:
    """What the evidence of a cell of any check may hold."""

    classes: Mapping[str, str] = field(default_factory=dict)
    """Registry key, such as `encoder_classes/SANMEncoder`, to the class that the check built from it."""
    code: tuple[str, ...] = ()
    """Classes of the model's modules and their bases, each as `funasr/models/ctc/ctc.py:CTC`."""
    findings: tuple[Finding, ...] | None = None
    """None where nothing was looked for."""
    absent: str = ""
    """Of a skipped cell: what the release lacks, such as `entry/train_ds`."""
    skipped_with: str = ""
    """Of a cell that was skipped because another was: the id of that one."""
    blocked_by: str = ""
    """Of a blocked cell: the id of the cell that blocks it."""
    reused: Reused | None = None
    """Of a cell that was not run, because another shows how it ends."""
    own_settings: OwnSettings | None = None
    """Of a user's own variant."""
    user_rows: UserRows | None = None
    """Of a cell that trains on a user's file."""
    yours: UserCause | None = None
    """Of a failure that the user's own input causes."""
    on_stock_input: StockOutcome | None = None
    """Of a failure that the user's own input may cause."""
    entry_is_native: bool | None = None
    """Whether the release's own finetune.sh uses this entry point."""
    trainer_options: tuple[str, ...] = ()
    """How the release's trainer options differ from the usual ones."""
    log_tail: str = ""
    """The last lines that the cell printed."""
    enter_error: str = ""
    """What went wrong when the release was imported."""
    result_before_the_end: str = ""
    """The status that a cell wrote before its process crashed."""
    leftovers_killed: int | None = None
    """Processes that the cell left running."""
    survivors: int | None = None
    """Processes that could not be ended."""
    footprint: Mapping[str, Any] | None = None
    """A recording for memory prediction; see `harness.performance.prediction.recording`."""
    trace: Mapping[str, Any] | None = None
    """A recording for `diagnose`; see `harness.compare.diagnose.traces`."""
