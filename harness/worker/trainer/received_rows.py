"""Which rows of a user's file reach a training step, read from the release's own datasets during the training.

A dataset of FunASR keeps its rows in `index_ds.contents` and reads them by number. The rows that were read between two
training forward passes are the input of the second, if the training process itself loads the data.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMED = 50
"""Most rows that the metrics list."""


@dataclass
class ReceivedRowsRecorder:
    """Observes the datasets of one training."""

    _loaded: list[tuple[Any, int]] = field(default_factory=list)
    """Index object and number of each row that was read since the last forward pass."""
    _trained: list[tuple[Any, int]] = field(default_factory=list)
    _last: tuple[Any, int] | None = None
    _forwards: int = 0

    def attach(self, model_class: Any) -> None:
        """Observe all registered datasets of the release, and the model's forward passes."""
        import torch
        from funasr.register import tables

        for table, note in (("index_ds_classes", self._indexed), ("dataset_classes", self._read)):
            for dataset_class in set(getattr(tables, table, {}).values()):
                if isinstance(dataset_class, type) and "__getitem__" in vars(dataset_class):
                    _note_reads(dataset_class, note)
        forward, arriving = model_class.forward, self

        @functools.wraps(forward)
        def counting_forward(network: Any, *args: Any, **kwargs: Any) -> Any:
            if network.training and torch.is_grad_enabled():
                arriving._trained += arriving._loaded
                arriving._forwards += 1
            arriving._loaded = []
            return forward(network, *args, **kwargs)

        model_class.forward = counting_forward

    def _indexed(self, index: Any, number: Any) -> None:
        self._last = (index, int(number))

    def _read(self, _dataset: Any, _number: Any) -> None:
        if self._last is not None:
            self._loaded.append(self._last)

    def metrics(self, path: str, lines: Sequence[int], expected: Sequence[int], epochs: int | None) -> dict[str, Any]:
        """Which rows of the trainer's file arrived.

        Args:
            path: The trainer's file.
            lines: For each of its rows, the line in the user's own file.
            expected: Lines that the release's own limits allow.
            epochs: Number of epochs.
        """
        sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        metrics: dict[str, Any] = {"sha256": sha256, "listed": len(lines), "expected": len(expected)}
        counted = self._by_line(path, lines)
        if counted is None or epochs is None:
            return metrics
        missed = [line for line in expected if counted[line] < epochs]
        return {
            **metrics,
            "arrived": len(counted),
            "missed": [{"line": line, "times": counted[line]} for line in missed[:NAMED]],
            "missed_count": len(missed),
            "unforeseen": sorted(counted.keys() - set(expected))[:NAMED],
        }

    def _by_line(self, path: str, lines: Sequence[int]) -> Counter[int] | None:
        """How often each line was trained on; None if unknown."""
        if self._forwards and not self._trained:
            return None
        counted: Counter[int] = Counter()
        known: dict[int, list[int] | None] = {}
        for index, number in self._trained:
            if id(index) not in known:
                known[id(index)] = lines_of(getattr(index, "contents", None), path, lines)
            places = known[id(index)]
            if places is None or number >= len(places):
                return None
            counted[places[number]] += 1
        return counted


def _note_reads(dataset_class: Any, note: Callable[[Any, Any], None]) -> None:
    """Call `note` after each call of a class's `__getitem__`."""
    original = dataset_class.__getitem__

    @functools.wraps(original)
    def read(dataset: Any, number: Any) -> Any:
        row = original(dataset, number)
        note(dataset, number)
        return row

    dataset_class.__getitem__ = read


def lines_of(contents: Any, path: str, lines: Sequence[int]) -> list[int] | None:
    """The line of each row that a release kept, in the file's order; None if they are not the file's rows."""
    if not isinstance(contents, list):
        return None
    numbers, rows = [], iter(zip(rows_of(path), lines, strict=True))
    for indexed in contents:
        line = next((line for row, line in rows if _is(row, indexed)), None)
        if line is None:
            return None
        numbers.append(line)
    return numbers


def rows_of(path: str) -> list[dict[str, Any]]:
    """The rows as FunASR reads them."""
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line.strip()) for line in file]


def _is(row: Mapping[str, Any], indexed: Any) -> bool:
    if not isinstance(indexed, Mapping) or "source" not in row:
        return False
    # Releases change some paths and spaces; everything else is as in the row.
    paths = [str(fields["source"]).replace("/cpfs01", "/cpfs_speech/data") for fields in (row, indexed)]
    texts = [str(fields["target"]).replace(" ", "") for fields in (row, indexed)]
    lengths = [fields.get("source_len", 1) for fields in (row, indexed)]
    return paths[0] == paths[1] and texts[0] == texts[1] and lengths[0] == lengths[1]
