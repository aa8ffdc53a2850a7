"""What a release's tokenizer makes of the texts, with the user's token list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

MOST_PIECES = 200
"""Pieces of text that become `<unk>` that are listed, the most frequent first."""
_LONGEST_PIECE = 12


def tokenizer_of(config: Mapping[str, Any]) -> Any:
    """The release's tokenizer as `AutoModel` builds it; None where the config names none or several, or it fails."""
    from funasr.register import tables

    name, conf = config.get("tokenizer"), config.get("tokenizer_conf")
    if not isinstance(name, str) or "," in name or not isinstance(conf, Mapping | None):
        return None
    tokenizer_class = tables.tokenizer_classes.get(name)
    try:
        return tokenizer_class(**dict(conf or {})) if tokenizer_class is not None else None
    except Exception:
        # The part of preflight that is about the folder says what is wrong with it.
        return None


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """For each of `request["texts"]` the number of tokens and of `<unk>`; and what became `<unk>`.

    `characters` are all characters of the rows; those that are `<unk>` on their own are listed.
    """
    tokenizer = tokenizer_of(request["config"])
    if tokenizer is None:
        return {}
    unknown = _unknown_id(tokenizer)
    counts, unknowns = [], []
    pieces: Counter[str] = Counter()
    for text in request["texts"]:
        ids = list(tokenizer.encode(text))
        counts.append(len(ids))
        unknowns.append(ids.count(unknown) if unknown is not None else 0)
        if unknowns[-1]:
            pieces.update(_unknown_pieces(tokenizer, text, unknown))
    return {
        "tokens": counts,
        "unknown": unknowns,
        "pieces": pieces.most_common(MOST_PIECES),
        "kinds": len(pieces),
    }


def _unknown_id(tokenizer: Any) -> int | None:
    if hasattr(tokenizer, "unk_id") and not callable(tokenizer.unk_id):
        return int(tokenizer.unk_id)
    pieces: Any = getattr(tokenizer, "sp", None)
    return int(pieces.unk_id()) if hasattr(pieces, "unk_id") else None


def _unknown_pieces(tokenizer: Any, text: str, unknown: int | None) -> list[str]:
    """The words or characters of a text that become `<unk>`."""
    words = [word for word in text.split(" ") if word] or [text]
    pieces: list[str] = []
    for word in words:
        bad = [letter for letter in word if unknown in tokenizer.encode(letter)]
        if bad:
            pieces += bad
        elif unknown in tokenizer.encode(word):
            pieces.append(word[:_LONGEST_PIECE] or "nothing")
    return pieces or ["white space"]
