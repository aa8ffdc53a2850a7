"""The records that pass between the parts of the harness.

Everything that crosses a module's border is one of these, or a record of that module's own.
They are frozen, so an outcome that was written to disk cannot drift from the one in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from harness.core.checks import Check as Check
from harness.core.earlier_schemas import EARLIER_DEPTHS, SCHEMA, upgraded
from harness.core.evidence.common import CellEvidence
from harness.core.evidence.parsing import EvidenceMismatch, parse
from harness.core.evidence.training import TrainingEvidence, TrainingMetrics

Record = TypeVar("Record")


class Entry(StrEnum):
    """The module under `funasr.bin` whose trainer a cell is about."""

    TRAIN = "train"
    TRAIN_DS = "train_ds"


class Depth(StrEnum):
    """How many blocks the model has."""

    FULL = "full"
    """As many as the configuration that upstream publishes."""
    REDUCED = "reduced"
    """Few, of the same width, and with a narrow feed-forward: a CPU can train it."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """The names that earlier files have."""
        present = EARLIER_DEPTHS.get(str(value))
        return cls(present) if present else None


class Device(StrEnum):
    """Where the tensors live."""

    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """The precision that the trainer is to train in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Status(StrEnum):
    """What became of a cell. `failed` is FunASR's doing; `errored` the harness's or the machine's."""

    PASSED = "passed"
    FAILED = "failed"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    ERRORED = "errored"


@dataclass(frozen=True, kw_only=True, order=True)
class Dimensions:
    """Vocabulary size × hidden size, written `v8404-h320`."""

    vocab_size: int
    hidden_size: int

    _PATTERN = re.compile(r"v([1-9][0-9]*)-h([1-9][0-9]*)")

    def __str__(self) -> str:
        return f"v{self.vocab_size}-h{self.hidden_size}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: `text` is not of the form `v8404-h320`.
        """
        match = cls._PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} does not state dimensions (expected the form v8404-h320)")
        return cls(vocab_size=int(match[1]), hidden_size=int(match[2]))


@dataclass(frozen=True, kw_only=True)
class Release:
    """One published FunASR version, or a local wheel or checkout under test."""

    label: str
    """The name in cell ids: `1.4.16`, or `1.4.16+local.1a2b3c4d` for a local one."""
    version: str
    """The version that its metadata states."""
    kind: str
    """`wheel`, `sdist` or `checkout`."""
    filename: str
    """The file's name on the package index, or the last part of the local path."""
    sha256: str
    """Of the file; of the sorted files' hashes for a checkout."""
    path: Path | None = None
    """Where a local release lies; None for a published one."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """release × variant × dimensions × depth × check × device × precision.

    The `import` check is about the release alone: its variant, dimensions and depth are None.
    A cell of `data`, `finetune`, `checkpoint` or `decode` names the trainer's entry point besides.
    """

    release: str
    variant: str | None
    dimensions: Dimensions | None
    depth: Depth | None
    check: Check
    entry: Entry | None
    device: Device
    precision: Precision

    @property
    def id(self) -> str:
        """The only name the cell has, anywhere: `1.4.16/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32`."""
        return "/".join(
            (
                self.release,
                self.variant or "-",
                str(self.dimensions) if self.dimensions else "-",
                self.depth or "-",
                f"{self.check}@{self.entry}" if self.entry else self.check,
                f"{self.device}-{self.precision}",
            )
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cell id.

        Raises:
            ValueError: `text` does not name a cell.
        """
        parts = text.split("/")
        if len(parts) != 6:
            raise ValueError(f"not a cell id: {text!r} (expected six parts between slashes)")
        release, variant, dimensions, depth, check, place = parts
        name, _, entry = check.partition("@")
        device, _, precision = place.partition("-")
        try:
            return cls(
                release=release,
                variant=None if variant == "-" else variant,
                dimensions=None if dimensions == "-" else Dimensions.parse(dimensions),
                depth=None if depth == "-" else Depth(depth),
                check=Check(name),
                entry=Entry(entry) if entry else None,
                device=Device(device),
                precision=Precision(precision),
            )
        except ValueError as error:
            raise ValueError(f"not a cell id: {text!r} ({error})") from None

    def depends_on(self, other: Cell) -> bool:
        """Whether `other` is an earlier check of the same model that blocks its dependents."""
        if (
            self.release != other.release
            or other.check.position >= self.check.position
            or not other.check.blocks_dependents
        ):
            return False
        if self.entry and other.entry and self.entry is not other.entry:
            return False
        if other.check is Check.IMPORT:
            return True
        return (other.variant, other.dimensions, other.depth, other.device, other.precision) == (
            self.variant,
            self.dimensions,
            self.depth,
            self.device,
            self.precision,
        )


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One line of a traceback."""

    file: str
    """Relative, such as `funasr/losses/label_smoothing_loss.py` or `torch/nn/modules/module.py`."""
    line: int
    function: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An exception that came out of a release, or a check's own finding."""

    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    signature: str
    """`Type@file:function`, the innermost frame of funasr's own; what failures are grouped by."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote."""
        frames = tuple(Frame(**frame) for frame in data.get("frames", ()))
        return cls(type=data["type"], message=data["message"], frames=frames, signature=data["signature"])


