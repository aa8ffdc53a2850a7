"""An error whose cause is not known: what can be said of its place without guessing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Frame, Precision, Severity
from harness.explain.cells import cell_command
from harness.explain.explanation import LogExplanation, Owner
from harness.explain.known import known_issues, released, releases_of
from harness.explain.messages import message_rules
from harness.explain.release_index import ReleaseIndex
from harness.explain.tracebacks import LoggedError
from harness.explain.which_release import LogRelease, spans
from harness.releases import install_path
from harness.variants.catalogue import available

_BEFORE, _AFTER = 1, 1
_CHECKS = (
    ("average_checkpoints", Check.CHECKPOINT),
    ("save_checkpoint", Check.CHECKPOINT),
    ("resume_checkpoint", Check.CHECKPOINT),
    ("train_epoch", Check.FINETUNE),
    ("_train_epoch", Check.FINETUNE),
    ("validate_epoch", Check.FINETUNE),
    ("_validate_epoch", Check.FINETUNE),
    ("build_model", Check.CONSTRUCT),
    ("__init__", Check.CONSTRUCT),
)
_MOST_CHANGES = 8


def unexplained(error: LoggedError, release: LogRelease, index: ReleaseIndex, cache_folder: Path) -> LogExplanation:
    """Place, code and history of an error without a known cause."""
    own_frame = error.own
    if own_frame is None:
        return LogExplanation(
            owner=Owner.UNKNOWN,
            rule="outside-funasr",
            severity=Severity.BROKEN,
            title=_title(error),
            evidence=tuple(_outside(error)),
            remedy="Give `explain` the whole traceback, from `Traceback (most recent call last)` on."
            if not error.frames
            else "",
            at=error.at,
            ranks=(error.rank,) if error.rank else (),
        )
    return LogExplanation(
        owner=Owner.UNKNOWN,
        rule="no-known-cause",
        severity=Severity.BROKEN,
        title=_title(error),
        evidence=tuple(_history(error, own_frame, release, index, cache_folder)),
        commands=tuple(filter(None, (_cell(error, release, index),))),
        at=error.at,
        ranks=(error.rank,) if error.rank else (),
    )


def _title(error: LoggedError) -> str:
    if not error.type:
        return error.text if error.text and not error.frames else "The traceback ends before its exception"
    return f"{error.type}: {error.text}" if error.text else error.type


def _outside(error: LoggedError) -> Iterator[str]:
    if error.frames:
        last = error.frames[-1]
        yield f"{last.file}:{last.line} in {last.function}: {last.code}"
        yield "no frame of it is FunASR's code"
    else:
        yield "the log has no traceback of it"
        for rule in message_rules():
            if rule.match_text(error) is not None and rule.place:
                issues = f" (known issue {', '.join(rule.issues)})" if rule.issues else ""
                yield f"its text fits `{rule.id}`{issues} if it is raised at that rule's place: only frames can show it"


def _history(
    error: LoggedError, own_frame: Frame, release: LogRelease, index: ReleaseIndex, cache_folder: Path
) -> Iterator[str]:
    yield f"{own_frame.file}:{own_frame.line} in {own_frame.function}: {own_frame.code}"
    if error.frames[-1] is not own_frame:
        last = error.frames[-1]
        yield f"it is raised in {last.file}:{last.line} in {last.function}: {last.code}"
    yield from _quoted(own_frame, release, cache_folder)
    for issue in known_issues():
        if error.signature in issue.failing:
            others = spans(releases_of(issue), index.releases)
            yield f"the known issue {issue.id} has the same signature, and is about another case or releases ({others})"
    if not index.has(own_frame.file):
        yield f"no published release has {own_frame.file}: it is a file of your own, or of a checkout"
        return
    groups = index.same_code(own_frame, release.bits or index.all_bits)
    if not groups:
        yield (
            f"no published release has a function {own_frame.function} at this line of {own_frame.file}: it was edited"
        )
        return
    yield from _changes(own_frame, groups, release, index)


def _changes(own_frame: Frame, groups: dict[int, int], release: LogRelease, index: ReleaseIndex) -> Iterator[str]:
    """In which releases the function's code is the same, where it changed, and whether the newest still has it."""
    of_release = [bits for bits in groups.values() if release.known and bits & release.bits]
    newest = next((bits for bits in groups.values() if bits >> len(index.releases) - 1 & 1), 0)
    if len(of_release) == 1:
        yield f"{own_frame.function} is the same code in {spans(index.versions(of_release[0]), index.releases)}"
        if not newest:
            yield f"the newest release, {index.releases[-1]}, has no such function"
        elif newest == of_release[0]:
            yield f"the newest release, {index.releases[-1]}, still has this code"
        else:
            changed = _first_after(of_release[0], index)
            yield f"it was changed in {changed}, and the newest release, {index.releases[-1]}, has other code"
        return
    firsts = sorted(bits & -bits for bits in groups.values())
    changes = [index.versions(bit)[0] for bit in firsts][1:]
    if changes:
        shown = ", ".join(changes[-_MOST_CHANGES:])
        yield f"{own_frame.function} was changed in {shown}"
    else:
        yield f"{own_frame.function} is the same code in every release that has it"


def _first_after(bits: int, index: ReleaseIndex) -> str:
    last = bits.bit_length()
    return index.releases[last] if last < len(index.releases) else index.releases[-1]


def _quoted(own_frame: Frame, release: LogRelease, cache_folder: Path) -> Iterator[str]:
    """The release's code around the line, where the release is in the cache."""
    place = next((candidate for candidate in released() if candidate.version == release.only), None)
    path = install_path(place, cache_folder) / own_frame.file if place else None
    if path is None or ".." in own_frame.file or not path.is_file():
        return
    lines = path.read_text("utf-8", "replace").split("\n")
    if not 1 <= own_frame.line <= len(lines) or (
        own_frame.code and lines[own_frame.line - 1].strip() != own_frame.code
    ):
        return
    for number in range(max(1, own_frame.line - _BEFORE), min(len(lines), own_frame.line + _AFTER) + 1):
        yield f"{'>' if number == own_frame.line else ' '} {number:5} {lines[number - 1]}"


def _cell(error: LoggedError, release: LogRelease, index: ReleaseIndex) -> str:
    """The cell of the model and the trainer that the frames name."""
    variant = _variant(error)
    files = {frame.file for frame in error.frames}
    if not variant and not files & {"funasr/bin/train.py", "funasr/bin/train_ds.py"}:
        return ""
    functions = {frame.function for frame in error.frames}
    check = next((check for name, check in _CHECKS if name in functions), Check.FINETUNE)
    if any(file.startswith("funasr/datasets/") for file in files) and error.own and "datasets" in error.own.file:
        check = Check.DATA
    entry = Entry.TRAIN_DS if {"funasr/bin/train_ds.py", "funasr/train_utils/trainer_ds.py"} & files else Entry.TRAIN
    version = release.versions[-1] if release.known else index.releases[-1]

    def cell(chosen_check: Check) -> Cell:
        return Cell(
            release=version,
            variant=variant or "paraformer",
            dimensions=Dimensions.parse("v25055-h320" if variant == "sense_voice" else "v8404-h320"),
            depth=Depth.REDUCED,
            check=chosen_check,
            entry=entry if chosen_check.through_trainer else None,
            device=Device.CPU,
            precision=Precision.FP32,
        )

    return cell_command(cell(check))


def _variant(error: LoggedError) -> str:
    """The built-in variant whose model's file the frames go through last."""
    folders = {f"funasr/models/{name}/model.py": name for name in available()}
    return next((folders[frame.file] for frame in error.frames if frame.file in folders), "")
