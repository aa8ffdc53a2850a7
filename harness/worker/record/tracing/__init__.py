"""Asking a cell's question with a recorder beside it: which modules ran, on what, and what they gave.

A request with `trace` is answered as ever, and its evidence holds the recording under `trace`. The wish:

    passes      numbers of the forward passes of training of which values are recorded; [0] if it is left out.
                Of all others only that which raises is kept, by its forms.
    property    of a cell of `properties`: the one property to ask, and
    example     the counter-example to hold against it.

The recording's format: docs/investigating.md#file-formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core import wire
from harness.worker.process import failures
from harness.worker.record.tracing.recorder import CallRecorder
from harness.worker.release import model
from harness.worker.trainer import children

Answering = Callable[[Mapping[str, Any]], dict[str, Any]]


def answer(request: Mapping[str, Any], answering: Answering) -> dict[str, Any]:
    """The answer with the recording in its evidence; what the check raises is told as its failure, and recorded too."""
    wish = request["trace"]
    overlay = request["release"]["overlay"]
    kept = Path.cwd() / "trace.json"
    recorder = CallRecorder(overlay, request.get("model_class", ""), wish.get("passes", [0]))
    # What is trained in a child is recorded there, and left in a file.
    children.before_leaving.append(lambda: _keep(kept, recorder))
    recorder.start()
    try:
        result = answering(request)
    except Exception as error:
        recorder.stop()
        if type(error).__name__ == "NotInRelease":
            raise
        result = _raised(error, overlay)
    finally:
        recorder.stop()
        children.before_leaving.clear()
    for _, network, _config in model._kept:
        recorder.know(network)
    told = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else recorder.told()
    return {**result, "evidence": {**result.get("evidence", {}), "trace": told}}


def _keep(path: Path, recorder: CallRecorder) -> None:
    """The first child's recording counts: those after it repeat its training under other seeds."""
    if not path.exists():
        wire.write_json(path, recorder.told())


def _raised(error: Exception, overlay: str) -> dict[str, Any]:
    failure = failures.describe(error, overlay)
    kind, _, place = failure["signature"].partition("@")
    reason = f"{kind} in {place}: {failure['message'] or 'no message'}"
    return {"status": failures.status_of(error, overlay), "reason": reason, "failure": failure}
