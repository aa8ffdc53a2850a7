"""A planted fault as data: what is changed in a copy of a sound release, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from harness.core.cells import Check, Entry, Severity, Status

SOUND = "1.4.16"
"""The release that the faults are planted in."""


class Family(StrEnum):
    """What kind of fault it is; every member has at least one fault."""

    LOSS_SIZE = "loss built for the wrong size"
    HIDDEN_STATES = "hidden states into the loss"
    DECODER_ARGUMENTS = "arguments of the decoder swapped"
    OUTPUT_LAYER = "output layer missing, untied, transposed or shared"
    PADDING_INDEX = "wrong padding index"
    PADDING_COUNTED = "padding counted"
    SMOOTHING = "wrong smoothing mass"
    NORMALISER = "wrong normaliser"
    DETACHED = "detached loss"
    FROZEN = "frozen or unregistered submodule"
    PREDICTOR_LOSS = "predictor loss dropped or scaled away"
    CIF_COUNT = "CIF count off by one"
    MASK = "mask inverted"
    CHUNK_MASK = "chunk mask leaking the future"
    SAMPLER = "sampler that reads the targets through"
    LEARNING_RATE = "learning rate 0"
    STEP_SKIPPED = "optimizer step skipped"
    NOT_CLEARED = "gradients not cleared"
    CLIPPING = "clipping to zero"
    NAN = "NaN at step k"
    SCHEDULER = "scheduler stuck"
    REPEATS = "batches that repeat"
    WRONG_ROW = "data of the wrong row"
    RESUME = "resume that forgets"
    AVERAGE = "average that averages nothing"
    CHECKPOINT = "checkpoint without a tensor"
    MEMORY = "memory that grows per step"
    SLEEPS = "a step that sleeps"
    RETURNS = "a trainer that returns at once"
    INVENTED = "a trainer that logs what it did not compute"
    NO_CELLS = "zero cells collected"
    LABELS = "labels outside the vocabulary accepted"
    MODES = "training and evaluation, or two builds, differ"
    BATCH = "utterances of a batch leak into each other"
    FEATURES = "features not as configured"
    INFERENCE = "inference that is not the trained model's"
    HEARING = "speech that is not heard"
    START = "a start that is not the checkpoint's"
    SETTINGS = "a setting other than the default that is not kept"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One change of text in the copy."""

    files: tuple[str, ...]
    """Relative to the package `funasr`; the same change in each, for what a release ships twice."""
    old: str
    """Stands in each file exactly once; with `below`, the first one after it is meant."""
    new: str
    below: str = ""
    """Text that stands in each file exactly once."""


BY_RUNG: Mapping[Check, Severity] = MappingProxyType(
    {
        # Nothing can be trained, or what is decoded is not what was trained.
        Check.CONSTRUCT: Severity.BROKEN,
        Check.LOSS_CONTRACT: Severity.BROKEN,
        Check.DECODE: Severity.BROKEN,
        # It trains, and something is not as configured.
        Check.PROPERTIES: Severity.WRONG,
        Check.DATA: Severity.WRONG,
        Check.FINETUNE: Severity.WRONG,
        Check.CHECKPOINT: Severity.WRONG,
    }
)
"""How grave a fault is that is first seen there, where it does not say so itself."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What must come of a fault."""

    check: Check | None
    """The lowest check that must see it; None when the command line itself must refuse."""
    status: Status = Status.FAILED
    signature: str = "*"
    """A glob that the failure's signature must match; `*` where the finding has no one name."""
    severity: Severity | None = None
    """How grave it must be called; None where the check says it (`BY_RUNG`)."""
    or_graver: bool = False
    """Whether it may be called graver: where the fault may keep a short training from learning, or shows in several
    properties."""

    def accepts(self, severity: Severity | None) -> bool:
        """Whether this is the right severity; what the command line refuses and what is skipped has none."""
        if self.check is None or self.status is Status.SKIPPED or severity is None:
            return severity is None and (self.check is None or self.status is Status.SKIPPED)
        right, gravest_first = self.severity or BY_RUNG[self.check], list(Severity)
        if self.or_graver or self.check is Check.PROPERTIES:
            return gravest_first.index(severity) <= gravest_first.index(right)
        return severity is right


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, planted alone."""

    name: str
    """Unique; part of cell ids, so of small letters, digits and hyphens."""
    family: Family
    title: str
    """What is wrong, as a sentence that could stand in a report."""
    edits: tuple[Edit, ...] = ()
    command: tuple[str, ...] = ()
    """For a fault of the harness's use: the command line, in place of edits; it must not end with 0."""
    expected: Expected
    variant: str = "paraformer_streaming"
    entry: Entry = Entry.TRAIN_DS
    """Through which of the release's trainers the later checks `properties` go."""
    configuration: str = ""
    """The one of `configurations.CONFIGURATIONS` that its cells have; empty for the variant as it is."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is changed, once, in the order of the edits."""
        return tuple(dict.fromkeys(file for edit in self.edits for file in edit.files))

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks to run: the expected one, and those below that could see it or cost nothing.

        `properties` of code that is not the model's, and `data` of code that is not the datasets', would answer
        for the sound release once more.
        """
        highest = self.expected.check
        if highest is None:
            return ()
        touched = {file.partition("/")[0] for file in self.files}
        needed = {Check.CONSTRUCT, Check.LOSS_CONTRACT, highest}
        if touched & {"models", "losses", "metrics"}:
            needed.add(Check.PROPERTIES)
        if touched & {"datasets", "frontends", "tokenizer"}:
            needed.add(Check.DATA)
        # What resumes was trained before. Decoding trains for itself, and wide models that train thrice take long.
        needed |= {Check.FINETUNE} if highest is Check.CHECKPOINT else set()
        return tuple(check for check in Check if check in needed and check.position <= highest.position)
