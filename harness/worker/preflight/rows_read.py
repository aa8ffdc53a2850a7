"""Which row a release's dataset reads, and with which the trainer ends."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_LOADING = ("__getitem__", "collator")


@dataclass(kw_only=True)
class RowsRead:
    """Observes the registered datasets of the release, where the training process itself loads the data."""

    current: dict[str, str] | None = None
    """The row that is being read: an index of FunASR keeps `source` and `target`, and no key."""
    batch: list[dict[str, str]] = field(default_factory=list)
    """The rows of the batch that was put together last."""
    _reading: list[dict[str, str]] = field(default_factory=list)

    def attach(self) -> None:
        """Note each row before it is read, and each batch before it is put together."""
        from funasr.register import tables

        for dataset_class in set(getattr(tables, "dataset_classes", {}).values()):
            if isinstance(dataset_class, type):
                for name, note in (("__getitem__", self._reads), ("collator", self._collates)):
                    if name in vars(dataset_class):
                        setattr(dataset_class, name, _noting(vars(dataset_class)[name], note))

    def _reads(self, dataset: Any, number: Any = None, *_: Any) -> None:
        try:
            row = dataset.index_ds[number]
        except Exception:
            row = {}
        self.current = _named(row)
        self._reading.append(self.current)

    def _collates(self, *_: Any) -> None:
        self.batch, self._reading, self.current = self._reading, [], None

    def at(self, error: BaseException) -> dict[str, Any]:
        """The functions that an exception went through, and the row or the batch at which it was raised."""
        functions, trace = [], error.__traceback__
        while trace is not None:
            functions.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        loading = any(function in _LOADING for function in functions)
        return {
            "functions": functions[-40:],
            "row": self.current if loading else None,
            "batch": self.batch if loading or "forward" in functions else [],
        }


def _named(row: Any) -> dict[str, str]:
    fields = row if isinstance(row, Mapping) else {}
    return {name: str(fields.get(name, "")) for name in ("source", "target")}


def _noting(original: Any, note: Any) -> Any:
    @functools.wraps(original)
    def noted(*args: Any, **kwargs: Any) -> Any:
        note(*args, *kwargs.values())
        return original(*args, **kwargs)

    return noted
