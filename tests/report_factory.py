"""Runs made up for the tests of the reports: nothing in here was ever measured, and none of it may leave the tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.config.expansion import import_cell
from harness.core.cells import Cell, Check, Entry, Failure, Frame, Outcome, Severity, Status
from harness.core.evidence import BLOCKED_BY
from harness.rules.known_issues import KnownIssue, KnownIssues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.provenance import Provenance
from harness.run.store import LoadedRun

RELEASES = tuple(f"1.{minor}.{patch}" for minor, patches in enumerate((31, 20, 10, 30, 10)) for patch in range(patches))
"""101 of them, oldest first."""
VARIANTS = ("paraformer", "paraformer_streaming")
SHAPES = ("v8404-h320", "v8501-h320", "v8404-h512", "v8501-h512")
CHECK_SETTINGS = (Check.CONSTRUCT, Check.LOSS_CONTRACT)
TRAINED_SHAPE = "v8404-h320"

STREAMING = "paraformer_streaming"
LOSS_SIGNATURE = "AssertionError@funasr/losses/label_smoothing_loss.py:forward"
ISSUE = KnownIssue(
    id="streaming-attention-loss",
    title="The attention loss of the streaming model gets hidden states instead of scores over the vocabulary",
    severity=Severity.BROKEN,
    releases=tuple(RELEASES[6:12]),
    variants=(STREAMING,),
    checks=(Check.LOSS_CONTRACT, Check.FINETUNE),
    signatures=(LOSS_SIGNATURE,),
    cause="_calc_att_predictor_loss hands the decoder's hidden states to criterion_att.",
    remedy="Use another release.",
    upstream=("modelscope/FunASR#1478", "modelscope/FunASR#1439"),
    seen=f"{RELEASES[6]}/{STREAMING}/v8404-h320/reduced/loss_contract/cpu-fp32",
)
ISSUES = KnownIssues(issues=(ISSUE,))


def cell(release: str, check: str, *, variant: str = STREAMING, shape: str = TRAINED_SHAPE) -> Cell:
    """A cell by the parts that matter here; `check` is such as `finetune@train`."""
    return Cell.parse(f"{release}/{variant}/{shape}/reduced/{check}/cpu-fp32")


def outcome(of: Cell | str, status: Status = Status.PASSED, reason: str = "", **fields: Any) -> Outcome:
    """An outcome with a reason where the format wants one."""
    reason = reason or ("" if status is Status.PASSED else f"The cell is {status}.")
    at = Cell.parse(of) if isinstance(of, str) else of
    return Outcome(**{"cell": at, "status": status, "reason": reason, "seconds": 0.3, **fields})


def blocked(of: Cell, by: Cell) -> Outcome:
    """An outcome as the harness writes it for a cell that depends on one that did not pass."""
    return outcome(
        of, Status.BLOCKED, f"Not run: it depends on {by.id}, which did not pass.", evidence={BLOCKED_BY: by.id}
    )


def loss_failure(width: int, classes: int, *, line: int = 64) -> Failure:
    """The failure that the project began with."""
    return Failure(
        type="AssertionError",
        message=f"x.size(2) == self.size: {width} against {classes}",
        frames=(
            Frame(
                file="funasr/models/paraformer_streaming/model.py",
                line=line + 40,
                function="forward",
                code="loss_att, acc_att, cer_att, wer_att, loss_pre, pre_loss_att = self._calc_att_predictor_loss(",
            ),
            Frame(
                file="funasr/models/paraformer_streaming/model.py",
                line=line + 130,
                function="_calc_att_predictor_loss",
                code="loss_att = self.criterion_att(decoder_out, ys_pad)",
            ),
            Frame(
                file="torch/nn/modules/module.py",
                line=1775,
                function="_call_impl",
                code="return forward_call(*args, **kwargs)",
            ),
            Frame(
                file="funasr/losses/label_smoothing_loss.py",
                line=line,
                function="forward",
                code="assert x.size(2) == self.size",
            ),
        ),
        signature=LOSS_SIGNATURE,
    )


def training(first: float = 10.1, *, steps: int = 16, seed: float = 0.0, noise: int = 0) -> dict[str, Any]:
    """Metrics of a fine-tune whose loss falls; `noise` moves times and memory, `seed` the curve."""
    losses = [first * math.exp(-step / 14) + 0.25 * math.sin(step * 2.1 + seed) for step in range(steps)]
    half = max(1, steps // 8)
    return {
        "steps": steps,
        "steps_expected": steps,
        "losses": losses,
        "stats": {"acc": [step / steps / 3 for step in range(steps)], "loss_att": losses, "loss_pre": [0.4] * steps},
        "gradient_norms": [3.0 + seed for _ in range(steps)],
        "learning_rates": [0.001] * steps,
        "step_seconds": [0.2 + 0.001 * (noise % 17)] * steps,
        "samples_per_second": 19.5 + 0.1 * (noise % 7),
        "audio_seconds_per_second": 80.0 + noise % 9,
        "relative_change_by_group": {"encoder": 0.021, "predictor": 0.034, "decoder": 0.015},
        "epoch_losses": [sum(losses[at : at + half]) / half for at in range(0, steps, half)],
        "peak_resident_bytes": 1_400_000_000 + noise * 1_000_003,
        "peak_allocated_bytes": None,
        "peak_reserved_bytes": None,
        "peak_used_bytes": None,
    }


def tuned(release: str, entry: str = "train", *, variant: str = STREAMING, **fields: Any) -> Outcome:
    """A fine-tune that passed."""
    given: dict[str, Any] = {
        "metrics": training(),
        "evidence": {"entry_is_native": True, "trainer_options": ["max_epoch"]},
    }
    return outcome(cell(release, f"finetune@{entry}", variant=variant), seconds=9.5, **{**given, **fields})


def judged(outcomes: Iterable[Outcome], issues: KnownIssues = ISSUES) -> tuple[JudgedOutcome, ...]:
    """By the real judge."""
    return judge(tuple(outcomes), issues)


def run_of(outcomes: Iterable[Outcome] = (), **fields: Any) -> LoadedRun:
    """A run on a machine that does not exist."""
    provenance = Provenance(
        host="Linux-6.1.0-x86_64-with-glibc2.36",
        processor="Imaginary CPU @ 2.00GHz",
        cpu_count=2,
        memory_bytes=8 * 2**30,
        gpus=(),
        driver=None,
        python="3.11.2",
        torch="2.13.0+cpu",
        cuda=None,
        libraries={"numpy": "2.4.0", "transformers": "5.1.0", "torchaudio": "2.11.0"},
        matrix="atlas",
        matrix_sha256="ab" * 32,
        cells=2121,
        selection=(),
        corpus_sha256="cd" * 32,
        harness_version="0.1.0",
        harness_commit="0123456789abcdef",
        harness_dirty=False,
        started="2026-01-01T08:00:00Z",
        finished="2026-01-01T09:10:00Z",
    )
    return LoadedRun(provenance=replace(provenance, **fields), outcomes=tuple(outcomes))


def atlas(releases: Sequence[str] = RELEASES) -> tuple[Outcome, ...]:
    """An atlas of the real one's size: 21 outcomes a release, with failures, ranges, and curves of several kinds."""
    found: list[Outcome] = []
    for number, release in enumerate(releases):
        found.append(_imported(release, number))
        for variant in VARIANTS:
            for shape in SHAPES:
                found += _chain(release, number, variant=variant, shape=shape)
    return tuple(found)


