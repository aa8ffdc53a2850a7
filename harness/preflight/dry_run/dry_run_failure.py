"""Whose doing it is that a tried training ends with an exception: a row's, a setting's, a file's, or the release's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from harness.config.built_in import KNOWN_ISSUES_NAME, shipped_file
from harness.core.cells import Cell, Depth, Device, Dimensions, Entry, Failure, Frame, Precision, Severity, Status
from harness.core.errors import HarnessError
from harness.preflight.dry_run.dry_run_answer import RowRead, Trained
from harness.preflight.dry_run.dry_run_request import gpu_name
from harness.preflight.dry_run.dry_run_sample import Sample, SampledRow
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.settings import Setting
from harness.rules.known_issues import KnownIssue, load_known_issues
from harness.rules.user_input import names_setting
from harness.variants.catalogue import available, load_variant

_STAGES = (
    ("average_checkpoints", "while it averages the checkpoints"),
    ("save_checkpoint", "while it saves a checkpoint"),
    ("validate_epoch", "in the validation"),
    ("backward", "in the backward pass"),
    ("forward", "in the forward pass of a training step"),
    ("build_iter", "while it builds its batches"),
    ("warp_optim_scheduler", "while it builds the optimizer"),
    ("train_epoch", "in a training step"),
    ("main", "before the first step"),
)
_OF_THIS_MACHINE = re.compile(
    r"NVIDIA driver|not compiled with CUDA|CUDA (?:is not|error)|No CUDA|flash_attn|libcuda", re.IGNORECASE
)
_SECTIONS = (
    "train_conf",
    "optim",
    "scheduler",
    "dataset",
    "freeze_param",
    "init_param",
    "lora",
    "excludes",
    "scope_map",
)
OUT_OF_MEMORY = "out_of_memory"
"""Status of a training that ended for want of memory."""
_COMMON = frozenset({"true", "false", "none", "null", "cpu", "cuda", "model"})


def of_this_machine(failure: Failure) -> bool:
    """Whether it is for want of a GPU or a library here, which says nothing about the user's machine."""
    return failure.type in ("ModuleNotFoundError", "ImportError") or bool(_OF_THIS_MACHINE.search(failure.message))


def too_large_for_the_card(inputs: Inputs, trained: Trained) -> PreflightFinding:
    """The GPU of this machine is too small, and no other card was named."""
    failure = trained.failure
    assert failure is not None
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="dry-run-out-of-memory",
        message=f"the training does not fit {gpu_name(inputs)}: it runs out of memory {_stage(trained)}",
        place=inputs.settings.place("dataset_conf.batch_size"),
        evidence=(failure.message[:300],),
        remedy="see what the memory forecast says of your batches: --gpu 24GB, or another card's size",
    )


def culprit(inputs: Inputs, entry: str, trained: Trained, train: Sample, valid: Sample | None) -> PreflightFinding:
    """What ends the training."""
    failure = trained.failure
    assert failure is not None
    stage = _stage(trained)
    text = f"the training ends {stage}: {failure.type}: {failure.message}"
    files = [
        sample for sample in ((valid, train) if trained.went_through("validate_epoch") else (train, valid)) if sample
    ]
    row = next((row for file in files for read in _reads(trained) if (row := file.named(*read))), None)
    if row is None and failure.type == "JSONDecodeError":
        row = next((row for file in files for row in file.rows if not row.readable and not row.source), None)
    if row is not None:
        return _of_row(text, row, failure)
    for issue in _known(inputs, entry, failure):
        return _of_issue(text, issue, failure)
    for setting in _settings(inputs):
        if _names(failure, setting):
            return _of_setting(text, setting, failure)
    return _of_release(inputs, text, trained, failure, files)


def _stage(trained: Trained) -> str:
    if any(map(trained.went_through, ("__getitem__", "collator"))):
        return "while it reads a row" + (" of the validation set" if trained.went_through("validate_epoch") else "")
    return next(
        (stage_in_words for name, stage_in_words in _STAGES if trained.went_through(name)), "before the first step"
    )


def _reads(trained: Trained) -> Iterator[tuple[str, str]]:
    """The row that was being read; of a batch only its one row, as any of several may be the cause."""
    row_read = trained.row or (
        trained.batch[0] if len(trained.batch) == 1 and trained.went_through("forward") else None
    )
    if isinstance(row_read, RowRead) and (row_read.source or row_read.target):
        yield row_read.source, row_read.target


