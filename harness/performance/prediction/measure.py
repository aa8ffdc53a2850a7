"""Having a release measured: its model with few blocks, a step of training on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.config.settings import CellLimits
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Outcome, Precision, Release, Status
from harness.core.errors import HarnessError, ReleaseError
from harness.core.temporary import temporary_folder
from harness.corpus.corpus import build_corpus
from harness.performance.prediction.depth import LEAST_MEASURED
from harness.performance.prediction.recording import BlockStack as Measured
from harness.performance.prediction.recording import StepRecording
from harness.releases import fetch, install_path
from harness.run.runner import CellRunner, RunOptions
from harness.variants.model_folder import write_model_folder
from harness.variants.variant import Variant, render

LIMITS = CellLimits(memory_bytes=8 << 30, timeout_seconds=MappingProxyType({Check.LOSS_CONTRACT: 900.0}))
"""Of the question; it is no check, and has the name of one in the process tree."""
_PRELOADED = ("numpy", "torch", "torchaudio.compliance.kaldi", "yaml", "omegaconf")
_DEPTHS = ("num_blocks", "att_layer_num", "tp_blocks")


@dataclass(frozen=True, kw_only=True)
class MeasureRequest:
    """What is to be measured."""

    release: Release
    variant: Variant
    dimensions: Dimensions
    depth: Depth
    precision: Precision
    frames: int
    """Stacked frames of 60 ms of each utterance."""
    characters: int
    """Tokens of each utterance."""


@dataclass(frozen=True, kw_only=True)
class MeasureContext:
    """What runs it."""

    runner: CellRunner
    threads: int


@dataclass(frozen=True, kw_only=True)
class FootprintRequests:
    """The question of how much memory a step takes, for the cell runner.

    It is no check of a matrix, so it has limits of its own: a model of full width trains on batches of a user's size.
    """

    release: Mapping[str, Any]
    request: Mapping[str, Any]
    limits: CellLimits = field(default_factory=lambda: LIMITS)
    usual_seconds: Mapping[Check, float] = field(default_factory=lambda: LIMITS.timeout_seconds)
    imports_whole_releases: bool = False

    def release_for(self, label: str) -> Mapping[str, Any]:  # noqa: ARG002 - there is one
        """What the release's process needs to enter it."""
        return self.release

    def request_for(self, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002 - there is one
        """What the check is called with."""
        return self.request

    def gpus_for(self, cell: Cell) -> int:  # noqa: ARG002 - it needs none
        """None."""
        return 0

    def evidence_for(self, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002 - there is none
        """Nothing."""
        return {}


def measure(question: MeasureRequest, batches: Sequence[int], context: MeasureContext) -> StepRecording:
    """A training step of the release's model with few blocks, at real widths and lengths, once for each batch.

    Args:
        batches: Numbers of utterances, the smallest first.

    Raises:
        ReleaseError: the release cannot build the model, or cannot make the step.
        HarnessError: the release, the speech or the stack cannot be had.
    """
    fetch([question.release], context.runner.settings.cache, jobs=1)
    recording = _measured(question, batches, context, LEAST_MEASURED)
    missing_blocks = too_few(recording.stacks)
    # Some decoders keep their last block apart, so that their stack is shorter than the config says.
    return _measured(question, batches, context, LEAST_MEASURED + missing_blocks) if missing_blocks else recording


def too_few(stacks: Sequence[Measured]) -> int:
    """How many blocks more must be measured, so that a stack can be carried to its full depth."""
    return max((LEAST_MEASURED - stack.measured for stack in stacks if stack.full > stack.measured), default=0)


def _measured(question: MeasureRequest, batches: Sequence[int], context: MeasureContext, blocks: int) -> StepRecording:
    cell = Cell(
        release=question.release.label,
        variant=question.variant.name,
        dimensions=question.dimensions,
        depth=question.depth,
        # No check of the chain runs; the process tree wants the name of one.
        check=Check.LOSS_CONTRACT,
        entry=None,
        device=Device.CPU,
        precision=Precision.FP32,
    )
    requests = FootprintRequests(
        release=_release(question, context.runner.settings.cache), request=_request(question, batches, context, blocks)
    )
    # Threads that wait do not keep a processor busy that another has use for.
    options = RunOptions(preload=_PRELOADED, variables={"OMP_WAIT_POLICY": "PASSIVE"})
    with temporary_folder() as workspace:
        outcome = context.runner.run_requests(requests, [cell], workspace, options=options)[cell]
    return _read(outcome, question)


def shallow(variant: Variant, depth: Depth, blocks: int = LEAST_MEASURED) -> Variant:
    """The variant with only as many blocks a stack as are measured; reduced ones have few as they are."""
    if depth is Depth.REDUCED:
        return variant
    depths: list[tuple[str, int]] = []
    for name, conf in variant.config.items():
        if isinstance(conf, Mapping):
            depths += [(f"{name}.{key}", value) for key, value in _few(conf, blocks).items()]
    return replace(variant, reduced=tuple(depths))


def _few(conf: Mapping[str, Any], least: int) -> dict[str, int]:
    """As many blocks of each kind as it takes to have one whose neighbours are neither the first nor the last."""
    depths = {key: min(conf[key], least) for key in _DEPTHS if isinstance(conf.get(key), int)}
    blocks, attending = conf.get("num_blocks"), conf.get("att_layer_num")
    if not isinstance(blocks, int):
        return {}
    if isinstance(attending, int) and attending <= blocks:
        # The others are a stack of their own.
        depths["num_blocks"] = depths["att_layer_num"] + min(blocks - attending, least)
    else:
        # The first block may stand apart, because it takes features of another width.
        depths["num_blocks"] = min(blocks, least + 1)
        depths.pop("att_layer_num", None)
    return depths


def _request(question: MeasureRequest, batches: Sequence[int], context: MeasureContext, blocks: int) -> dict[str, Any]:
    variant, shape, scale = question.variant, question.dimensions, question.depth
    cache = context.runner.settings.cache
    corpus = build_corpus(cache)
    full = write_model_folder(variant, corpus, cache, dimensions=shape, depth=scale)
    few = write_model_folder(shallow(variant, scale, blocks), corpus, cache, dimensions=shape, depth=Depth.REDUCED)
    traits = variant.traits.to_dict(render(variant, dimensions=shape, depth=scale))
    return {
        "check": "footprint",
        "release": _release(question, cache),
        "device": Device.CPU,
        "environment_shims": list(context.runner.settings.environment.shims),
        "components": sorted(variant.components),
        "model_folder": str(few.path),
        "vocab_size": shape.vocab_size,
        "seed": 0,
        "contract": {**traits, "inputs": list(variant.inputs), "frame_seconds": variant.frame_seconds},
        "footprint": {
            "full_folder": str(full.path),
            "batches": list(batches),
            "frames": question.frames,
            "tokens": question.characters,
            "precision": question.precision,
            "threads": context.threads,
        },
    }


def _release(question: MeasureRequest, cache: Path) -> dict[str, Any]:
    return {
        "label": question.release.label,
        "version": question.release.version,
        "install_dir": str(install_path(question.release, cache)),
        "components": sorted(question.variant.components),
        "whole": False,
    }


def _read(outcome: Outcome, question: MeasureRequest) -> StepRecording:
    name = f"{question.release.label}, {question.variant.name} at {question.dimensions}"
    match outcome.status:
        case Status.PASSED:
            try:
                return StepRecording.from_json(outcome.evidence["footprint"])
            except (KeyError, ValueError, TypeError) as error:
                raise HarnessError(f"what was measured of {name} cannot be read: {error!r}") from error
        case Status.SKIPPED:
            raise ReleaseError(
                f"there is nothing to predict for FunASR {name} in {question.precision}: {outcome.reason}",
                next_step="name another release with --release, or another --precision",
            )
        case Status.FAILED:
            raise ReleaseError(
                f"FunASR {name} cannot be trained, so there is nothing to predict: {outcome.reason}",
                cause=f"a fault of the release ({outcome.failure.signature})" if outcome.failure else "",
                next_step="name another release with --release, one whose loss_contract passes",
            )
        case _:
            raise HarnessError(
                f"FunASR {name} was not measured: {outcome.status}: {outcome.reason}",
                next_step="try a shorter --seconds, or see the machine's memory",
            )
