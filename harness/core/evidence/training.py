"""What the `finetune` check records of its trainings.

Lists over steps have one entry for each optimizer step, in order. None stands for what was not observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from harness.core.evidence.common import CellEvidence
from harness.core.evidence.verdicts import Convergence, TrainingVerdict


class Absent(Enum):
    """Stands for a key that a record does not have, where None means that the figure could not be computed."""

    ABSENT = "absent"


Figure = float | None | Literal[Absent.ABSENT]
"""A figure that was not requested (`ABSENT`), could not be computed (None), or is known."""


@dataclass(frozen=True, kw_only=True)
class LossCriterion:
    """How the label-smoothing loss was built."""

    classes: int
    """Size of the vocabulary."""
    smoothing: float
    normalize_length: bool = False
    """Whether the sum is divided by the number of tokens; else by the number of utterances."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The utterances of each optimizer step's forward passes."""

    rows: tuple[tuple[int, ...], ...] = ()
    """Token ids of each distinct utterance."""
    frames: tuple[int | None, ...] | None = None
    """Length of each row's speech in stacked frames."""
    steps: tuple[tuple[tuple[int, ...], ...], ...] = ()
    """`[step][forward pass]`: numbers of rows."""
    right: tuple[tuple[tuple[str, ...] | None, ...], ...] | None = None
    """As `steps`: for each row, which tokens the first pass got right, such as `0110`."""


@dataclass(frozen=True, kw_only=True)
class ModeScores:
    """Scores of each text with different speech, in one mode of the model. `[text][part]`."""

    own: tuple[tuple[float, ...], ...] = ()
    """With the text's own speech."""
    others: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """With the speech of other utterances: one list of texts for each shift."""
    silence: tuple[tuple[float, ...], ...] = ()
    raised: str = ""
    """Signature of the exception that ended the forward pass."""


@dataclass(frozen=True, kw_only=True)
class HearingScores:
    """What a trained model makes of its texts with their own speech, with other speech and with silence."""

    not_observed: str = ""
    """Why nothing was compared."""
    of: str = ""
    """`held_out` or `training`: which utterances."""
    score: str = ""
    """`tokens`: right tokens of the decoder's first pass; `loss`: the negative loss."""
    first_pass: bool = True
    """Whether the model was shown none of the right tokens."""
    tokens: tuple[tuple[float, ...], ...] = ()
    """`[text][part]`: tokens in each half of each text."""
    modes: Mapping[str, ModeScores] = field(default_factory=dict)
    """By `evaluation` and `training`."""


@dataclass(frozen=True, kw_only=True)
class SeedTraining:
    """One seed's training."""

    seed: int | None = None
    losses: tuple[float | None, ...] = ()
    """Mean loss of each step."""
    epoch_losses: tuple[float | None, ...] = ()
    """Mean loss of each epoch."""
    steps_of_epochs: tuple[int, ...] = ()
    """Optimizer steps of each epoch."""
    stats: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Statistics that the model returns, by name, over steps."""
    accuracy_recomputed: tuple[float | None, ...] = ()
    """Share of right tokens of the first pass, counted by the harness; over steps."""
    targets: Targets | None = None
    criterion: LossCriterion | None = None
    hearing: HearingScores | None = None


@dataclass(frozen=True, kw_only=True)
class LargestBatch:
    """The batch with the most padded frames."""

    utterances: int
    frames: int
    """Of the longest utterance."""
    tokens: int
    """Of the longest text."""


@dataclass(frozen=True, kw_only=True)
class MemoryPartsRecord:
    """What a training's memory consists of, in bytes."""

    weights: int | None = None
    gradients: int | None = None
    optimizer_state: int | None = None
    activations: int | None = None
    workspace_and_fragmentation: int | None = None
    context: int | None = None
    """Held on the GPU outside of torch's allocator."""


