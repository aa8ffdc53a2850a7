"""What runs on a node: one batch, in a process tree of its own, its outcomes given one by one as they come.

Nothing here knows Ray. The node has an interpreter with torch and the libraries; releases come with the batch, once for
all batches of the node, and speech and model folders are made in its cache, as on any machine.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from harness.config.matrix import Matrix
from harness.core.cells import Cell, Outcome, Release
from harness.core.errors import HarnessError, StackError, listing
from harness.core.temporary import temporary_folder
from harness.corpus.user_speech import OwnSpeech, read_own
from harness.environments.environment import Environment, probe
from harness.releases.cache import default_cache
from harness.releases.placing import is_placed, place_release
from harness.run.cluster.batches import CellBatch
from harness.run.outcome_lines import line_of
from harness.run.prepare import Prepared
from harness.run.progress import RunListener
from harness.run.provenance import Provenance, StackFacts, collect_provenance
from harness.run.runner import CellRunner, RunnerSettings

_LOOK_SECONDS = 0.2
_ENDING_SECONDS = 15.0


class MessageKind(StrEnum):
    """What a node says."""

    MACHINE = "machine"
    """What the node is, before its first cell."""
    STARTED = "started"
    """The id of a cell whose process has started."""
    OUTCOME = "outcome"
    """A line as the store has it, not judged."""
    WARNING = "warning"
    REFUSED = "refused"
    """Why nothing can run there."""


@dataclass(frozen=True, kw_only=True)
class NodeMessage:
    """One thing that a node says."""

    kind: MessageKind
    content: Any


@dataclass(frozen=True, kw_only=True)
class SpeechFiles:
    """A user's own speech: files that every node can read under the same path."""

    train: Path
    valid: Path | None
    root: Path
    """The folder that relative sources are read from."""
    rows: int | None

    @classmethod
    def of(cls, train: Path | None, valid: Path | None, rows: int | None) -> Self | None:
        """The files that a command's options name, from the folder that it was started in."""
        if train is None:
            return None
        return cls(train=train.absolute(), valid=valid.absolute() if valid else None, root=Path.cwd(), rows=rows)


@dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """What all batches of a run have in common."""

    matrix: Matrix
    origin: Provenance
    """Of the run. A node with another environment, or other speech, is refused."""
    trained: frozenset[str]
    """Releases that are imported whole, see `Prepared.trained`."""
    counterexamples: Mapping[str, Mapping[str, str]]
    """Saved counterexamples by cell id."""
    speech: SpeechFiles | None
    cache: Path | None
    """The cache of every node; None for each node's default."""
    jobs: int
    """Cells at the same time."""
    preload: tuple[str, ...]
    preload_for_trainers: tuple[str, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Read-only mappings cannot be sent."""
        limits = replace(self.matrix.limits, timeout_seconds=dict(self.matrix.limits.timeout_seconds))
        return {**self.__dict__, "matrix": replace(self.matrix, limits=limits)}


def run_batch(
    job: ClusterJob, batch: CellBatch, prior: tuple[Outcome, ...], release_file: Callable[[str], bytes]
) -> Iterator[NodeMessage]:
    """Run a batch on this machine; whatever ends it, no process stays.

    Args:
        prior: Outcomes of the store that the cells depend on.
        release_file: Gives a release as `packed_release` made it, by label; called only where the cache lacks it.
    """
    cache = job.cache or default_cache()
    try:
        environment = _environment(cache, os.environ.get("CUDA_VISIBLE_DEVICES"))
        with temporary_folder() as workspace:
            relay = _Relay()
            runner = CellRunner(settings=_settings(job, environment, cache, relay))
            user_speech = _read(job.speech)
            prepared = runner.prepare(
                job.matrix,
                batch.cells,
                workspace,
                user_speech=user_speech,
                rows=job.speech.rows if job.speech else None,
            )
            prepared = prepared.as_part_of(job.trained)
            node_provenance = _provenance(job, prepared)
            _refuse_other(job.origin, node_provenance)
            yield NodeMessage(kind=MessageKind.MACHINE, content=asdict(node_provenance.machine))
            _place(prepared.releases, release_file, cache)
            plan = runner.plan(prepared, batch.cells, workspace, prior=(*prior, *batch.known))
            yield from relay.messages(lambda: runner.execute(plan, prepared, relay.outcome, display=relay))
    except HarnessError as error:
        yield NodeMessage(kind=MessageKind.REFUSED, content=str(error))


@functools.cache
def _environment(cache: Path, _gpus: str | None) -> Environment:
    """Looked at once in each of Ray's workers, and again when it has other GPUs."""
    return probe(cache=cache)


def _settings(job: ClusterJob, environment: Environment, cache: Path, relay: _Relay) -> RunnerSettings:
    return RunnerSettings(
        environment=environment,
        cache=cache,
        rule=lambda outcome: outcome,
        counterexamples=lambda cell: job.counterexamples.get(cell.id, {}),
        jobs=job.jobs,
        preload=job.preload,
        preload_for_trainers=job.preload_for_trainers,
        warn=relay.warn,
    )


def _read(speech: SpeechFiles | None) -> OwnSpeech | None:
    return read_own(speech.train, valid=speech.valid, root=speech.root) if speech else None


def _provenance(job: ClusterJob, prepared: Prepared) -> Provenance:
    stack = prepared.stack
    facts = StackFacts(
        python=stack.python_version, torch=stack.torch_version, cuda=stack.cuda_version, libraries=stack.libraries
    )
    return collect_provenance(job.matrix, facts, corpus_sha256=prepared.speech.sha256)


def _refuse_other(origin: Provenance, on_node: Provenance) -> None:
    if differences := origin.other_sources(on_node):
        problems = [
            f"{difference.name}: {difference.first} where the run was started, {difference.second} on the node"
            for difference in differences
        ]
        raise StackError(
            listing(f"the node {os.uname().nodename} cannot run cells of this run", problems),
            cause="its environment is another, or it cannot read the same files",
            next_step="give all nodes the same image or environment, and start the run from within it",
        )


def _place(releases: Mapping[str, Release], release_file: Callable[[str], bytes], cache: Path) -> None:
    for label, release in releases.items():
        if not is_placed(release, cache):
            place_release(release, release_file(label), cache)


class _Relay(RunListener):
    """Hands on what a process tree says, which is followed in a thread of its own."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[NodeMessage | None] = queue.SimpleQueue()
        self._unwanted = threading.Event()
        self._error: BaseException | None = None

    def messages(self, call: Callable[[], None]) -> Iterator[NodeMessage]:
        """Call it, and give what it says; when these are wanted no more, the process tree is ended."""
        thread = threading.Thread(target=self._follow, args=(call,), name="process tree", daemon=True)
        thread.start()
        try:
            while (message := self._next()) is not None:
                yield message
        finally:
            self._unwanted.set()
            thread.join(_ENDING_SECONDS)
        if self._error:
            raise self._error

    def _next(self) -> NodeMessage | None:
        # Not one long wait: what cancels a task interrupts the main thread, which a wait would not notice.
        while True:
            try:
                return self._said.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue

    def _follow(self, call: Callable[[], None]) -> None:
        try:
            call()
        except _UnwantedError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._said.put(None)

    def outcome(self, outcome: Outcome) -> None:
        """A cell has its outcome."""
        self._said.put(NodeMessage(kind=MessageKind.OUTCOME, content=line_of(outcome)))

    def warn(self, text: str) -> None:
        """The process tree has something to say about itself."""
        self._said.put(NodeMessage(kind=MessageKind.WARNING, content=text))

    def started(self, cell: Cell) -> None:
        """A cell's process has started."""
        self._said.put(NodeMessage(kind=MessageKind.STARTED, content=cell.id))

    def tick(self) -> None:
        """Called many times a second in the thread of the process tree."""
        if self._unwanted.is_set():
            raise _UnwantedError


class _UnwantedError(Exception):
    """The batch was cancelled."""
