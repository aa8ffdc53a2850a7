"""Where a run's outcomes come from: `run.json`.

What is written here is published with the results, so it names no host, no user and no folder of the
machine: a path is relative to the folder in which the run was started.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from harness import __version__
from harness.config.matrix import Matrix
from harness.config.shards import ShardOrigin
from harness.core.cells import Cell, Check
from harness.core.evidence.parsing import parse
from harness.core.wire import now
from harness.run.cpu_info import processor_name
from harness.worker.process import isolation

SCHEMA = 1
"""Version of the form of `run.json`."""


@dataclass(frozen=True, kw_only=True)
class StackFacts:
    """What the stack's own interpreter says of itself; the outside cannot know it."""

    python: str
    torch: str
    cuda: str | None
    """The CUDA that torch was built for; None for a CPU build."""
    libraries: Mapping[str, str]
    """Version by distribution name."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run is made on, as far as it can be known without torch."""

    host: str
    """Operating system and architecture, never the host's name."""
    processor: str
    cpu_count: int
    """Processors that this process may use."""
    memory_bytes: int | None
    gpus: tuple[str, ...]
    """Names of the GPUs, in the driver's order; empty when there is none or no driver."""
    driver: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` made.

        Raises:
            ValueError: a field is missing or unknown.
        """
        if set(data) != set(cls.__dataclass_fields__):
            raise ValueError("a machine has not the fields " + ", ".join(cls.__dataclass_fields__))
        return cls(**{**data, "gpus": tuple(data["gpus"])})


@dataclass(frozen=True, kw_only=True)
class Unequal:
    """What two runs have different values of, in words."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class ReuseFacts:
    """What was reused in a run, and how that was checked; see `harness.run.reuse`."""

    seed: int
    """Of the draw of cells that ran although they could have been reused; another in every run."""
    reused: int
    """Cells that were not run."""
    confirmed: int
    """Cells that were drawn, and ended as another cell had shown."""
    refuted: tuple[str, ...] = ()
    """Ids of those that ended otherwise: of their checks nothing was reused then."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote."""
        return cls(**{**data, "refuted": tuple(data["refuted"])})

    @property
    def not_reusable(self) -> frozenset[Check]:
        """The checks of `refuted`, and those that depend on them."""
        wrong = [Cell.parse(name).check.position for name in self.refuted]
        return frozenset(check for check in Check if any(position <= check.position for position in wrong))

    def and_earlier(self, earlier: ReuseFacts | None) -> ReuseFacts:
        """The facts of a run that was resumed."""
        if earlier is None:
            return self
        return replace(
            self,
            reused=self.reused + earlier.reused,
            confirmed=self.confirmed + earlier.confirmed,
            refuted=(*earlier.refuted, *self.refuted),
        )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the outcomes of one run come from."""

    schema: int = SCHEMA
    host: str
    """Operating system and architecture, never the host's name."""
    processor: str
    cpu_count: int
    memory_bytes: int | None
    gpus: tuple[str, ...]
    driver: str | None
    python: str
    torch: str
    cuda: str | None
    libraries: Mapping[str, str]
    """Version by distribution name."""
    matrix: str
    """The matrix's name."""
    matrix_sha256: str
    cells: int
    """How many the matrix has, selected or not."""
    selection: tuple[str, ...]
    """The globs that cells were selected by; empty means all."""
    corpus_sha256: str | None
    """None while no cell needed speech."""
    harness_version: str
    harness_commit: str | None
    """None when the harness does not run from a git checkout."""
    harness_dirty: bool | None
    """Whether its code differs from the commit's."""
    arguments: tuple[str, ...] = ()
    """What was typed after `funasr-harness run`, as far as it shapes the outcomes: the matrix and options with their
    values, paths as `harness.run.repeat_commands.near` gives them. Empty in a run of an older harness."""
    earlier_commits: tuple[str, ...] = ()
    """Other commits of the harness that wrote into this run before it was gone on with; `+` marks changed code."""
    speech: str | None = None
    """What is trained and validated on, in words; None while no cell needed speech, and in older runs."""
    notices: tuple[str, ...] = ()
    """What is odd about a user's own files, and what the harness did with them."""
    started: str
    """UTC, ISO 8601, to the second."""
    finished: str | None = None
    """None while it runs, or when it was broken off."""
    selected: int | None = None
    """How many cells outcomes are expected of; None in a run that was made before this was noted."""
    isolation: tuple[str, ...] | None = None
    """What the kernel kept cells from, in words; None in a run that was made before this was noted."""
    reuse: ReuseFacts | None = None
    """None where every cell was to be run."""
    shard: ShardOrigin | None = None
    """Which part of the matrix it is, where it was split into shards."""
    other_machines: tuple[Machine, ...] = ()
    """Further machines that cells ran on, besides the one that `host` to `driver` describe."""

    def to_json(self) -> dict[str, object]:
        """The record as `run.json` holds it."""
        return asdict(self) | {"libraries": dict(sorted(self.libraries.items()))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is of another schema, or a field is missing or unknown.
        """
        if not isinstance(data, Mapping):
            raise ValueError("no JSON object")  # noqa: TRY004 - as for everything else that is wrong with it
        if data.get("schema") != SCHEMA:
            raise ValueError(f"run of schema {data.get('schema')}, this harness reads {SCHEMA}")
        expected = {field.name for field in fields(cls)}
        # Older runs say nothing of these.
        data = {
            "speech": None,
            "notices": (),
            "arguments": (),
            "selected": None,
            "isolation": None,
            "reuse": None,
            "shard": None,
            "other_machines": (),
            **data,
        }
        if set(data) != expected:
            raise ValueError(f"fields missing or unknown: {', '.join(sorted(set(data) ^ expected))}")
        return parse(cls, data, place="run", strict=True)

    @property
    def machine(self) -> Machine:
        """What it was made on; in a run of several machines, the first of them."""
        return Machine(**{field.name: getattr(self, field.name) for field in fields(Machine)})

    def differences(self, other: Provenance) -> tuple[str, ...]:
        """Why outcomes of these two must not stand in one run; empty when they may.

        Only what is made on one machine with one stack from one matrix and corpus can be compared.
        """
        problems = [
            f"{difference.name}: {difference.first} there, {difference.second} now"
            for difference in (*self._unequal(other, _ON_ONE_MACHINE), *self.other_sources(other))
        ]
        if self.shard != other.shard:
            problems.append(f"shard: {_shard(self.shard)} there, {_shard(other.shard)} now")
        return tuple(problems)

    def other_sources(self, other: Provenance) -> tuple[Unequal, ...]:
        """What differs of matrix, environment and corpus; machines may differ."""
        differences = self._unequal(other, _FROM_ONE_SOURCE)
        own_sha256, other_sha256 = self.corpus_sha256, other.corpus_sha256
        if own_sha256 and other_sha256 and own_sha256 != other_sha256:
            differences.append(
                Unequal(name="corpus", first=f"sha256 {own_sha256[:8]}…", second=f"sha256 {other_sha256[:8]}…")
            )
        for name in sorted({*self.libraries, *other.libraries}):
            own_version, other_version = self.libraries.get(name), other.libraries.get(name)
            if own_version != other_version:
                differences.append(Unequal(name=name, first=_in_words(own_version), second=_in_words(other_version)))
        return tuple(differences)

    def _unequal(self, other: Provenance, names: Sequence[str]) -> list[Unequal]:
        return [
            Unequal(name=name.replace("_", " "), first=_in_words(own_value), second=_in_words(other_value))
            for name in names
            if (own_value := getattr(self, name)) != (other_value := getattr(other, name))
        ]

    def merge_resumed(self, later: Provenance) -> Provenance:
        """This run, continued by `now`: it began when this began, and covers what either selected."""
        commits = dict.fromkeys((*self.earlier_commits, self.code))
        commits.pop(later.code, None)
        union = tuple(dict.fromkeys((*self.selection, *later.selection))) if self.selection and later.selection else ()
        return replace(
            later,
            started=self.started,
            selection=union,
            corpus_sha256=later.corpus_sha256 or self.corpus_sha256,
            earlier_commits=tuple(commits),
            reuse=self.reuse,
            selected=max((count for count in (self.selected, later.selected) if count is not None), default=None),
            other_machines=tuple(dict.fromkeys((*self.other_machines, *later.other_machines))),
        )

    def missing(self, outcomes: int) -> int:
        """How many cells of which an outcome is expected have none, of a run with so many outcomes.

        Of a part of a matrix that was selected before the number was noted, nobody knows.
        """
        expected = self.selected if self.selected is not None else 0 if self.selection else self.cells
        return max(0, expected - outcomes)

    @property
    def code(self) -> str:
        """The harness's code in one word: `1a2b3c`, with `+` when changed, or the version without git."""
        return (
            f"{self.harness_commit}{'+' if self.harness_dirty else ''}" if self.harness_commit else self.harness_version
        )


_FROM_ONE_SOURCE = ("matrix", "matrix_sha256", "python", "torch", "cuda")
_ON_ONE_MACHINE = ("host", "processor", "cpu_count", "gpus", "driver")


def collect_provenance(
    matrix: Matrix,
    stack: StackFacts,
    *,
    corpus_sha256: str | None,
    selection: Sequence[str] = (),
    speech: str | None = None,
    notices: Sequence[str] = (),
    arguments: Sequence[str] = (),
    selected: int | None = None,
    shard: ShardOrigin | None = None,
) -> Provenance:
    """All that is to be known before the first cell runs."""
    machine = this_machine()
    commit, dirty = _commit(Path(__file__).parent)
    return Provenance(
        host=machine.host,
        processor=machine.processor,
        cpu_count=machine.cpu_count,
        memory_bytes=machine.memory_bytes,
        gpus=machine.gpus,
        driver=machine.driver,
        python=stack.python,
        torch=stack.torch,
        cuda=stack.cuda,
        libraries=stack.libraries,
        matrix=matrix.name,
        matrix_sha256=matrix.sha256,
        cells=len(matrix.cells),
        selection=tuple(selection),
        arguments=tuple(arguments),
        corpus_sha256=corpus_sha256,
        harness_version=__version__,
        harness_commit=commit,
        harness_dirty=dirty,
        started=now(),
        speech=speech,
        notices=tuple(notices),
        selected=selected,
        isolation=isolation.supported(),
        shard=shard,
    )


def code_state() -> tuple[str | None, bool | None]:
    """The commit that the harness runs from, and whether its code differs; None outside a git checkout."""
    return _commit(Path(__file__).parents[1])


def this_machine() -> Machine:
    """The machine as the operating system and the GPU's driver describe it."""
    gpus, driver = _gpus()
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        host=platform.platform(),
        processor=processor_name(),
        cpu_count=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_bytes=_memory(),
        gpus=gpus,
        driver=driver,
    )


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> tuple[tuple[str, ...], str | None]:
    """Names and driver; nothing where there is no driver, which is how most machines are."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles), str(
            pynvml.nvmlSystemGetDriverVersion()
        )
    except pynvml.NVMLError:
        return (), None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _commit(folder: Path) -> tuple[str | None, bool | None]:
    """The commit that `folder` is checked out from, and whether what is tracked or new in it differs."""
    # Installed into an environment within some other checkout, the code has no commit: git does not track it.
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(folder, "rev-parse", "HEAD") if tracked else None
    changes = _git(folder, "status", "--porcelain", "--", ".") if commit else None
    return (commit, bool(changes)) if commit and changes is not None else (None, None)


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    # A git hook that runs the harness sets GIT_DIR for a repository of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        completed = subprocess.run(
            [git, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() if completed.returncode == 0 else None


def _shard(shard: ShardOrigin | None) -> str:
    return f"{shard.name} of the split {shard.split_sha256[:8]}" if shard else "the whole matrix"


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