@dataclass(frozen=True, kw_only=True)
class MemoryPeak:
    """Where most memory was allocated on a GPU."""

    step: int | None = None
    """From 0."""
    phase: str = ""
    allocated: int | None = None
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class UtilisationRecord:
    """How busy the GPU was."""

    mean: float | None = None
    """0 to 1."""
    samples: int = 0
    told: str = ""
    """`measured`, or why it was not."""


@dataclass(frozen=True, kw_only=True)
class OutOfMemory:
    """The moment at which memory ran out; bytes."""

    requested_bytes: int | None = None
    capacity_bytes: int | None = None
    free_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    resident_bytes: int | None = None
    phase: str | None = None
    """Phase of the step in which it ran out."""
    step: int | None = None
    """From 0."""
    largest_phase: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceUse:
    """What the driver says of the GPU."""

    used_told: str = ""
    """`measured`, or why the process's own memory is not known."""
    kind: str | None = None
    """`GPU`, or `MIG` for a partition."""
    at_start: Mapping[str, int | None] = field(default_factory=dict)
    """`used_bytes` and `other_processes` before the first tensor."""
    clean_at_start: bool | None = None
    """Whether no other process used it."""
    allocator: Mapping[str, int | None] = field(default_factory=dict)
    """`allocated_bytes`, `reserved_bytes`, `out_of_memory` and `retries` at the end."""


@dataclass(frozen=True, kw_only=True)
class GradientNorm:
    """The gradient before one optimizer step."""

    step: int
    """From 0."""
    norm: float | None = None
    """L2 norm over all parameters, as the optimizer received it."""
    found_by_clipping: float | None = None
    """The norm that clipping returned; None where nothing was clipped."""


@dataclass(frozen=True, kw_only=True)
class SettingInForce:
    """A setting whose value in force differs from the configured one."""

    key: str
    """Dotted path."""
    asked: Any = None
    """By command line and model folder."""
    in_force: Any = None


@dataclass(frozen=True, kw_only=True)
class UnfilledTensors:
    """What of the model has no tensor of its name and shape in the user's weights: it starts from new values."""

    count: int = 0
    of: int = 0
    """Parameters and running statistics of the model."""
    names: tuple[str, ...] = ()
    """The first of them."""


@dataclass(frozen=True, kw_only=True)
class InvariantObservations:
    """What the trainer's invariants are checked with. Settings are the configuration's: of any type."""

    learning_rate: Any = None
    """Peak of the schedule."""
    warmup_steps: Any = None
    """None where the schedule is not WarmupLR."""
    gradient_clip: Any = None
    trainable_parameters: int | None = None
    trainable_bytes: int | None = None
    without_gradient: tuple[str, ...] | None = None
    """Trainable parameters that never received a gradient."""
    not_in_optimizer: tuple[str, ...] | None = None
    """Trainable parameters that the optimizer does not have."""
    not_from_checkpoint: tuple[str, ...] | None = None
    """Parameters that did not start from the checkpoint."""
    start_missing: str = ""
    """What is wrong with the checkpoint that the configuration names."""
    not_in_users_weights: UnfilledTensors | None = None
    """Of a training that starts from a user's own weights."""
    norms_before_steps: tuple[GradientNorm, ...] = ()
    """Of some steps."""
    steps_begun_with_gradients: tuple[int, ...] | None = None
    """Steps, from 0, that began with gradients of the step before."""
    log_lines: int | None = None
    """Lines of a training step in the trainer's log."""
    log_differences: Mapping[str, float | None] = field(default_factory=dict)
    """By statistic: the largest difference between the log and what the model returned."""
    idle_seconds: tuple[float | None, ...] = ()
    """Seconds of each step in which the process waited; empty on a GPU."""
    running_seconds: tuple[float | None, ...] = ()
    """Seconds of each step in which it ran."""
    epochs_numbered: bool | None = None
    """Whether epochs are counted by the trainer's own number; else by its validations."""
    forwards: int | None = None
    """Forward passes in training mode."""
    loss_difference: float | None = None
    """Largest relative difference between the statistic `loss` and the returned loss."""
    listed: tuple[int, ...] = ()
    """How often each utterance that has to arrive is listed."""
    listed_optional: tuple[int, ...] = ()
    """The same of utterances that a limit may leave out."""
    rows_beyond_limits: tuple[str, ...] = ()
    """Limits that leave out rows, with figures."""
    configuration: tuple[SettingInForce, ...] = ()
    configuration_source: str | None = None
    """Where the configuration in force was read; None where it was not found."""


