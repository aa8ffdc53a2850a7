"""Which jsonl files the training reads, resolved as FunASR resolves them."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.core.cells import Severity
from harness.preflight.command.hydra_words import path_to_type
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.worker.trainer import options

Role = Literal["train", "valid"]

KEYS: dict[Role, str] = {"train": "train_data_set_list", "valid": "valid_data_set_list"}
NAMES: dict[Role, str] = {"train": "training", "valid": "validation"}

MOST_LIST_BYTES = 4 << 20
"""Of a file that lists jsonl files."""

_JSONL = (".jsonl", ".json")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The training rows, or the validation rows."""

    role: Role
    given: str
    """As the user named it; what FunASR is called with."""
    place: Place
    """Where it was named."""
    files: tuple[Path, ...]
    """The jsonl files, absolute: one, or those of a list."""

    listed: bool = False
    """Whether `given` is a list of the files."""

    @property
    def trainer_path(self) -> str:
        """What the trainer is called with."""
        return self.given if self.listed else str(self.files[0])

    @property
    def name(self) -> str:
        """How a message names it."""
        return Path(self.given).name


@dataclass(frozen=True, kw_only=True)
class DataSets:
    """What the training reads, as far as it is there."""

    sets: tuple[DataSet, ...]
    findings: tuple[PreflightFinding, ...]

    def of(self, role: Role) -> DataSet | None:
        """The set of this role, if it can be read."""
        return next((data_set for data_set in self.sets if data_set.role == role), None)


def data_sets(inputs: Inputs) -> DataSets:
    """The data sets that the user or the command named; what is missing is a finding."""
    sets, findings = [], []
    for role in KEYS:
        value, place = _named(inputs, role)
        for data_set in _resolve(inputs, role, value, place):
            if isinstance(data_set, PreflightFinding):
                findings.append(data_set)
            else:
                sets.append(data_set)
    return DataSets(sets=tuple(sets), findings=tuple(findings))


def named(inputs: Inputs, role: Role) -> bool:
    """Whether anybody named a set of this role."""
    return _named(inputs, role)[0] not in (None, "")


def _named(inputs: Inputs, role: Role) -> tuple[Any, Place]:
    key = KEYS[role]
    path_given = inputs.train if role == "train" else inputs.valid
    if path_given is not None:
        return str(path_given), Place(file=str(path_given))
    return inputs.settings.get(key), inputs.settings.place(key)


def _resolve(inputs: Inputs, role: Role, value: Any, place: Place) -> Iterator[DataSet | PreflightFinding]:
    if value is None or (value == "" and role == "valid"):
        # `harness.preflight.release.combinations` says that the trainer needs a validation set.
        return
    if value == "":
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="no-training-set",
            message="the training set is an empty name: the trainer stops when it opens it (FileNotFoundError: '')",
            place=place,
            remedy=f"++{KEYS[role]}=train.jsonl",
        )
        return
    if not isinstance(value, str):
        # Such as [wav.scp, text.txt], which some releases take and turn into a jsonl of their own.
        return
    path = inputs.root / value
    if (problem := file_problem(path)) is not None:
        yield _missing(inputs, role, value, place, problem)
        return
    if path.suffix in _JSONL or not options.dataset_options(str(inputs.install_dir)).list_files:
        yield DataSet(role=role, given=value, place=place, files=(path,))
        return
    yield from _listed(inputs, role, value, path)


def file_problem(path: Path) -> str | None:
    """Why a file cannot be read as one: missing, a folder, a pipe; None if it is a regular file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or "no such file"
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return None if stat.S_ISREG(mode) else "it is no regular file"


def _missing(inputs: Inputs, role: Role, value: str, place: Place, problem: str) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="data-file",
        message=f"the {NAMES[role]} set cannot be opened ({problem}): the trainer stops before the first step",
        place=place,
        evidence=(f"{value}, read from the working directory {inputs.root}",),
        remedy=path_to_type(KEYS[role], f"/ABSOLUTE/PATH/{Path(value).name or f'{role}.jsonl'}"),
    )


def _listed(inputs: Inputs, role: Role, value: str, path: Path) -> Iterator[DataSet | PreflightFinding]:
    """The jsonl files of a list; where it is rows itself, the finding that FunASR takes it for a list."""
    with path.open("rb") as file:
        text = file.read(MOST_LIST_BYTES).decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    if lines and lines[0].lstrip("\ufeff").startswith("{"):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="data-file-name",
            message=f"its name does not end in {' or '.join(_JSONL)}, so this release takes it for a list of jsonl "
            "files and opens each row as a path: FileNotFoundError",
            place=Place(file=value, line=1),
            remedy=shlex.join(["mv", "--", path.name, f"{path.stem}.jsonl"]),
        )
        return
    missing = [(number, line) for number, line in enumerate(lines, 1) if file_problem(inputs.root / line) is not None]
    if missing or not lines:
        number, line = missing[0] if missing else (1, "")
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="data-file",
            message=f"the list of {NAMES[role]} files names a file that cannot be opened: the trainer stops there",
            place=Place(file=value, line=number),
            evidence=(f"{line or 'an empty line'}, read from the working directory {inputs.root}",),
            remedy="name each jsonl by its absolute path, a line each, without blank lines",
            count=max(1, len(missing)),
        )
        return
    yield DataSet(
        role=role, given=value, place=Place(file=value), listed=True, files=tuple(inputs.root / line for line in lines)
    )
