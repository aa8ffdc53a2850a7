"""All parts of preflight in their order: what is cheap and decides the rest comes first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from harness.core.cells import Status
from harness.preflight import rows
from harness.preflight.dry_run import dry_run
from harness.preflight.findings import PreflightPart, Report
from harness.preflight.folder import folder
from harness.preflight.forecast import memory, schedule
from harness.preflight.inputs import Inputs
from harness.preflight.keys import confirm as keys
from harness.preflight.release import combinations, command_in_release, known
from harness.preflight.release.release_questions import ReleaseQuestion, ask_all
from harness.preflight.weights import weights

_log = logging.getLogger(__name__)
PartCheck = Callable[[Inputs], PreflightPart]
Progress = Callable[[str], AbstractContextManager[object]]
"""Shows what goes on for as long as its block lasts."""


def parts() -> Sequence[tuple[str, PartCheck]]:
    """Each part's name, as progress shows it, and its function."""
    return (
        ("the model folder", folder.check),
        ("weights, config and tokens", weights.check),
        ("the training command", command_in_release.check),
        ("every key", keys.check),
        ("what the trainer cannot do", combinations.check),
        ("the rows", rows.check),
        ("the schedule", schedule.check),
        ("memory", memory.check),
        ("known issues of the release", known.check),
        ("dry run", dry_run.check),
    )


def questions() -> Sequence[Callable[[Inputs], ReleaseQuestion | None]]:
    """What the parts will measure within the release; all of it runs in one process tree, before the parts need it."""
    return (rows.question, weights.question, keys.dry_run_question)


def examine(inputs: Inputs, *, progress: Progress = nullcontext) -> Report:
    """Everything that preflight has to say about these inputs.

    A part that fails by a fault of the harness's is named in `Report.faults`, and takes no other along.
    """
    results, faults = [PreflightPart(findings=inputs.command.findings)], []
    if release_questions := [question for make in questions() if (question := _guarded(make, inputs)) is not None]:
        with progress(f"running FunASR {inputs.release.label} on your files"):
            ask_all(inputs, release_questions)
    for name, check in parts():
        try:
            with progress(f"checking {name}"):
                results.append(check(inputs))
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")
            _log.debug("%s", name, exc_info=True)
    return Report.of(inputs.release.label, results, faults=faults, unanswered=_unanswered(inputs))


_SUBJECTS = {"preflight.rows": "rows", "preflight.tensors": "weights", "preflight.dry_run": "dry run"}
"""What the measurements are about; the other only confirms what reading the code says."""


def _unanswered(inputs: Inputs) -> list[str]:
    """What the release did not answer in time, or by a fault of this machine."""
    lost = (Status.TIMED_OUT, Status.ERRORED)
    names = [key.partition(" ")[0] for key, outcome in inputs.answers.items() if outcome.status in lost]
    return [subject for name, subject in _SUBJECTS.items() if name in names]


def _guarded(make: Callable[[Inputs], ReleaseQuestion | None], inputs: Inputs) -> ReleaseQuestion | None:
    """The question, unless it cannot be made: its part will say why."""
    try:
        return make(inputs)
    except Exception:
        return None
