"""What the dry run's trainings gave, as `harness.worker.preflight.dry_run` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from harness.core.cells import Failure
from harness.core.evidence.training import LossCriterion, Targets


@dataclass(frozen=True, kw_only=True)
class FirstLoss:
    """The loss of the first training batch, before any step."""

    loss: float | None
    stats: Mapping[str, float | None]
    batch: str
    """Hash of its texts."""

    @property
    def main(self) -> float | None:
        """The loss of the text: the attention decoder's where there is one, else CTC's, else the whole."""
        return self.stats.get("loss_att") or self.stats.get("loss_ctc") or self.loss

    @property
    def by_token(self) -> bool:
        """Whether that is a loss for each token, as a guess of one token has; CTC's is for each row."""
        return bool(self.stats.get("loss_att")) or not self.stats.get("loss_ctc")


@dataclass(frozen=True, kw_only=True)
class RowRead:
    """A row as the release's index keeps it."""

    source: str = ""
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training."""

    first: FirstLoss | None
    failure: Failure | None
    status: str = ""
    """Of a failure: `failed`, `errored`, `out_of_memory`."""
    seconds: float = 0.0
    functions: tuple[str, ...] = ()
    """Of the traceback, the outermost first."""
    row: RowRead | None = None
    batch: tuple[RowRead, ...] = ()
    cut: bool = False
    """Whether its time was over before it ended."""
    steps: int = 0
    forwards: int = 0
    """Training forward passes."""
    losses: tuple[float | None, ...] = ()
    not_finite: int | None = None
    """The first step whose loss is no finite number, counted from 0."""
    learning_rates: tuple[float, ...] = ()
    step_seconds: tuple[float, ...] = ()
    peak_reserved_bytes: int | None = None
    """Of the GPU's memory, by torch's allocator; None on a CPU."""
    validations: int = 0
    saved: tuple[str, ...] = ()
    criterion: LossCriterion | None = None
    targets: Targets | None = None
    parameters: int = 0
    trainable: int = 0
    """Parameter tensors that require a gradient."""
    without_gradient: tuple[str, ...] = ()
    """Parts of the model none of whose parameters received one."""
    freeze_asked: Any = None
    frozen: int = 0
    frozen_but_trained: int = 0
    """Of those that `freeze_param` means: how many require a gradient."""
    from_checkpoint: int | None = None
    """Numbers of the model that began as in the checkpoint."""
    fresh: tuple[str, ...] = ()
    fresh_count: int = 0

    def went_through(self, name: str) -> bool:
        """Whether the exception came through a function of this name; earlier releases write `_validate_epoch`."""
        return any(function.strip("_") == name.strip("_") for function in self.functions)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read one training."""
        failure, fresh = data.get("failure"), data.get("fresh") or {}
        criterion, targets, row = data.get("criterion"), data.get("targets"), data.get("row")
        return cls(
            first=_first(data.get("first")),
            failure=Failure.from_json(failure) if failure else None,
            status=str(failure.get("status", "failed")) if failure else "",
            seconds=float(data.get("seconds", 0.0)),
            functions=tuple(data.get("functions", ())),
            row=RowRead(**row) if row else None,
            batch=tuple(RowRead(**record) for record in data.get("batch", ())),
            cut=bool(data.get("cut", False)),
            steps=int(data.get("steps", 0)),
            forwards=int(data.get("forwards", 0)),
            losses=tuple(map(_number, data.get("losses", ()))),
            not_finite=data.get("not_finite"),
            learning_rates=tuple(float(rate) for rate in data.get("learning_rates", ())),
            step_seconds=tuple(float(duration) for duration in data.get("step_seconds", ())),
            peak_reserved_bytes=data.get("peak_reserved_bytes"),
            validations=int(data.get("validations", 0)),
            saved=tuple(data.get("saved", ())),
            criterion=LossCriterion(**criterion) if criterion else None,
            targets=_targets(targets) if targets else None,
            parameters=int(data.get("parameters", 0)),
            trainable=int(data.get("trainable", 0)),
            without_gradient=tuple(data.get("without_gradient", ())),
            freeze_asked=data.get("freeze_asked"),
            frozen=int(data.get("frozen", 0)),
            frozen_but_trained=int(data.get("frozen_but_trained", 0)),
            from_checkpoint=data.get("from_checkpoint"),
            fresh=tuple(fresh.get("names", ())),
            fresh_count=int(fresh.get("count", 0)),
        )


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """All trainings."""

    training: Trained
    ended: tuple[Trained, ...] = ()
    """Earlier ones that one row each ended, which the later ones leave out."""
    whole: bool
    """Whether `training` was at the model's own depth."""
    start: Trained | None = None
    """Up to the first loss at the model's own depth, where `training` was shallower."""
    control: Trained | None = None
    """Up to the first loss, from freshly initialised weights."""
    elements: int | None = None
    """Numbers in the checkpoint."""
    norm_deviation: float | None = None
    """How far its norms' scales are from 1, where every model begins."""
    unreadable: str = field(default="")
    """Why the checkpoint cannot be read; then nothing was trained."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the answer."""
        start, control = data.get("start"), data.get("control")
        return cls(
            training=Trained.from_json(data.get("training", {})),
            ended=tuple(map(Trained.from_json, data.get("ended", ()))),
            whole=bool(data.get("whole", False)),
            start=Trained.from_json(start) if start else None,
            control=Trained.from_json(control) if control else None,
            elements=data.get("elements"),
            norm_deviation=data.get("norm_deviation"),
            unreadable=str(data.get("unreadable", "")),
        )

    @property
    def first(self) -> FirstLoss | None:
        """The first loss, at the model's own depth where it is known."""
        return self.start.first if self.start else self.training.first

    @property
    def random(self) -> FirstLoss | None:
        """The same from freshly initialised weights; None where the batches differ or the depths do."""
        control_loss, first = self.control.first if self.control else None, self.first
        return control_loss if control_loss and first and control_loss.batch == first.batch else None

    @property
    def at_depth(self) -> bool:
        """Whether the first losses are the whole model's."""
        return self.whole or (self.start is not None and self.start.first is not None)


def _first(data: Mapping[str, Any] | None) -> FirstLoss | None:
    if not data:
        return None
    stats = {str(name): _number(value) for name, value in (data.get("stats") or {}).items()}
    return FirstLoss(loss=_number(data.get("loss")), stats=stats, batch=str(data.get("batch", "")))


def _targets(data: Mapping[str, Any]) -> Targets:
    return Targets(
        rows=tuple(tuple(row) for row in data.get("rows", ())),
        steps=tuple(tuple(tuple(batch) for batch in step) for step in data.get("steps", ())),
    )


def _number(value: Any) -> float | None:
    """A number; strict JSON has texts for those that are not finite."""
    return None if value is None else float(value)
