"""The records that pass between the parts of the harness.

Everything that crosses a module's border is one of these, or a record of that module's own.
They are frozen, so an outcome that was written to disk cannot drift from the one in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

SCHEMA = 1
"""Version of the format of an outcome on disk."""


class Check(StrEnum):
    """One question; the members stand in the order of the ladder, lowest first."""

    IMPORT = "import"
    CONSTRUCT = "construct"
    LOSS_CONTRACT = "loss_contract"
    PROPERTIES = "properties"
    DATA = "data"
    FINETUNE = "finetune"
    CHECKPOINT = "checkpoint"
    DECODE = "decode"

    @property
    def rung(self) -> int:
        """Place on the ladder, 0 at the bottom; a rung stands on those below it that bear."""
        return list(Check).index(self)

    @property
    def bears(self) -> bool:
        """Whether the rungs above are blocked when this one fails.

        A model can be trained with a broken property, or on data that is not what the user gave, and what it learned
        can be asked although a training that was interrupted does not resume; that is the trouble with such faults.
        """
        return self not in (Check.PROPERTIES, Check.DATA, Check.CHECKPOINT)

    @property
    def through_trainer(self) -> bool:
        """Whether its cells name an entry point: it is about what one of the release's trainers does."""
        return self in (Check.DATA, Check.FINETUNE, Check.CHECKPOINT, Check.DECODE)


class Entry(StrEnum):
    """The module under `funasr.bin` whose trainer a cell is about."""

    TRAIN = "train"
    TRAIN_DS = "train_ds"


class Scale(StrEnum):
    """How deep the model is."""

    PUBLISHED = "published"
    SLIM = "slim"


class Device(StrEnum):
    """Where the tensors live."""

    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """The precision that the trainer is asked for."""

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
class Shape:
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
            raise ValueError(f"not a shape: {text!r} (expected the form v8404-h320)")
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
    """release × variant × shape × scale × check × device × precision.

    The `import` check asks about the release alone: its variant, shape and scale are None.
    A cell of `data`, `finetune`, `checkpoint` or `decode` names the trainer's entry point besides.
    """

    release: str
    variant: str | None
    shape: Shape | None
    scale: Scale | None
    check: Check
    entry: Entry | None
    device: Device
    precision: Precision

    @property
    def id(self) -> str:
        """The only name the cell has, anywhere: `1.4.16/paraformer/v8404-h320/slim/finetune@train/cpu-fp32`."""
        return "/".join(
            (
                self.release,
                self.variant or "-",
                str(self.shape) if self.shape else "-",
                self.scale or "-",
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
        release, variant, shape, scale, check, place = parts
        name, _, entry = check.partition("@")
        device, _, precision = place.partition("-")
        try:
            return cls(
                release=release,
                variant=None if variant == "-" else variant,
                shape=None if shape == "-" else Shape.parse(shape),
                scale=None if scale == "-" else Scale(scale),
                check=Check(name),
                entry=Entry(entry) if entry else None,
                device=Device(device),
                precision=Precision(precision),
            )
        except ValueError as error:
            raise ValueError(f"not a cell id: {text!r} ({error})") from None

    def stands_on(self, other: Cell) -> bool:
        """Whether `other` is a rung below this cell on the same ladder."""
        if self.release != other.release or other.check.rung >= self.check.rung or not other.check.bears:
            return False
        if self.entry and other.entry and self.entry is not other.entry:
            return False
        if other.check is Check.IMPORT:
            return True
        return (other.variant, other.shape, other.scale, other.device, other.precision) == (
            self.variant,
            self.shape,
            self.scale,
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
    adaptations: tuple[str, ...] = ()
    """The named changes that this cell really made use of."""
    seconds: float = 0.0
    started: str = ""
    """UTC, ISO 8601, to the second."""

    def to_json(self) -> dict[str, Any]:
        """The outcome as the store writes it: a JSON object of the design's form."""
        cell = self.cell
        return {
            "schema": SCHEMA,
            "id": cell.id,
            "cell": {
                "release": cell.release,
                "variant": cell.variant,
                "vocab_size": cell.shape.vocab_size if cell.shape else None,
                "hidden_size": cell.shape.hidden_size if cell.shape else None,
                "scale": cell.scale,
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
            "adaptations": list(self.adaptations),
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
        if data["schema"] != SCHEMA:
            raise ValueError(f"outcome of schema {data['schema']}, this harness reads {SCHEMA}")
        return cls(
            cell=Cell.parse(data["id"]),
            status=Status(data["status"]),
            reason=data["reason"],
            failure=Failure.from_json(data["failure"]) if data["failure"] else None,
            metrics=data["metrics"],
            evidence=data["evidence"],
            adaptations=tuple(data["adaptations"]),
            seconds=data["seconds"],
            started=data["started"],
        )


class Verdict(StrEnum):
    """An outcome held against what was expected of it."""

    AS_EXPECTED = "as_expected"
    """Passed or skipped, and no known issue said otherwise."""
    KNOWN = "known"
    """Failed as `known_issues.toml` says, with the same signature; or stands on such a cell."""
    REGRESSION = "regression"
    """Failed, and that is not listed, or is listed with another signature."""
    UNEXPECTED_PASS = "unexpected_pass"  # noqa: S105 - a verdict, no password
    """Passed, and is listed as failing."""
    FOLLOWS = "follows"
    """Blocked by a cell that is itself judged a regression or a fault."""
    YOURS = "yours"
    """Failed because of a key, a value or a file that the user gave; says nothing against the release."""
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