@dataclass(frozen=True, kw_only=True)
class ConfigInForce:
    """The configuration that the trainer worked with; settings may be of any type."""

    source: str = ""
    """Where it was read."""
    optim: Any = "adam"
    scheduler: Any = "warmuplr"
    dataset: Any = None
    freeze_param: Any = None
    init_param: Any = None
    lora_only: Any = None
    lora_bias: Any = None
    ignore_init_mismatch: Any = None
    excludes: Any = None
    scope_map: Any = None
    optim_conf: Any = None
    scheduler_conf: Any = None
    train_conf: Any = None
    dataset_conf: Any = None
    max_epoch: Any = None
    accum_grad: Any = None
    grad_clip: Any = None
    grad_clip_type: Any = None
    use_fp16: Any = None
    use_bf16: Any = None
    frozen: int | None = None
    """Parameters that the configuration freezes."""
    frozen_groups: tuple[str, ...] = ()
    """Groups of which all parameters are frozen."""
    frozen_names: tuple[str, ...] = ()
    """The first of the frozen parameters."""
    frozen_but_moved: tuple[str, ...] = ()
    """Frozen parameters that changed."""
    not_trainable_besides: tuple[str, ...] = ()
    """Other parameters that require no gradient."""
    hotwords_alone: bool = False
    """Whether the loss is over hotwords alone and not over the texts: SeACo's `train_decoder: false`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The matrix's own recipe, for which the conditions of learning were measured."""

    learning_rate: float | None = None
    warmup_steps: float | None = None
    steps: int | None = None
    """Optimizer steps."""


@dataclass(frozen=True, kw_only=True)
class Accumulation:
    """The gradient accumulated over several batches, compared with the mean of theirs."""

    batches: int | None = None
    utterances: int | None = None
    failure: str = ""
    """Signature of the exception that ended the training."""
    norm_of_mean: float | None = None
    norm_at_once: float | None = None
    """Of one batch that holds all utterances; recorded by earlier versions in place of `norm_of_mean`."""
    norm_accumulated: float | None = None
    relative_difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class RankLosses:
    """Losses of each step."""

    single: tuple[float | None, ...] = ()
    """Of a single process."""
    again: tuple[float | None, ...] = ()
    """Of a second, equal training of a single process, on a GPU."""
    ranks: tuple[tuple[float | None, ...], ...] = ()
    """Of each rank."""


@dataclass(frozen=True, kw_only=True)
class RanksTraining:
    """A training with two processes. Differences are relative, over all weights."""

    failure: str = ""
    """Signature of the exception that ended it."""
    ranks_ended: int | None = None
    """Processes that came to the end."""
    rows_differ: bool | None = None
    """Whether the ranks received different rows."""
    between_ranks: Figure = Absent.ABSENT
    """Between the weights of the ranks."""
    from_single: Figure = Absent.ABSENT
    """Between rank 0 and a single process."""
    gradients_from_single: Figure = Absent.ABSENT
    """Largest difference of a step's gradient norm from that of a single process."""
    noise: float | None = None
    """Between the weights of two equal trainings of a single process."""
    gradient_noise: float | None = None
    """Between their gradient norms."""
    losses: RankLosses | None = None


@dataclass(frozen=True, kw_only=True)
class MissedRow:
    """A row that reached training less often than there were epochs."""

    line: int
    times: int


@dataclass(frozen=True, kw_only=True)
class ReceivedRows:
    """What of a user's rows reached training."""

    sha256: str = ""
    """Of the file that the trainer was given."""
    listed: int | None = None
    expected: int | None = None
    """Rows that the release's own limits allow."""
    arrived: int | None = None
    missed: tuple[MissedRow, ...] = ()
    """The first of them."""
    missed_count: int | None = None
    unforeseen: tuple[int, ...] = ()
    """Lines that arrived though a limit was to leave them out."""


