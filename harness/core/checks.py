"""The checks: one entry here and one module that measures is all that a check needs.

What an entry names by a dotted name is in a layer above or in the release's process, and is imported when it is used.
`tests/test_checks.py` holds that every name leads somewhere.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from harness.core.evidence.checkpoint import CheckpointEvidence, CheckpointMetrics
from harness.core.evidence.common import CellEvidence
from harness.core.evidence.contract import ConstructEvidence, ConstructMetrics, ContractEvidence, ContractMetrics
from harness.core.evidence.data import DataEvidence, DataMetrics
from harness.core.evidence.decode import DecodeEvidence, DecodeMetrics
from harness.core.evidence.imports import ImportEvidence, ImportMetrics
from harness.core.evidence.properties import PropertyEvidence, PropertyMetrics
from harness.core.evidence.training import TrainingEvidence, TrainingMetrics


@dataclass(frozen=True, kw_only=True)
class CheckFacts:
    """What the harness knows about a check."""

    measure: str
    """The function below `harness.worker` that measures, called with the cell's request."""
    metrics: type[Any]
    """The record of `Outcome.metrics`."""
    evidence: type[CellEvidence]
    """The record of `Outcome.evidence`."""
    letter: str
    """In the report's grid."""
    meaning: str
    """What a release does that passes: the end of a sentence about it."""
    failing: str
    """What is said of a release that fails without a known cause."""
    timeout_seconds: float
    """The time limit of a cell, unless the matrix says otherwise."""
    usual_seconds: float
    """How long a cell takes. Only the ratios matter: for the order of cells, and for the time left until the first
    cells of a check are done."""
    blocks_dependents: bool = True
    """Whether a failure blocks the later checks."""
    through_trainer: bool = False
    """Whether it runs one of the release's trainers; its cells name the entry point."""
    on_the_model: bool = False
    """Whether the modules of the model are enough; otherwise the release is imported whole."""
    rule: str | None = None
    """The function below `harness.rules` that judges an outcome which ended well; None where an exception decides."""
    settings: str | None = None
    """The record below `harness.config` that the table of the check's name in a matrix is read into."""
    libraries: tuple[str, ...] = ()
    """Distributions that it needs besides those that every check needs."""
    not_in_bundles: str = ""
    """Why no bundle holds its cells; empty where bundles do."""


