"""Questions that only the release can answer: its own code runs on the user's files, in the harness's process tree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from harness.config.settings import CellLimits
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Outcome, Precision, Status
from harness.core.temporary import temporary_folder
from harness.preflight.inputs import Inputs
from harness.run.prepare import no_stored_examples
from harness.run.runner import CellRunner, RunnerSettings, RunOptions

_PRELOADED = ("numpy", "torch", "torchaudio.compliance.kaldi", "yaml", "omegaconf", "hydra", "soundfile", "librosa")
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class ReleaseQuestion:
    """One measurement of `harness.worker.preflight`, which `harness.worker.checks.dispatch.FURTHER` names."""

    name: str
    """Such as `preflight.tensors`."""
    request: Mapping[str, Any]
    """JSON: what the measurement is called with, besides `release`, `check` and `device`."""
    device: Device = Device.CPU
    """On a GPU nothing is imported beforehand: a process that initialised CUDA cannot fork."""
    whole: bool = True
    """Whether the release is imported whole, as a training does; otherwise the measurement imports what it needs."""
    timeout_seconds: float = 120.0
    memory_bytes: int = MEMORY_BYTES
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name and request: what was measured once need not be measured again."""
        return f"{self.name} {self.device} {json.dumps(self.request, sort_keys=True)}"

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, kw_only=True)
class _Requests:
    """Questions to one release, for the cell runner; a cell's variant is the question's number."""

    questions: Sequence[ReleaseQuestion]
    inputs: Inputs
    imports_whole_releases: bool = False

    @property
    def limits(self) -> CellLimits:
        seconds = max(question.timeout_seconds for question in self.questions)
        return CellLimits(
            memory_bytes=max(question.memory_bytes for question in self.questions),
            timeout_seconds=MappingProxyType({Check.LOSS_CONTRACT: seconds}),
        )

    @property
    def usual_seconds(self) -> Mapping[Check, float]:
        return self.limits.timeout_seconds

    def release_for(self, label: str) -> Mapping[str, Any]:
        return {
            "label": label,
            "version": self.inputs.release.version,
            "install_dir": str(self.inputs.install_dir),
            "components": [],
            "whole": any(question.whole and question.device is Device.CPU for question in self.questions),
        }

    def request_for(self, cell: Cell) -> Mapping[str, Any]:
        question = self.questions[int(cell.variant or 0)]
        return {
            **question.request,
            "check": question.name,
            "release": self.release_for(cell.release),
            "device": question.device,
            "environment_shims": list(self.inputs.environment.shims),
            "components": [],
        }

    def gpus_for(self, cell: Cell) -> int:
        return int(cell.device is Device.CUDA)

    def evidence_for(self, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002 - there is none
        return {}


def ask_release(inputs: Inputs, question: ReleaseQuestion) -> Outcome:
    """Run one measurement within the release, unless it was run already with these inputs.

    Returns:
        Its outcome: what was measured is in `evidence`; a release that raises is `failed`, with the exception in
        `failure`; a measurement that cannot be made is `errored`.

    Raises:
        HarnessError: the process tree cannot run.
    """
    (outcome,) = ask_all(inputs, [question])
    return outcome


def ask_all(inputs: Inputs, questions: Sequence[ReleaseQuestion]) -> tuple[Outcome, ...]:
    """The outcomes of several measurements, in their order.

    Those that are new run in one process tree, so that the release is imported once for all of them.
    """
    known = inputs.answers
    new = [question for question in dict.fromkeys(questions) if question.key not in known]
    if new:
        known.update(_run(inputs, new))
    return tuple(known[question.key] for question in questions)


def _run(inputs: Inputs, questions: Sequence[ReleaseQuestion]) -> dict[str, Outcome]:
    settings = RunnerSettings(
        environment=inputs.environment,
        cache=inputs.cache,
        rule=lambda outcome: outcome,
        counterexamples=no_stored_examples,
        jobs=1,
    )
    cells = [_cell(inputs, number, question.device) for number, question in enumerate(questions)]
    variables = {name: value for question in questions for name, value in question.variables.items()}
    options = RunOptions(preload=_PRELOADED, variables={"OMP_WAIT_POLICY": "PASSIVE", **variables})
    with temporary_folder() as workspace:
        outcomes = CellRunner(settings=settings).run_requests(
            _Requests(questions=questions, inputs=inputs), cells, workspace, options=options
        )
    return {question.key: outcomes[cell] for question, cell in zip(questions, cells, strict=True)}


def _cell(inputs: Inputs, number: int, device: Device = Device.CPU) -> Cell:
    return Cell(
        release=inputs.release.label,
        variant=str(number),
        dimensions=Dimensions.parse("v8404-h320"),
        depth=Depth.FULL,
        # It is no check of a matrix; the process tree needs the name of one.
        check=Check.LOSS_CONTRACT,
        entry=None,
        device=device,
        precision=Precision.FP32,
    )


def measured(outcome: Outcome) -> bool:
    """Whether the measurement was made."""
    return outcome.status is Status.PASSED
