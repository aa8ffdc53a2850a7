"""Questions of preflight, answered in children that have torch already: a process tree would import it each time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from forked import Forked
from user_folders import environment

from harness.core.cells import Outcome, Status
from harness.preflight.inputs import Inputs
from harness.preflight.release import release_questions
from harness.preflight.release.release_questions import ReleaseQuestion


def answer(install_dir: str, version: str, name: str, request: Mapping[str, Any], paths: list[str]) -> dict[str, Any]:
    """In a child with torch: what the dispatcher gives."""
    sys.path[:0] = paths
    from harness.worker.checks import dispatch
    from harness.worker.release import importer

    importer.import_components_only(install_dir, version)
    release = {"install_dir": install_dir, "version": version, "label": version}
    return dispatch.run({**request, "check": name, "device": "cpu", "release": release})


def asker(forked: Forked) -> Callable[[Inputs, ReleaseQuestion], Outcome]:
    """In the place of `ask_release`."""

    def ask(inputs: Inputs, question: ReleaseQuestion) -> Outcome:
        if question.key in inputs.answers:
            return inputs.answers[question.key]
        found = forked(
            answer,
            install_dir=str(inputs.install_dir),
            version=inputs.release.version,
            name=question.name,
            request=dict(question.request),
            paths=[str(path) for path in environment().extra_paths],
        )
        inputs.answers[question.key] = Outcome(
            cell=release_questions._cell(inputs, 0),
            status=Status(found["status"]),
            reason=found["reason"],
            evidence=found["evidence"],
        )
        return inputs.answers[question.key]

    return ask


def refuse(inputs: Inputs, _question: ReleaseQuestion) -> Outcome:
    """In the place of `ask_release`, for what is found without the release."""
    cell = release_questions._cell(inputs, 0)
    return Outcome(cell=cell, status=Status.ERRORED, reason="the release is not asked here")
