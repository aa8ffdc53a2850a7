"""What the observers write, one JSON object a line, in one file for each process that trains.

The observers (`harness.worker.watch`) run in the user's own interpreter and import nothing of the harness, so they
write plain dictionaries; this module is their schema. `kind` names the record, `at` is `time.time()`.
Numbers that JSON does not have are the strings "nan", "inf" and "-inf".
Losses may reach the file some steps late: a GPU is never made to wait for a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
"""Of the files; a file of another format is refused."""

Number = float
"""In the file a number, or "nan", "inf", "-inf" in its place."""


@dataclass(frozen=True, kw_only=True)
class ProcessStarted:
    """`process`: the first record of each file: a process has imported a trainer of FunASR's, or called `watch`."""

    at: float
    format: int
    host: str
    pid: int
    parent: int
    rank: int
    """0 without torchrun."""
    local_rank: int
    world_size: int
    argv: tuple[str, ...]
    working_directory: str
    python: str
    torch: str
    funasr: str | None
    """Its version by metadata or `funasr/version.txt`; None where no FunASR is used."""
    funasr_folder: str | None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The parameters of one part of the model: its first name, such as `encoder`."""

    name: str
    parameters: int
    trainable: int


@dataclass(frozen=True, kw_only=True)
class TrainingStarted:
    """`training`: written at the first training forward pass."""

    at: float
    trainer: str
    """`module.Class` of the trainer; empty for a loop of the user's own."""
    entry: str
    """Module or file of the program, such as `funasr/bin/train_ds.py`."""
    model: str
    """Class of the model."""
    device: str
    """`cpu`, `cuda:0`."""
    wrapped: str
    """`DistributedDataParallel`, `FullyShardedDataParallel`, `DeepSpeedEngine`, or empty."""
    in_force: Mapping[str, Any]
    """The configuration, as `harness.worker.trainer.in_force.InForce.to_dict`: the trainer's own where it was found."""
    output_dir: str
    batches: int | None
    """Of this rank in an epoch: the loader's length."""
    rows: int | None
    """Of the data set after its filters, in all ranks; None where it cannot be seen."""
    first_epoch: int
    """Where a training resumes this is not the first."""
    groups: tuple[Group, ...]
    optimizer: str
    scheduler: str
    label_smoothing: float | None
    """Of the model's label-smoothing loss; None where it has none."""
    normalize_length: bool | None
    """Whether that loss is divided by the number of tokens; else by the number of utterances."""
    vocabulary: int | None
    """Size of the model's output, by its own attribute."""
    initialised_from: str
    """`init_param` in force; empty where there is none."""


@dataclass(frozen=True, kw_only=True)
class TrainingForward:
    """One training forward pass."""

    loss: Number | None
    """As returned; with accumulation the trainer divides it later."""
    stats: Mapping[str, Number | None]
    """Scalars that the model returned with it: `loss_att`, `acc`, …"""
    utterances: int
    frames: int
    """Stacked frames of the longest utterance: the padded length."""
    tokens: int
    """Of the longest text: the padded length."""
    frames_used: int | None
    """Sum over the utterances, without padding."""
    tokens_used: int | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the end of a step."""

    resident: int | None
    """Of the process, in main memory."""
    allocated: int | None = None
    """By tensors, on this rank's GPU; None without one."""
    reserved: int | None = None
    """By torch's allocator."""
    peak_allocated: int | None = None
    """Since the process started or the trainer reset it; the observers never reset it."""
    peak_reserved: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """`step`: one optimizer step, or one that was left out for gradients that are not finite."""

    at: float
    step: int
    """Counted from 1 in this process."""
    epoch: int
    """The trainer's own number."""
    skipped: bool
    """Whether the optimizer's step was left out: by the gradient scaler, or by the trainer after clipping gave a norm
    that is not finite (the next training pass begins, and no step was taken since the clipping)."""
    forwards: tuple[TrainingForward, ...]
    learning_rates: tuple[float, ...]
    """Of each group of parameters, as this step used them."""
    gradient_norm: Number | None
    """From before clipping, as the trainer's own clipping returned it; None if it does not clip."""
    clipped_at: float | None
    """The bound that the trainer handed to the clipping."""
    scale: float | None
    """Of the gradient scaler; None without one."""
    seconds: Mapping[str, float]
    """By phase: `data` (waiting for the loader), `forward`, `backward`, `optimizer`, `validation`, `checkpoint` (which
    lie between two steps and are none of their work), `other`, `observers`. They add up to the time since the last
    step's record."""
    memory: Memory
    unigram: float | None
    """The loss, in nats per token, of the best prediction that does not look at the input, for all texts trained on so
    far, with the smoothing and the classes of the model's own criterion (formula: `harness/rules/unigram.py`; without a
    label-smoothing loss the entropy of the tokens); None where the texts are not token ids."""
    tokens_seen: int
    """Tokens that `unigram` rests on."""