@dataclass(frozen=True, kw_only=True)
class TrainingMetrics:
    """Figures of a fine-tuning, of the first seed's training where there are several."""

    steps: int | None = None
    """Optimizer steps that were taken."""
    steps_asked: int | None = None
    steps_expected: int | None = None
    """By the configuration in force."""
    steps_expected_least: int | None = None
    """The fewest that are right too."""
    steps_unknown: str = ""
    """Why the expected number is not known."""
    epochs_end_within_steps: bool | None = None
    """Whether an epoch's last batches count for the next epoch's first step."""
    epochs: int | None = None
    epochs_asked: int | None = None
    epochs_expected: int | None = None
    losses: tuple[float | None, ...] = ()
    """Mean loss of each step."""
    epoch_losses: tuple[float | None, ...] = ()
    steps_of_epochs: tuple[int, ...] = ()
    """Optimizer steps of each epoch."""
    stats: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Statistics that the model returns, by name, over steps."""
    accuracy_recomputed: tuple[float | None, ...] = ()
    targets: Targets | None = None
    criterion: LossCriterion | None = None
    gradient_norms: tuple[float | None, ...] = ()
    """As clipping returned them."""
    learning_rates: tuple[float | None, ...] = ()
    step_seconds: tuple[float | None, ...] = ()
    largest_batch: LargestBatch | None = None
    held_bytes: tuple[int | None, ...] = ()
    """After each step: of the process, or on the GPU."""
    samples_per_second: float | None = None
    audio_seconds_per_second: float | None = None
    groups: tuple[str, ...] = ()
    """The architecture's groups of parameters."""
    relative_change_by_group: Mapping[str, float | None] = field(default_factory=dict)
    """Norm of the change over the norm at the start."""
    warmup_steps: int | None = None
    """Steps that the summaries of time leave out."""
    phase_clock: str = ""
    phase_seconds: Mapping[str, tuple[float | None, ...] | None] | None = None
    """By phase, over steps."""
    memory_parts: MemoryPartsRecord | None = None
    memory_peak: MemoryPeak | None = None
    peak_allocated_by_step: tuple[int | None, ...] | None = None
    peak_allocated_by_phase: Mapping[str, tuple[int | None, ...]] | None = None
    utilisation: UtilisationRecord | None = None
    peak_resident_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    peak_used_bytes: int | None = None
    """By the driver."""
    device: DeviceUse | None = None
    out_of_memory: OutOfMemory | None = None
    predicted_allocated_bytes: int | None = None
    predicted_reserved_bytes: int | None = None
    invariants: InvariantObservations = InvariantObservations()
    config_in_force: ConfigInForce | None = None
    recipe: Recipe | None = None
    hearing: HearingScores | None = None
    user_rows: ReceivedRows | None = None
    trainings: tuple[SeedTraining, ...] = ()
    """Of each seed."""
    accumulation: Accumulation | None = None
    ranks: Mapping[str, RanksTraining | str] = field(default_factory=dict)
    """By the name of the training; under `not_measured` why there was none."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """The same training without the user's settings."""

    failure: str | None = None
    """Signature of its failure; None where it takes its first step."""
    finite: bool | None = None
    """Whether all its losses are those of a training; None where it was ended after its first step."""


@dataclass(frozen=True, kw_only=True)
class TrainingEvidence(CellEvidence):
    """What a fine-tuning showed."""

    parameters_unchanged: tuple[str, ...] = ()
    """The first parameters that did not change at all."""
    saved: tuple[str, ...] = ()
    """Checkpoints in the output folder."""
    control: Control | None = None
    """Of a training with a user's settings that failed before its first step."""
    training: TrainingVerdict | None = None
    """The verdict of `harness.rules.training`."""
    convergence: Convergence | None = None
    """The comparison of `harness.rules.convergence`."""
