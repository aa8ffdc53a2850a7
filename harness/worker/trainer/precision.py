"""Mixed precision, as far as a release's trainers offer it: by a word that each of them got at another time.

`train_utils/trainer.py` has `use_fp16` since 1.0.11 and `use_bf16` since 1.3.4, `train_utils/trainer_ds.py` both from
its beginning. A trainer takes words that it does not know without one of its own, so a wish that it cannot fulfil would
be trained, and measured, in fp32.
"""

from __future__ import annotations

import re
from pathlib import Path

WHOLE = "fp32"


def words(overlay: str, entry: str, precision: str) -> dict[str, bool] | None:
    """The `++key=value` pairs that ask the trainer behind this entry point for a precision; None where it has none."""
    if precision == WHOLE:
        return {}
    name = f"use_{precision}"
    path = trainer_of(overlay, entry)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {f"train_conf.{name}": True} if re.search(rf"\b{name}: bool\b", text) else None


def trainer_of(overlay: str, entry: str) -> Path:
    """The module with the trainer that an entry point calls."""
    return Path(overlay) / "funasr" / "train_utils" / ("trainer_ds.py" if entry == "train_ds" else "trainer.py")


def missing(entry: str, precision: str) -> str:
    """Why a cell of this precision is skipped."""
    return f"the release's {trainer_of('', entry).name} has no use_{precision}: it trains in fp32 whatever it is told"
