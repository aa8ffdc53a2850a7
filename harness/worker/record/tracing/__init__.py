"""Running a cell's check under a recorder: which modules ran, with which inputs and outputs.

A request with `trace` is run as usual, and its evidence holds the recording under `trace`. The trace options:

    passes      indices of the training forward passes whose values are recorded; default [0].
                Of other passes only one that raises is kept, with shapes only.
    property    for the check `properties`: the one property to evaluate, and
    example     the counter-example to evaluate it for.

The recording's format: docs/investigating.md#file-formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core import wire
from harness.worker.record.tracing.recorder import CallRecorder
from harness.worker.release import findings, model
from harness.worker.trainer import children

Answering = Callable[[Mapping[str, Any]], dict[str, Any]]


def run_traced(request: Mapping[str, Any], answering: Answering) -> dict[str, Any]:
    """The check's result with the recording in its evidence; an exception is recorded as the result's failure."""
    trace_options = request["trace"]
    install_dir = request["release"]["install_dir"]
    trace_file = Path.cwd() / "trace.json"
    recorder = CallRecorder(install_dir, request.get("model_class", ""), trace_options.get("passes", [0]))
    # A training in a child is recorded there and saved to a file.
    children.before_exit.append(lambda: _keep(trace_file, recorder))
    recorder.start()
    try:
        result = answering(request)
    except Exception as error:
        recorder.stop()
        if type(error).__name__ == "NotInRelease":
            raise
        result = findings.raised(error, install_dir)
    finally:
        recorder.stop()
        children.before_exit.clear()
    for network in model.constructed:
        recorder.note_structure(network)
    recording = json.loads(trace_file.read_text(encoding="utf-8")) if trace_file.exists() else recorder.to_dict()
    return {**result, "evidence": {**result.get("evidence", {}), "trace": recording}}


def _keep(path: Path, recorder: CallRecorder) -> None:
    """Write the first child's recording only: later children repeat its training with other seeds."""
    if not path.exists():
        wire.write_json(path, recorder.to_dict())