_KINDS_OF_FIELDS: Mapping[str, Any] = {
    "id": str,
    "status": str,
    "reason": str,
    "failure": Mapping | None,
    "metrics": Mapping,
    "evidence": Mapping,
    "shims": list,
    "seconds": int | float,
    "started": str,
}
"""Of an outcome's record, as JSON has it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one cell gave."""

    cell: Cell
    status: Status
    reason: str
    """One sentence that a person can act on; empty only for `passed`."""
    failure: Failure | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Numbers in raw units: bytes, seconds, losses per step."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What was seen besides numbers: shapes, module names, what the release printed."""
    shims: tuple[str, ...] = ()
    """The compatibility shims that this cell made use of."""
    seconds: float = 0.0
    started: str = ""
    """UTC, ISO 8601, to the second."""
    _parsed: dict[type, tuple[Mapping[str, Any], object]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By class: what was parsed, and the record."""

    @property
    def common(self) -> CellEvidence:
        """The evidence of any check.

        Raises:
            EvidenceMismatch: it does not have its form; an outcome that `as_declared` gave always has.
        """
        return self._record(self.cell.check.facts.evidence, self.evidence, "evidence")

    @property
    def training(self) -> TrainingMetrics | None:
        """The metrics of a `finetune` cell; None for another check. Raises as `common` does."""
        return self.metrics_as(TrainingMetrics)

    @property
    def training_evidence(self) -> TrainingEvidence | None:
        """The evidence of a `finetune` cell; None for another check. Raises as `common` does."""
        evidence = self.common
        return evidence if isinstance(evidence, TrainingEvidence) else None

    def metrics_as(self, kind: type[Record]) -> Record | None:
        """The metrics, if `kind` is the record of the cell's check; None otherwise. Raises as `common` does."""
        if self.cell.check.facts.metrics is not kind:
            return None
        return self._record(kind, self.metrics, "metrics")

    def as_declared(self) -> Outcome:
        """This outcome; in its place an `errored` one where metrics or evidence do not have the form of its check."""
        try:
            self.metrics_as(self.cell.check.facts.metrics)
            _ = self.common
        except EvidenceMismatch as error:
            reason = f"its result is malformed: {error}"
            return replace(self, status=Status.ERRORED, reason=reason, failure=None, metrics={}, evidence={})
        return self

    def _record(self, kind: type[Record], data: Mapping[str, Any], place: str) -> Record:
        known = self._parsed.get(kind)
        if known is None or known[0] is not data:
            known = self._parsed[kind] = (data, parse(kind, data, place=place))
        return known[1]  # type: ignore[return-value]

    def to_json(self) -> dict[str, Any]:
        """The outcome as the store writes it: a JSON object of the design's form."""
        cell = self.cell
        return {
            "schema": SCHEMA,
            "id": cell.id,
            "cell": {
                "release": cell.release,
                "variant": cell.variant,
                "vocab_size": cell.dimensions.vocab_size if cell.dimensions else None,
                "hidden_size": cell.dimensions.hidden_size if cell.dimensions else None,
                "depth": cell.depth,
                "check": cell.check,
                "entry": cell.entry,
                "device": cell.device,
                "precision": cell.precision,
            },
            "status": self.status,
            "reason": self.reason,
            "failure": asdict(self.failure) if self.failure else None,
            "metrics": dict(self.metrics),
            "evidence": dict(self.evidence),
            "shims": list(self.shims),
            "seconds": self.seconds,
            "started": self.started,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the record is of another schema, or a field has no legal value.
            KeyError: a field is missing.
        """
        data = upgraded(data)
        for name, kind in _KINDS_OF_FIELDS.items():
            if not isinstance(data[name], kind) or isinstance(data[name], bool):
                raise ValueError(f"{name} has a value of another type than an outcome's")  # noqa: TRY004 - as the rest
        if not all(isinstance(name, str) for name in data["shims"]):
            raise ValueError("shims is no list of texts")
        return cls(
            cell=Cell.parse(data["id"]),
            status=Status(data["status"]),
            reason=data["reason"],
            failure=parse(Failure, data["failure"], place="failure", strict=True) if data["failure"] else None,
            metrics=data["metrics"],
            evidence=data["evidence"],
            shims=tuple(data["shims"]),
            seconds=data["seconds"],
            started=data["started"],
        )


class Verdict(StrEnum):
    """An outcome compared with what was expected of it."""

    AS_EXPECTED = "as_expected"
    """Passed or skipped, and no known issue said otherwise."""
    KNOWN = "known"
    """Failed as `known_issues.toml` says, with the same signature; or depends on such a cell."""
    REGRESSION = "regression"
    """Failed, and that is not listed, or is listed with another signature."""
    UNEXPECTED_PASS = "unexpected_pass"  # noqa: S105 - a verdict, no password
    """Passed, and is listed as failing."""
    FOLLOWS = "follows"
    """Blocked by a cell that is itself judged a regression or a fault."""
    YOURS = "yours"
    """Failed because of a key, a value or a file that the user gave; says nothing against the release."""
    UNDECIDED = "undecided"
    """Failed with a user's own input, and the same check of stock input did not run or ended in another way."""
    FAULT = "fault"
    """The harness or the machine is to blame: nothing was learned about the release."""


class Severity(StrEnum):
    """What a fault does to whoever trains with the release; the gravest first.

    A fault that needs a setting other than the recipe's (gradient accumulation, several processes, batches by length)
    is at most `wrong`, even where it stops the training: with the recipe the release can be trained.
    """

    BROKEN = "broken"
    """The model cannot be trained, or the result is not the model."""
    WRONG = "wrong"
    """The trainer trains something other than configured."""
    MINOR = "minor"
    """A deviation that does not change what is learned."""
