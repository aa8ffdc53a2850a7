"""Outcomes of earlier schemas: their records, ids and words as the present harness writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SCHEMA = 4
"""Version of the format of an outcome on disk."""

EARLIER_DEPTHS = {"published": "full", "slim": "reduced"}
"""What the depths were called in schema 1."""

_METRICS = {"promises": "invariants"}
"""Keys of schema 2, of a fine-tuning's metrics and of the verdict on them."""
_EVIDENCE = {"dialect": "trainer_options", "pace": "convergence"}

_NOT_TESTED = {
    "not_asked": "not_observed",
    "questions_not_asked": "questions_not_tested",
    "not asked": "not_measured",
}
"""Keys of schema 3: of the verdict on a trainer's invariants, of the figures of `data`, and of those of the ranks."""

_DEPTH_IN_ID = re.compile(r"(?<=/)(v[0-9]+-h[0-9]+)/(slim|published)(?=/)")
_BLOCKED = re.compile(r"^stands on (?=\S+, which )")
_WRONG_WIDTH = re.compile(r"\bwas handed (?=tensors [0-9])")


def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """An outcome's record in the present schema.

    Raises:
        ValueError: it is of a schema that this harness does not know.
        KeyError: a field is missing.
    """
    if data["schema"] == SCHEMA:
        return data
    if data["schema"] == 1:
        return _from_third(_from_second(_from_first(data)))
    if data["schema"] == 2:
        return _from_third(_from_second(data))
    if data["schema"] == 3:
        return _from_third(data)
    raise ValueError(f"outcome of schema {data['schema']}, this harness reads 1 to {SCHEMA}")


def with_present_ids(text: str) -> str:
    """A text with the cell ids in it as they are written now."""
    return _DEPTH_IN_ID.sub(lambda match: f"{match[1]}/{EARLIER_DEPTHS[match[2]]}", text)


def _from_first(data: Mapping[str, Any]) -> Mapping[str, Any]:
    present = {key: value for key, value in data.items() if key != "adaptations"}
    if "cell" in data:
        cell = dict(data["cell"])
        depth = cell.pop("scale")
        present["cell"] = {**cell, "depth": EARLIER_DEPTHS.get(depth, depth)}
    evidence = dict(data["evidence"])
    if "blocked_by" in evidence:
        evidence["blocked_by"] = with_present_ids(str(evidence["blocked_by"]))
    return {
        **present,
        "id": with_present_ids(str(data["id"])),
        "reason": with_present_ids(data["reason"]),
        "metrics": _with_equals(data["metrics"]) if "/checkpoint" in data["id"] else data["metrics"],
        "evidence": evidence,
        "shims": data["adaptations"],
    }


def _from_second(data: Mapping[str, Any]) -> Mapping[str, Any]:
    evidence, failure = _renamed(data["evidence"], _EVIDENCE), data["failure"]
    if isinstance(evidence.get("training"), Mapping):
        evidence = {**evidence, "training": _renamed(evidence["training"], _METRICS)}
    return {
        **data,
        "reason": _in_present_words(data["reason"]),
        "failure": {**failure, "message": _in_present_words(failure["message"])} if failure else failure,
        "metrics": _renamed(data["metrics"], _METRICS),
        "evidence": evidence,
    }


def _from_third(data: Mapping[str, Any]) -> Mapping[str, Any]:
    parts = {part: _with_not_tested(data[part]) for part in ("metrics", "evidence")}
    return {**data, "schema": SCHEMA, **parts}


def _with_not_tested(value: Any) -> Any:
    """A value of a record with the keys and the status of schema 4 at every depth."""
    if isinstance(value, Mapping):
        return {_NOT_TESTED.get(key, key): _with_not_tested(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_not_tested(item) for item in value]
    return "not_tested" if value == "not_asked" else value


def _renamed(record: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    return {names.get(key, key): value for key, value in record.items()}


def _in_present_words(text: str) -> str:
    """The reason of a blocked cell, or of a failed loss contract."""
    return _WRONG_WIDTH.sub("received ", _BLOCKED.sub("depends on ", text))


def _with_equals(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metrics of `checkpoint` with the key `equals`, which was `is`."""
    loading = metrics.get("loading")
    if not isinstance(loading, Mapping):
        return metrics
    present = {
        name: _renamed(loaded, {"is": "equals"}) if isinstance(loaded, Mapping) else loaded
        for name, loaded in loading.items()
    }
    return {**metrics, "loading": present}
