"""What the `checkpoint` check records of its trainings and of the files that they save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.evidence.common import CellEvidence
from harness.core.evidence.questions import Question


@dataclass(frozen=True, kw_only=True)
class RunFailure:
    """The exception that ended one of the check's trainings."""

    reason: str = ""
    """One sentence."""
    signature: str = ""
    type: str = ""
    message: str = ""
    status: str = ""
    frames: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One validation: figures of each batch."""

    losses: tuple[float | None, ...] = ()
    accuracies: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SavedFile:
    """A checkpoint that the trainer saved."""

    name: str
    after_forward: int = 0
    """Forward passes before it."""
    after_validation: int = 0
    """Validations before it; 0 for none."""
    differs: tuple[str, ...] | None = None
    """Tensors in the file that are not as they were in memory; None where it was not compared."""


@dataclass(frozen=True, kw_only=True)
class StoppedAt:
    """Where a training was stopped."""

    forwards: int = 0
    """Forward passes before the stop."""


@dataclass(frozen=True, kw_only=True)
class TrainerRun:
    """One run of the trainer. Lists of tensors hold the first names only."""

    batches: tuple[str, ...] = ()
    """Each batch by its hash."""
    losses: tuple[float | None, ...] = ()
    """Of each forward pass."""
    learning_rates: tuple[float | None, ...] = ()
    """Of each optimizer step."""
    validations: tuple[Validation, ...] = ()
    saved: tuple[SavedFile, ...] = ()
    failure: RunFailure | None = None
    left: StoppedAt | None = None
    """Of a resumed run: where the one before it was stopped."""
    said_of_averaging: tuple[str, ...] = ()
    """Lines of its log."""
    last_differs: tuple[str, ...] | None = None
    """Tensors that differ at the end from those of the uninterrupted run."""
    weights_differ: tuple[str, ...] | None = None
    """Tensors that differ after resuming from those at the stop."""
    moments_kept: int | None = None
    """Tensors in the optimizer's state at the stop."""
    moments_differ: tuple[str, ...] | None = None
    """Tensors of the optimizer's state that differ before its first step after resuming."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the release wrote down of its checkpoints' validations."""

    acc: Mapping[str, float | None] | None = None
    """By file."""
    loss: Mapping[str, float | None] | None = None
    criterion: Any = None
    """By what it ranks: `acc` or `loss`."""
    best: Any = None
    """The file that it takes for the best."""


@dataclass(frozen=True, kw_only=True)
class AveragedFile:
    """What an averaged checkpoint is the mean of."""

    members: tuple[tuple[str, ...], ...] = ()
    """Every set of checkpoints whose mean it is."""
    tensors: int = 0
    differs: tuple[str, ...] = ()
    """The first tensors, where it is the mean of no set."""
    missing: tuple[str, ...] = ()
    """Tensors of the checkpoints that it lacks."""


@dataclass(frozen=True, kw_only=True)
class SavedFiles:
    """The checkpoints in the uninterrupted run's output folder."""

    names: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """By file: the exception."""
    scores: Scores = Scores()
    averages: Mapping[str, AveragedFile] = field(default_factory=dict)
    same_as: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By file: the others with equal tensors."""
    failure: RunFailure | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOutTensor:
    """A tensor that was not loaded from a checkpoint of other dimensions."""

    name: str
    model: tuple[int, ...] = ()
    """Its shape in the model."""
    checkpoint: tuple[int, ...] | None = None
    """Its shape in the checkpoint; None where it is not there."""


@dataclass(frozen=True, kw_only=True)
class MismatchCase:
    """A training that starts from a checkpoint of other dimensions."""

    kind: str = ""
    """`vocabulary` or `width`."""
    ignore: bool | None = None
    """The value of `ignore_init_mismatch`."""
    began: bool = False
    """Whether the training began."""
    failure: RunFailure | None = None
    taken: int | None = None
    """Tensors that were loaded."""
    left_out: tuple[LeftOutTensor, ...] = ()
    lost: tuple[str, ...] = ()
    """Tensors that fit and were not loaded."""
    unsaid: tuple[str, ...] = ()
    """Tensors that were left out and that the log does not name."""
    line: str | None = None
    """The first line of the log that names one."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that was loaded for inference."""

    failure: RunFailure | None = None
    said: tuple[str, ...] = ()
    """Lines about errors or missing keys."""
    equals: tuple[str, ...] | None = None
    """Checkpoints that the model in memory equals, tensor by tensor; `the base` for the one before the training."""
    differs: tuple[str, ...] | None = None
    """The first tensors that are not those of `model.pt`."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Loading a fine-tuned model as its user does."""

    average: LoadedModel | None = None
    """The averaged checkpoint by its path."""
    folder: LoadedModel | None = None
    """The output folder."""
    bare: LoadedModel | None = None
    """The folder without configuration.json."""
    folder_has_configuration: bool | None = None
    """Whether the trainer writes a configuration.json."""


@dataclass(frozen=True, kw_only=True)
class CheckpointTrial:
    """A small training with an unusual setting."""

    began: bool | None = None
    steps: int | None = None
    differs_from_base: tuple[str, ...] | None = None
    failure: RunFailure | None = None
    said: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Checkpoints that it saved."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMetrics:
    """The runs of the check; None where a run was not made."""

    peak_resident_bytes: int | None = None
    whole: TrainerRun | None = None
    """The uninterrupted run."""
    again: TrainerRun | None = None
    """The same once more, on a GPU."""
    resumed: TrainerRun | None = None
    """Resumed between epochs."""
    within: TrainerRun | None = None
    """Resumed within an epoch."""
    recipe: TrainerRun | None = None
    """Uninterrupted, with batches as finetune.sh makes them, and one checkpoint kept."""
    recipe_files: tuple[str, ...] = ()
    """Checkpoints of that run."""
    once: TrainerRun | None = None
    """The recipe, resumed within an epoch."""
    twice: TrainerRun | None = None
    """The recipe, resumed a second time."""
    files: SavedFiles = SavedFiles()
    mismatch: tuple[MismatchCase, ...] = ()
    loading: Loading = Loading()
    trials: Mapping[str, CheckpointTrial] = field(default_factory=dict)
    """By name: `resume_in_train_conf`, `missing_init_param`, `no_rows`."""


@dataclass(frozen=True, kw_only=True)
class CheckpointEvidence(CellEvidence):
    """The check's questions."""

    questions: tuple[Question, ...] | None = None
    """Answered by `harness.rules.checkpoint`."""
