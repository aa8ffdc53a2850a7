"""The trainer's own report of each step: log lines, or the description of its progress bar.

Up to 1.0.17 FunASR writes them into the description of a tqdm bar (`Train epoch: 0/3, …, (loss: 6.542), …`, or `<time>,
rank: 0, epoch: 0/3, …`); later releases log them (`train, rank: 0, …, (loss_avg_rank: 6.542), …`). All append the
statistics (`[('acc', 0.1), …]`), round to three decimals, and report validation in lines of the same form.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OF_VALIDATION = re.compile(r"val, |.*\bvalidation epoch")
_LOSS = re.compile(r"\(loss(?:_avg_rank)?: ([^)\s]+)\)")
_STATISTIC = re.compile(r"\('(\w+)', ([^)\s]+)\)")
RETURNED = "returned loss"
"""The name of the step's loss itself; most lines also have a statistic named `loss`."""


class _Handler(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, str) and _is_of_a_step(record.msg):
            self._lines.append(record.getMessage())


@dataclass
class LogLines:
    """The lines about training steps."""

    lines: list[str] = field(default_factory=list)

    def attach(self) -> None:
        """Start to collect. Hydra replaces all logging handlers, so call this after its start."""
        logging.getLogger().addHandler(_Handler(self.lines))
        try:
            from tqdm import tqdm
        except ImportError:
            return
        original, lines = tqdm.set_description, self.lines

        def set_description(bar: Any, desc: str | None = None, refresh: bool | None = True) -> Any:
            if desc is not None and _is_of_a_step(desc):
                lines.append(desc)
            return original(bar, desc, refresh)

        tqdm.set_description = set_description

    def metrics(self, steps: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
        """Compare each line with the loss and the statistics of its forward pass.

        Args:
            steps: For each forward pass its statistics by name; under `RETURNED` the loss that the model returned.

        Returns:
            `log_lines`: their number; `log_differences`: the largest difference for each logged name.
        """
        differences: dict[str, float] = {}
        for line, known in zip(map(read, self.lines), steps, strict=False):
            for name, printed in line.items():
                value = known.get(name)
                if value is not None:
                    differences[name] = max(differences.get(name, 0.0), _deviation(printed, value))
        return {"log_lines": len(self.lines), "log_differences": differences}


def _is_of_a_step(text: str) -> bool:
    return _LOSS.search(text) is not None and _OF_VALIDATION.match(text) is None


def read(line: str) -> dict[str, float]:
    """The numbers of one line by name; `RETURNED` is the loss of the step."""
    loss_match = _LOSS.search(line)
    numbers = {name: _float(value) for name, value in _STATISTIC.findall(line)}
    if loss_match:
        numbers[RETURNED] = _float(loss_match[1])
    return {name: value for name, value in numbers.items() if value is not None}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _deviation(printed: float, value: float) -> float:
    if math.isnan(printed) or math.isnan(value):
        return 0.0 if math.isnan(printed) and math.isnan(value) else math.inf
    return abs(printed - value) if printed != value else 0.0
