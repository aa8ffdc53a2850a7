"""When a user's own training meets a known issue: conditions on its settings and files, as the issue states them.

A condition is a name and a test. A name is a setting's dotted path or one of `FACTS`; a test compares (`>1`, `==cpu`,
`!=example`), or says `set`, `unset`, `on` or `off`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FACTS: Mapping[str, str] = {
    "processes": "how many processes train",
    "device": "cuda or cpu",
    "one_character_rows": "rows whose text is one character",
    "configuration.json": "whether the model folder has this file",
    "resumes_within_epoch": "whether the newest checkpoint in the output folder was saved within an epoch",
}
"""What a condition may name besides settings."""

DEFAULTS: Mapping[str, Any] = {
    "train_conf.accum_grad": 1,
    "dataset_conf.batch_type": "example",
    "model_conf.predictor_weight": 0.0,
    "model_conf.predictor_bias": 0,
    "model_conf.train_decoder": False,
    "train_conf.find_unused_parameters": False,
    "ctc_conf.dropout_rate": 0.0,
}
"""What FunASR's code takes where a setting is not there."""

_NAME = re.compile(r"[a-z_]\w*(?:\.\w+)+", re.ASCII)
_NUMBER = r"-?\d+(?:\.\d+)?"
_TEST = re.compile(rf"(?P<operator>[<>]=?(?={_NUMBER}\Z)|[=!]=)(?P<value>\S+)|set|unset|on|off", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of a known issue."""

    name: str
    test: str

    def __str__(self) -> str:
        return f"{self.name} {self.test}"

    @property
    def of_a_setting(self) -> bool:
        """Whether it is about a setting."""
        return self.name not in FACTS

    def problem(self) -> str:
        """What is wrong with it as it is written; empty where nothing is."""
        if self.of_a_setting and not _NAME.fullmatch(self.name):
            return f"expected a setting such as train_conf.accum_grad, or one of {', '.join(FACTS)}"
        if not _TEST.fullmatch(self.test):
            return "expected a test such as >1, ==cpu, !=example, set, unset, on or off"
        return ""

    def holds(self, value: Any) -> bool:
        """Whether the condition holds for a value; None means that it is not set."""
        match = _TEST.fullmatch(self.test)
        if match is None or match["operator"] is None:
            return {"set": value is not None, "unset": value is None, "on": bool(value), "off": not value}[self.test]
        operator = match["operator"]
        if operator in ("==", "!="):
            return _equal(value, match["value"]) is (operator == "==")
        try:
            return _ORDER[operator](float(value), float(match["value"]))
        except (TypeError, ValueError):
            return False


def _equal(value: Any, text: str) -> bool:
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value) == text


_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
}