@dataclass(frozen=True, kw_only=True)
class Validated:
    """`validation`: the trainer's evaluation passes between two training passes."""

    at: float
    step: int
    epoch: int
    batches: int
    loss: Number | None
    """Mean of the passes."""
    stats: Mapping[str, Number | None]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Saved:
    """`checkpoint`: a file that the trainer saved with `torch.save`."""

    at: float
    step: int
    epoch: int
    path: str
    bytes: int
    seconds: float
    tensors: int | None
    """Of the model, in the file; None for a file without weights."""
    missing: tuple[str, ...]
    """Tensors of the model in memory that the file lacks (the first 20)."""
    other_values: tuple[str, ...]
    """Tensors whose saved values differ from those in memory at that moment (the first 20)."""
    averaged: bool = False
    """Whether FunASR's averaging of checkpoints wrote it: its values are meant to be others and were not compared."""


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """`epoch`: the trainer has finished an epoch's training batches in this rank."""

    at: float
    epoch: int
    step: int
    batches: int
    utterances: int
    distinct: int | None
    """Different utterances, by key or by content; None where they cannot be distinguished."""
    batches_without_step: int = 0
    """The last batches of the epoch, too few to be accumulated to a step: trainers clear their gradients."""


@dataclass(frozen=True, kw_only=True)
class ReadBack:
    """`read_back`: at the end, the last saved model file, loaded again and compared with the weights in memory."""

    at: float
    path: str
    tensors: int
    equal: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    moved: Mapping[str, float]
    """By group, the share of its tensors that differ from their value at the first forward pass."""
    skipped: str = ""
    """Why the file was not compared, or not to its end; empty if it was."""


@dataclass(frozen=True, kw_only=True)
class BatchUtterance:
    """One utterance of a batch."""

    key: str
    frames: int | None
    tokens: int | None


@dataclass(frozen=True, kw_only=True)
class PostMortem:
    """What is known of the moment at which a training ended by an exception."""

    phase: str
    batch: tuple[BatchUtterance, ...] = ()
    padded_frames: int | None = None
    """utterances × longest; `batch` has the lengths without padding."""
    weights: int | None = None
    """Bytes, as are the following ones."""
    gradients: int | None = None
    optimizer_state: int | None = None
    other: int | None = None
    """Allocated and none of these: activations, buffers of kernels."""
    allocated: int | None = None
    reserved: int | None = None
    peak_allocated: int | None = None
    card: int | None = None
    """Total memory of the GPU."""
    wanted: int | None = None
    """Bytes that the refused allocation requested, by torch's message."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """`end`: the process ends. A file without it belongs to a process that was killed, or runs."""

    at: float
    step: int
    epoch: int
    how: str
    """`finished`, `exception`, `exit`, `signal` (SIGTERM or Ctrl-C), `crash` (native code aborted the process)."""
    status: int | None
    """As far as the process knows it; None where nothing called `sys.exit` and no exception ended it."""
    exception: str
    """`module.Class: message`, at most 2,000 characters; empty without one."""
    traceback: tuple[str, ...] = ()
    """The last 40 lines."""
    post_mortem: PostMortem | None = None
    batches: int | None = None
    """Training batches that were begun in an epoch that had not ended; None without one."""


@dataclass(frozen=True, kw_only=True)
class LoaderEnded:
    """`loader`: of several processes, this one has no further training batch in the epoch."""

    at: float
    epoch: int
    step: int
    batches: int
    """Of the epoch so far."""


@dataclass(frozen=True, kw_only=True)
class ObserverFailed:
    """`observer`: an observer failed and was taken out; the training goes on without it."""

    at: float
    observer: str
    """What is no longer recorded."""
    error: str


@dataclass(frozen=True, kw_only=True)
class CardSample:
    """`card`: written by the watching process, from NVML."""

    at: float
    index: int
    name: str
    total: int
    used: int
    by_process: Mapping[str, int] = field(default_factory=dict)
    """Bytes by process id."""
    utilisation: int | None = None
    """Percent."""


Record = (
    ProcessStarted
    | TrainingStarted
    | TrainingStep
    | Validated
    | Saved
    | EpochEnded
    | ReadBack
    | Ended
    | LoaderEnded
    | ObserverFailed
    | CardSample
)

KINDS: Mapping[str, type[Record]] = {
    "process": ProcessStarted,
    "training": TrainingStarted,
    "step": TrainingStep,
    "validation": Validated,
    "checkpoint": Saved,
    "epoch": EpochEnded,
    "read_back": ReadBack,
    "end": Ended,
    "loader": LoaderEnded,
    "observer": ObserverFailed,
    "card": CardSample,
}