class Check(StrEnum):
    """One question about a cell. A check depends on the earlier ones that block their dependents.

    A model trains with a broken property, on data that differs from the user's files, and without being able to resume.
    So nothing depends on `properties`, `data` and `checkpoint`.
    """

    facts: CheckFacts

    def __new__(cls, name: str, facts: CheckFacts | None = None) -> Self:
        """A member that is its name, with its facts. `Check("data")` looks a member up and does not come here."""
        assert facts is not None
        member = str.__new__(cls, name)
        member._value_ = name
        member.facts = facts
        return member

    # The usual seconds are medians of `reports/atlas` (import, construct, loss_contract, finetune),
    # `reports/properties` and `reports/later_checks` (data, checkpoint, decode): two cores, two jobs, reduced depth on
    # the CPU.
    IMPORT = (
        "import",
        CheckFacts(
            measure="checks.importing.check",
            metrics=ImportMetrics,
            evidence=ImportEvidence,
            letter="I",
            meaning="the release imports; third-party modules that it needs but does not declare are listed",
            failing="The release does not import",
            timeout_seconds=120.0,
            usual_seconds=13.0,
            not_in_bundles="it needs every library that a release declares, several hundred megabytes of them",
        ),
    )
    CONSTRUCT = (
        "construct",
        CheckFacts(
            measure="checks.construct.construct",
            metrics=ConstructMetrics,
            evidence=ConstructEvidence,
            letter="C",
            meaning=(
                "the model builds with these dimensions, and its loss has as many classes as the layer before it "
                "outputs"
            ),
            failing="The model does not build",
            timeout_seconds=60.0,
            usual_seconds=0.5,
            on_the_model=True,
        ),
    )
    LOSS_CONTRACT = (
        "loss_contract",
        CheckFacts(
            measure="checks.loss_contract.loss_contract",
            metrics=ContractMetrics,
            evidence=ContractEvidence,
            letter="L",
            meaning=(
                "one forward and one backward pass: what enters the loss is as wide as the vocabulary, the loss "
                "is finite, and a gradient reaches every part of the model"
            ),
            failing="The loss does not fit",
            timeout_seconds=60.0,
            usual_seconds=1.0,
            on_the_model=True,
        ),
    )
    PROPERTIES = (
        "properties",
        CheckFacts(
            measure="checks.properties.check",
            metrics=PropertyMetrics,
            evidence=PropertyEvidence,
            letter="P",
            meaning=(
                "the loss fits, padding has no effect and the future does not leak, over random dimensions, "
                "lengths and settings; a counterexample is shown where one was found"
            ),
            failing="A property of the model does not hold",
            # Far above the ten seconds that it takes: what it searches must not depend on how busy the machine is.
            timeout_seconds=900.0,
            usual_seconds=17.0,
            blocks_dependents=False,
            on_the_model=True,
            settings="settings.PropertiesSettings",
            libraries=("hypothesis", "sortedcontainers"),
        ),
    )
    DATA = (
        "data",
        CheckFacts(
            measure="checks.data.check",
            metrics=DataMetrics,
            evidence=DataEvidence,
            letter="D",
            meaning=(
                "what reaches the model is what the files say: each utterance once an epoch, its text, its "
                "length, normalised as configured"
            ),
            failing="The trainer receives something else than the files say",
            timeout_seconds=180.0,
            usual_seconds=3.5,
            blocks_dependents=False,
            through_trainer=True,
        ),
    )
    FINETUNE = (
        "finetune",
        CheckFacts(
            measure="checks.finetune.check",
            metrics=TrainingMetrics,
            evidence=TrainingEvidence,
            letter="F",
            meaning=(
                "the release's own trainer runs on speech: the steps are taken, the loss is finite at each of "
                "them and falls, and the parameters change"
            ),
            failing="Fine-tuning fails",
            timeout_seconds=600.0,
            usual_seconds=24.0,
            through_trainer=True,
            rule="apply.apply_training_rule",
        ),
    )
    CHECKPOINT = (
        "checkpoint",
        CheckFacts(
            measure="checks.checkpoint.check",
            metrics=CheckpointMetrics,
            evidence=CheckpointEvidence,
            letter="S",
            meaning=(
                "the saved model resumes where it stopped, averages and loads; a checkpoint of other dimensions "
                "is noticed"
            ),
            failing="The saved model does not resume, average or load as it should",
            timeout_seconds=600.0,
            usual_seconds=31.0,
            blocks_dependents=False,
            through_trainer=True,
            rule="checkpoint.apply_checkpoint_rule",
            settings="settings.CheckpointSettings",
        ),
    )
    DECODE = (
        "decode",
        CheckFacts(
            measure="checks.decode.check",
            metrics=DecodeMetrics,
            evidence=DecodeEvidence,
            letter="T",
            meaning="after fine-tuning, the saved model is loaded again and decodes the text of its utterances",
            failing="The fine-tuned model does not decode its utterances",
            timeout_seconds=900.0,
            usual_seconds=68.0,
            through_trainer=True,
            rule="decode.apply_decode_rule",
            settings="settings.DecodeSettings",
        ),
    )

    @property
    def position(self) -> int:
        """Its place in the order of checks, 0 for the first."""
        return list(Check).index(self)

    @property
    def blocks_dependents(self) -> bool:
        """Whether a failure blocks the later checks."""
        return self.facts.blocks_dependents

    @property
    def through_trainer(self) -> bool:
        """Whether it runs one of the release's trainers; its cells name the entry point."""
        return self.facts.through_trainer


def named_object(package: str, name: str) -> Any:
    """What a dotted name below a package stands for: `settings.DecodeSettings` below `harness.config`."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}"), attribute)
