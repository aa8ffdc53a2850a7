"""The figures of a watched training as TensorBoard scalars, written with tensorboardX where it is installed.

Each rank is a run of its own, so that TensorBoard draws the curves of all ranks in one picture.
The event files are written in this process's own thread: tensorboardX's usual writer has a thread that ends on a full
disk, and then waits for ever.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.watch.overview import baseline
from harness.watch.records import TrainingStep
from harness.watch.state import RankState, TrainingState, figures

FOLDER = "tensorboard"
EVERY_SECONDS = 5.0
_BYTES = frozenset({"resident", "allocated", "reserved"})


class ScalarWriter:
    """Writes what is new in a state into `folder/tensorboard`; nothing it meets ends the watching."""

    def __init__(self, state: TrainingState, folder: Path) -> None:
        self._state, self._folder = state, folder / FOLDER
        self._written: dict[str, int] = {}
        self._validated: dict[str, int] = {}
        self._files: dict[str, Any] = {}
        self._next = 0.0
        self.problem = "" if _library() else "no TensorBoard scalars: tensorboardX is not installed with the harness"
        """Why nothing is written (any more); empty while all is well."""

    def update(self) -> None:
        """Write what is new; may be called many times a second, and writes every few seconds."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_SECONDS
            self._update()

    def _update(self) -> None:
        if self.problem:
            return
        try:
            for file, rank in self._state.ranks.items():
                if rank.recent:
                    self._write(file, rank)
        except OSError as error:
            self.problem = f"no more TensorBoard scalars: {self._folder}: {error.strerror or error}"
            self._close()
        except Exception as error:  # another tensorboardX raises what it likes, and must not end the watching
            self.problem = f"no more TensorBoard scalars: {type(error).__name__}: {error}"
            self._close()

    def close(self) -> None:
        """Write the rest and close the files."""
        self._update()
        self._close()

    def _close(self) -> None:
        for writer in self._files.values():
            try:
                writer.close()
            except OSError as error:
                self.problem = self.problem or f"TensorBoard scalars may lack their end: {error.strerror or error}"
        self._files.clear()

    def _write(self, file: str, rank: RankState) -> None:
        last = self._written.get(file, 0)
        new = [step for step in rank.recent if step.step > last]
        validations = rank.validations[self._validated.get(file, 0) :]
        if not new and not validations:
            return
        events = self._open(file, rank)
        for step in new:
            _add(events, step.at, step.step, _scalars(step, rank))
        for validation in validations:
            values = {"loss": validation.loss, **validation.stats}
            scalars = {f"validation/{name}": value for name, value in values.items() if value is not None}
            _add(events, validation.at, validation.step, scalars)
        self._written[file] = new[-1].step if new else last
        self._validated[file] = len(rank.validations)
        events.flush()

    def _open(self, file: str, rank: RankState) -> Any:
        if file not in self._files:
            from tensorboardX.event_file_writer import EventsWriter

            run = self._folder / f"rank{rank.rank}"
            run.mkdir(parents=True, exist_ok=True)
            # Two processes of one rank, as a command that trains twice has them, get a file each.
            self._files[file] = EventsWriter(str(run / "events"), f".{len(self._files)}")
        return self._files[file]


def _library() -> bool:
    try:
        with _without_torch():
            import tensorboardX  # noqa: F401
    except Exception:  # a broken installation raises what it likes
        return False
    return True


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX imports torch where it can, which takes seconds, and does without it where it cannot."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # which is how an import is made to fail
    try:
        yield
    finally:
        del sys.modules["torch"]


def _scalars(step: TrainingStep, rank: RankState) -> dict[str, float]:
    scalars = {}
    for name, value in figures(step).items():
        scalars[f"memory_MiB/{name}" if name in _BYTES else f"train/{name}"] = value / (2**20 if name in _BYTES else 1)
    attention = baseline(step, rank.training)
    if attention is not None:
        scalars["train/unigram_baseline_of_loss_att"] = attention
    return scalars | {f"seconds/{name}": value for name, value in step.seconds.items()}


def _add(events: Any, at: float, step: int, values: dict[str, float]) -> None:
    # Not by tensorboardX's own function: that prints a line for each NaN.
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    events.write_event(Event(wall_time=at, step=step, summary=summary))