def _imported(release: str, number: int) -> Outcome:
    undeclared = ["editdistance"] if number < 40 else []
    undeclared += ["transformers", "tiktoken"] if 31 <= number < 75 else []
    return outcome(
        import_cell(release),
        metrics={"import_seconds": 4.2 + number % 5 / 10, "modules_imported": 300 + number // 10, "modules_failed": 1},
        evidence={
            "undeclared": undeclared,
            "submodule_errors": [{"module": "funasr.utils.x", "error": "ModuleNotFoundError: No module named 'x'"}],
        },
        seconds=4.4,
    )


def _chain(release: str, number: int, *, variant: str, shape: str) -> list[Outcome]:
    built = _built(release, number, variant=variant, shape=shape)
    contract_cell = cell(release, "loss_contract", variant=variant, shape=shape)
    if built.status is not Status.PASSED:
        contract = blocked(contract_cell, built.cell)
    else:
        contract = _contract(contract_cell, number)
    found = [built, contract]
    if shape == TRAINED_SHAPE:
        for entry in Entry:
            at = cell(release, f"finetune@{entry}", variant=variant, shape=shape)
            if contract.status is Status.PASSED:
                found.append(_finetuned(at, number))
            else:
                found.append(blocked(at, contract.cell if built.status is Status.PASSED else built.cell))
    return found


def _built(release: str, number: int, *, variant: str, shape: str) -> Outcome:
    at = cell(release, "construct", variant=variant, shape=shape)
    assert at.dimensions
    vocabulary, hidden = at.dimensions.vocab_size, at.dimensions.hidden_size
    if number in (2, 3) and variant == STREAMING:
        failure = Failure(
            type="AttributeError",
            message="'NoneType' object has no attribute 'get'",
            frames=(
                Frame(
                    file="funasr/models/paraformer_streaming/model.py",
                    line=33,
                    function="__init__",
                    code='self.chunk = kwargs.get("decoder_conf").get("chunk")',
                ),
            ),
            signature="AttributeError@funasr/models/paraformer_streaming/model.py:__init__",
        )
        return outcome(at, Status.FAILED, "The model does not build.", failure=failure)
    return outcome(
        at,
        metrics={
            "parameters": vocabulary * hidden * 2 + 4_000_000,
            "parameters_by_group": {"encoder": 2_500_000, "predictor": 500_000, "decoder": vocabulary * hidden * 2},
        },
        evidence={
            "losses": [{"name": "criterion_att", "type": "LabelSmoothingLoss", "classes": vocabulary}],
            "projections": [{"name": "decoder.output_layer", "in_features": hidden, "out_features": vocabulary}],
        },
        seconds=0.2 + number % 7 / 50,
    )


def _contract(at: Cell, number: int) -> Outcome:
    assert at.dimensions
    vocabulary, hidden = at.dimensions.vocab_size, at.dimensions.hidden_size
    broken = 6 <= number < 12 and at.variant == STREAMING
    seen: dict[str, Any] = {
        "loss_inputs": [
            {
                "name": "criterion_att",
                "classes": vocabulary,
                "input_shape": [4, 12, hidden if broken else vocabulary],
                "width": hidden if broken else vocabulary,
            }
        ]
    }
    if broken:
        reason = f"The loss got {hidden} wide hidden states where it wants {vocabulary} scores."
        failure = loss_failure(hidden, vocabulary, line=64 if number < 9 else 71)
        return outcome(at, Status.FAILED, reason, failure=failure, evidence=seen)
    metrics = {"loss": 9.0367, "gradient_norm_by_group": {"encoder": 1.25, "predictor": 0.5, "decoder": 3.75}}
    return outcome(at, metrics=metrics, evidence=seen, shims=("cuda-calls-stay-on-cpu",) if number < 60 else ())


def _finetuned(at: Cell, number: int) -> Outcome:
    newer = at.entry is Entry.TRAIN_DS
    if newer and number < 31:
        return outcome(at, Status.SKIPPED, "The release has no funasr.bin.train_ds.")
    native = newer == (number >= 31)
    evidence: Mapping[str, Any] = {"entry_is_native": native, "trainer_options": ["train_conf.max_epoch", "jsonl"]}
    if number >= 91 and not newer:
        failure = Failure(
            type="TypeError",
            message="forward() missing 4 required positional arguments: 'speech', 'speech_lengths', 'text' | 'x'",
            frames=(Frame(file="funasr/bin/train.py", line=180, function="main", code="trainer.run()"),),
            signature="TypeError@funasr/bin/train.py:main",
        )
        return outcome(at, Status.FAILED, "The trainer raised TypeError.", failure=failure, evidence=evidence)
    if number == 50:
        return outcome(at, Status.TIMED_OUT, "It was ended after 300 s.", evidence=evidence, seconds=300.0)
    metrics = training(10.1 if at.variant == STREAMING else 9.6, seed=0.0 if number < 57 else 0.4, noise=number)
    used = ("cuda-calls-stay-on-cpu", "cuda-devices-mean-cpu") if newer else ("cuda-calls-stay-on-cpu",)
    return outcome(at, metrics=metrics, evidence=evidence, shims=used, seconds=9.0 + number % 10)