def _of_row(text: str, row: SampledRow, failure: Failure) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="row-ends-training",
        message=f"this row ends the whole training: {text}",
        place=Place(file=str(row.file), line=row.line, key=row.key),
        evidence=tuple(filter(None, (row.source, _at(failure)))),
        remedy="correct the row or take it out of the jsonl",
    )


def _of_issue(text: str, issue: KnownIssue, failure: Failure) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="known-issue-ends-training",
        message=f"{text}. It is FunASR's known issue `{issue.id}`: {issue.title}",
        place=_code(failure),
        evidence=tuple(filter(None, (issue.cause, *issue.upstream))),
        remedy=issue.remedy,
    )


def _of_setting(text: str, setting: Setting, failure: Failure) -> PreflightFinding:
    written = setting.text or f"{setting.path}: {setting.value}"
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="setting-ends-training",
        message=f"{text}; it names your setting `{written}`",
        place=setting.place,
        evidence=(_at(failure),),
        remedy=f"correct or leave out {setting.path}",
    )


def _of_release(inputs: Inputs, text: str, trained: Trained, failure: Failure, files: list[Sample]) -> PreflightFinding:
    keys = [_key(read, files) for read in trained.batch]
    batch = f"the batch had the rows {', '.join(filter(None, keys[:8]))}" if any(keys) else ""
    missing = _of_recipe(inputs)
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="training-ends",
        message=f"{text}; no row and no setting of yours is named in it",
        place=_code(failure),
        evidence=tuple(filter(None, (_at(failure), batch))),
        remedy=f"FunASR's own recipe for this model gives {' '.join(missing)}"
        if missing
        else "try another release: --release all",
    )


def _key(read: RowRead, files: list[Sample]) -> str:
    return next((row.key for file in files if (row := file.named(read.source, read.target))), "")


def _of_recipe(inputs: Inputs) -> list[str]:
    """Settings of the model's own recipe that are not in force."""
    model = inputs.settings.get("model")
    recipe = next(
        (variant.training for variant in map(load_variant, available()) if variant.config["model"] == model), {}
    )
    return [f"++{path}={value}" for path, value in recipe.items() if inputs.settings.get(path) != value]


def _known(inputs: Inputs, entry: str, failure: Failure) -> Iterator[KnownIssue]:
    """Issues of this release with this signature, whatever variant they were seen in."""
    try:
        issues = load_known_issues(shipped_file(KNOWN_ISSUES_NAME), variants=available()).issues
    except HarnessError:
        return
    model = inputs.settings.get("model")
    names = [name for name in available() if load_variant(name).config["model"] == model] or ["paraformer"]
    for issue in issues:
        if issue.status is not Status.FAILED or failure.signature not in issue.failing:
            continue
        if any(issue.covers(cell) for name in names for cell in _cells(inputs, entry, name, issue)):
            yield issue


def _cells(inputs: Inputs, entry: str, variant: str, issue: KnownIssue) -> Iterator[Cell]:
    for check in issue.checks:
        yield Cell(
            release=inputs.release.label,
            variant=variant,
            dimensions=Dimensions.parse("v8404-h320"),
            depth=Depth.REDUCED,
            check=check,
            entry=Entry(entry) if check.through_trainer else None,
            device=Device.CPU,
            precision=Precision.FP32,
        )


def _settings(inputs: Inputs) -> list[Setting]:
    """The command's first, as they are the user's own; then what trains in config.yaml."""
    settings = list(inputs.settings)
    from_command = [setting for setting in settings if setting.from_command]
    return from_command + [
        setting for setting in settings if not setting.from_command and setting.path.startswith(_SECTIONS)
    ]


def _names(failure: Failure, setting: Setting) -> bool:
    value = setting.value
    if isinstance(value, float) and not math.isfinite(value):
        return bool(re.search(rf"\b{value}\b", failure.message))
    if isinstance(value, str) and value.lower() in _COMMON:
        value = None
    return names_setting(failure, setting.path, value)


def _code(failure: Failure) -> Place:
    inner = _inner(failure)
    return Place(file=inner.file, line=inner.line) if inner else Place(key=failure.signature)


def _at(failure: Failure) -> str:
    inner = _inner(failure)
    return f"{inner.file}:{inner.line} in {inner.function}: {inner.code}" if inner else failure.signature


def _inner(failure: Failure) -> Frame | None:
    """The innermost frame of FunASR's own."""
    return next((frame for frame in reversed(failure.frames) if frame.file.startswith("funasr/")), None)
