"""What a batch holds, seen where the loader hands it out: on the CPU, before the trainer sends it to a GPU."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

_MOST_NAMED = 512
"""Utterances of a batch that a post-mortem names."""


class BatchFacts:
    """One batch: lengths, texts, and where its rows come from."""

    __slots__ = ("frame_lengths", "frames", "indices", "source", "texts", "token_lengths", "tokens", "utterances")

    def __init__(self) -> None:
        self.utterances = 0
        self.frames = 0
        """The padded length of the speech."""
        self.tokens = 0
        """The padded length of the texts."""
        self.frame_lengths: list[int] | None = None
        self.token_lengths: list[int] | None = None
        self.texts: Any = None
        """Token ids `[batch, length]` on the CPU."""
        self.indices: list[int] | None = None
        """Rows of the data set; None where the loader does not say."""
        self.source: Any = None
        """A weak reference to the data set."""

    def token_ids(self) -> list[int]:
        """The tokens of all texts, without padding; empty where they are not known."""
        if self.texts is None:
            return []
        rows = self.texts.tolist()
        if self.token_lengths is None:
            return list(itertools.chain.from_iterable(rows))
        return list(itertools.chain.from_iterable(row[:length] for row, length in zip(rows, self.token_lengths)))


def facts_of(batch: Any) -> BatchFacts:
    """What can be read of a batch without waiting for a GPU."""
    facts = BatchFacts()
    if not hasattr(batch, "get"):
        return facts
    speech, text = batch.get("speech"), batch.get("text")
    facts.utterances = utterances_in(batch)
    facts.frames = _padded_length(speech)
    facts.tokens = _padded_length(batch.get("input_ids") if text is None else text)
    facts.frame_lengths = _lengths(batch.get("speech_lengths"), facts.utterances)
    facts.token_lengths = _lengths(batch.get("text_lengths"), facts.utterances)
    if _is_readable(text) and text.dim() == 2 and not text.is_floating_point():
        facts.texts = text
    return facts


def utterances_in(batch: Any) -> int:
    """How many utterances a batch has; 0 where that cannot be seen."""
    for name in ("speech", "text", "input_ids"):
        value = batch.get(name)
        if value is not None and hasattr(value, "__len__"):
            return len(value)
    return next((len(tensor) for tensor in batch.values() if getattr(tensor, "ndim", 0) > 0), 0)


def _padded_length(value: Any) -> int:
    if getattr(value, "ndim", 0) > 1:
        return int(value.shape[1])
    if isinstance(value, (list, tuple)):
        return max((len(row) for row in value if hasattr(row, "__len__")), default=0)
    return 0


def _lengths(value: Any, utterances: int) -> list[int] | None:
    """Lengths `[batch]` or `[batch, 1]` on the CPU."""
    if not _is_readable(value) or value.numel() != utterances:
        return None
    return [int(length) for length in value.reshape(-1).tolist()]


def _is_readable(value: Any) -> bool:
    """Whether it is a tensor that can be read without waiting."""
    return hasattr(value, "device") and hasattr(value, "tolist") and value.device.type == "cpu"


class RowsSeen:
    """Which rows of the data set an epoch has had so far: a bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._source: Any = None
        self._count = 0
        self._known = True

    def add(self, facts: BatchFacts) -> None:
        """Note the rows of a batch; slices of a data set come one after the other."""
        source = facts.source() if facts.source is not None else None
        if facts.indices is None or source is None:
            self._known = False
            return
        if self._source is None or self._source() is not source:
            self._source, self._bits = facts.source, bytearray(len(source) // 8 + 1)
        for row in facts.indices:
            place, bit = row >> 3, 1 << (row & 7)
            if not self._bits[place] & bit:
                self._bits[place] |= bit
                self._count += 1

    def distinct(self) -> int | None:
        """None where a loader did not say which rows it took."""
        return self._count if self._known else None


class BatchObserver:
    """Follows torch's loaders: the rows drawn, and the last batch that was handed out."""

    def __init__(self) -> None:
        self.last: BatchFacts | None = None
        """The batch that was handed out last."""
        self._drawn: Any = weakref.WeakKeyDictionary()

    def drawn(self, iterator: Any, indices: Any) -> None:
        """A loader's iterator has drawn the rows of a batch, which it hands out in this order later."""
        if isinstance(indices, (list, tuple)) and all(isinstance(index, int) and index >= 0 for index in indices):
            self._drawn.setdefault(iterator, []).append(list(indices))

    def arrived(self, iterator: Any, batch: Any) -> None:
        """A loader has handed out a batch."""
        facts = facts_of(batch)
        waiting = self._drawn.get(iterator)
        facts.indices = waiting.pop(0) if waiting else None
        source = getattr(iterator, "_dataset", None)
        facts.source = None if source is None else _weakly(source)
        self.last = facts

    def of_forward(self, kwargs: dict[Any, Any]) -> BatchFacts:
        """The batch of a forward pass with these arguments, by name or place: a loader's last one if it fits."""
        count = utterances_in(kwargs)
        if self.last is None or (count and count != self.last.utterances):
            self.last = facts_of(kwargs)
        return self.last


def _weakly(source: Any) -> Any:
    try:
        return weakref.ref(source)
    except TypeError:  # a list
        return lambda: source


def named_utterances(facts: BatchFacts) -> list[dict[str, Any]]:
    """The utterances of a batch with keys and lengths, for a post-mortem."""
    source = facts.source() if facts.source is not None else None
    rows = getattr(source, "index_ds", source)
    utterances = []
    for number in range(min(facts.utterances, _MOST_NAMED)):
        key = ""
        if facts.indices is not None and number < len(facts.indices):
            key = _key(rows, facts.indices[number])
        frames, tokens = facts.frame_lengths, facts.token_lengths
        utterances.append(
            {
                "key": key,
                "frames": None if frames is None else frames[number],
                "tokens": None if tokens is None else tokens[number],
            }
        )
    return utterances


def _key(rows: Any, index: int) -> str:
    try:
        row = rows[index]
        return str(row.get("key", index))[:200] if hasattr(row, "get") else str(index)
    except Exception:  # a data set of somebody's own
        return str(index)
