"""Questions that only the release can answer: its own code runs on the user's files, in the harness's process tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from harness.config.settings import CellLimits
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Outcome, Precision, Status
from harness.preflight.inputs import Inputs
from harness.run.prepare import no_stored_examples
from harness.run.runner import CellRunner, RunnerSettings, RunOptions, temporary_workspace

_PRELOADED = ("numpy", "torch", "torchaudio.compliance.kaldi", "yaml", "omegaconf", "hydra", "soundfile", "librosa")
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Question:
    """One measurement of `harness.worker.preflight`, which `harness.worker.checks.dispatch.FURTHER` names."""

    name: str
    """Such as `preflight.tensors`."""
    request: Mapping[str, Any]
    """JSON: what the measurement is called with, besides `release`, `check` and `device`."""
    whole: bool = True
    """Whether the release is imported whole, as a training does; otherwise the measurement imports what it needs."""
    timeout_seconds: float = 120.0
    memory_bytes: int = MEMORY_BYTES
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Requests:
    """One question, for the cell runner."""

    question: Question
    inputs: Inputs
    imports_whole_releases: bool = False

    @property
    def limits(self) -> CellLimits:
        seconds = MappingProxyType({Check.LOSS_CONTRACT: self.question.timeout_seconds})
        return CellLimits(memory_bytes=self.question.memory_bytes, timeout_seconds=seconds)

    @property
    def usual_seconds(self) -> Mapping[Check, float]:
        return self.limits.timeout_seconds

    def release_for(self, label: str) -> Mapping[str, Any]:
        return {
            "label": label,
            "version": self.inputs.release.version,
            "overlay": str(self.inputs.overlay),
            "components": [],
            "whole": self.question.whole,
        }

    def request_for(self, cell: Cell) -> Mapping[str, Any]:
        return {
            **self.question.request,
            "check": self.question.name,
            "release": self.release_for(cell.release),
            "device": Device.CPU,
            "environment_shims": list(self.inputs.environment.shims),
            "components": [],
        }

    def gpus_for(self, cell: Cell) -> int:  # noqa: ARG002 - it needs none
        return 0

    def evidence_for(self, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002 - there is none
        return {}


def ask_release(inputs: Inputs, question: Question) -> Outcome:
    """Run one measurement within the release.

    Returns:
        Its outcome: what was measured is in `evidence`; a release that raises is `failed`, with the exception in
        `failure`; a measurement that cannot be made is `errored`.

    Raises:
        HarnessError: the process tree cannot run.
    """
    (outcome,) = ask_all(inputs, [question])
    return outcome


def ask_all(inputs: Inputs, questions: Sequence[Question]) -> tuple[Outcome, ...]:
    """The outcomes of several measurements, in their order; each runs in a process tree of its own."""
    settings = RunnerSettings(
        environment=inputs.environment,
        cache=inputs.cache,
        rule=lambda outcome: outcome,
        counterexamples=no_stored_examples,
        jobs=1,
    )
    runner = CellRunner(settings=settings)
    found = []
    for question in questions:
        cell = Cell(
            release=inputs.release.label,
            variant="paraformer",
            dimensions=Dimensions.parse("v8404-h320"),
            depth=Depth.FULL,
            # It is no check of a matrix; the process tree wants the name of one.
            check=Check.LOSS_CONTRACT,
            entry=None,
            device=Device.CPU,
            precision=Precision.FP32,
        )
        options = RunOptions(preload=_PRELOADED, variables={"OMP_WAIT_POLICY": "PASSIVE", **question.variables})
        with temporary_workspace() as workspace:
            requests = _Requests(question=question, inputs=inputs)
            found.append(runner.run_requests(requests, [cell], workspace, options=options)[cell])
    return tuple(found)


def measured(outcome: Outcome) -> bool:
    """Whether the measurement was made."""
    return outcome.status is Status.PASSED
