"""The checks after the contract: an earlier run of the same release, to the byte, shows how they end.

What they use of their release is not recorded: most import it whole and start processes of their own. So their
fingerprint is the whole release. On a CPU the same release, request and environment give the same losses to the last
digit, and the same examples; what that took in time and memory is the machine's, and is not taken over.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.core.cells import Check

CHECKS = frozenset(check for check in Check if check.facts.through_trainer) | {Check.PROPERTIES}

MEASURED = frozenset(
    {
        "peak_resident_bytes", "step_seconds", "phase_seconds", "samples_per_second", "audio_seconds_per_second",
        "utilisation", "seconds_by_property",
    }
)  # fmt: skip
"""Metrics of time and memory, wherever they stand among the metrics: never taken over. `held_bytes` is, because the
invariant `memory` is judged by it."""
_NEVER_EQUAL = frozenset({"held_bytes", "running_seconds", "idle_seconds"})
"""Differ in every run. Rules decide by them only where memory grows or steps sleep, which is more than that."""
_FILES = ("train", "valid", "held_out")
"""Of a request's `data`: files of the run's own folder, which is another in each run."""
_PASSING = re.compile(r"(?<=<workspace>/scratch/)\d+|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")
"""What a trainer prints and no run repeats: the cell's own folder, named after its place in the plan, and the time."""


def request_key(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The request, with the content of its files in place of their paths.

    Returns:
        None where an earlier run shows nothing: the rows are a user's, whose audio nobody watches; several processes
        train, and how long they wait for each other is measured; or a file cannot be read.
    """
    data = request.get("data", {})
    if "own" in data or request.get("finetune", {}).get("processes", 1) > 1:
        return None
    try:
        content = {name: _sha256(str(data[name])) for name in _FILES if name in data}
    except OSError:
        return None
    return {**request, "data": {**data, **content}}


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def without(value: Any, names: Collection[str]) -> Any:
    """A record without these keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: without(part, names) for key, part in value.items() if key not in names}
    if isinstance(value, list | tuple):
        return [without(part, names) for part in value]
    return value


def steady(outcome: Mapping[str, Any]) -> Any:
    """What of a cell's outcome is equal whenever it is run on one machine."""
    text = json.dumps(without(outcome, MEASURED | _NEVER_EQUAL))
    return json.loads(_PASSING.sub("", text))
