"""What a log and the texts of its training show together: is the loss below that of a prediction without the speech?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.core.cells import Severity
from harness.explain.errors_of_log import PREFLIGHT
from harness.explain.explanation import LogExplanation, Owner, silent_fault
from harness.explain.own_texts import OwnTexts
from harness.explain.training_lines import TrainingRecord
from harness.text.units import count, plural
from harness.watch.rules.loss import ALPHA, FIRST_TEST, LONG_ENOUGH, ONE_TOKEN, stands_at_baseline
from harness.watch.state import ATTENTION_LOSS

ENOUGH_ROWS = 10
"""Texts of which nothing but one token is seen: fewer may be the same by chance."""
FEWEST_VALUES = FIRST_TEST // 2
"""Of the second half of the logged steps, as in `watch`."""


def facts_of_texts(record: TrainingRecord, texts: OwnTexts) -> Iterator[str]:
    """The baseline, and where the training's last epoch is."""
    yield f"unigram baseline {texts.baseline:.3f}, of {plural(texts.rows, 'text')} with {count(texts.tokens)} tokens"
    losses = [epoch.attention for epoch in record.train.values() if epoch.attention is not None]
    if losses:
        yield f"mean {ATTENTION_LOSS} of the last epoch {losses[-1]:.3f}"


def notes_of_texts(record: TrainingRecord, texts: OwnTexts) -> Iterator[str]:
    """What was assumed, and why nothing is said of the baseline."""
    if texts.assumed:
        yield texts.assumed
    if record.steps and not record.attention.values:
        yield f"the log has no {ATTENTION_LOSS}: another loss has another unit, and is not compared with the baseline"


def texts_of_one_token(texts: OwnTexts) -> Iterator[LogExplanation]:
    """Texts whose tokens are nearly all the same."""
    if texts.rows < ENOUGH_ROWS or texts.entropy > ONE_TOKEN:
        return
    yield silent_fault(
        "texts-of-one-token",
        "Nearly all tokens of the texts are one and the same: the model learns to say that",
        severity=Severity.BROKEN,
        cause="The token list lacks the characters of the texts, so each of them becomes `<unk>`."
        if 2 * texts.unknown > texts.tokens
        else "The texts have hardly more than one token between them.",
        remedy="Compare the texts with the token list: script, case, spaces.",
        commands=(PREFLIGHT,),
        evidence=(f"{count(texts.unknown)} of {count(texts.tokens)} tokens are `<unk>`",),
    )


def not_learning(record: TrainingRecord, texts: OwnTexts) -> Iterator[LogExplanation]:
    """A finished training whose attention loss has stopped falling at the baseline: the test of `watch`, made once."""
    values = record.attention.values
    second = [loss / texts.baseline for loss in values[len(values) // 2 :]] if texts.baseline > 0 else []
    if len(second) < FEWEST_VALUES or not all(map(math.isfinite, second)) or not stands_at_baseline(second, ALPHA):
        return
    early = len(record.train) < LONG_ENOUGH
    yield silent_fault(
        "not-learning",
        "The loss stands still at what a prediction reaches that never looks at the speech"
        + (", as it may for a while with random weights" if early else ": nothing is learned"),
        owner=Owner.UNKNOWN,
        severity=Severity.MINOR if early else Severity.BROKEN,
        remedy="A log does not show why. Look at the pairs of audio and text, at the learning rate, and at which parts "
        "are frozen.",
        commands=(PREFLIGHT,),
        evidence=(
            f"second half of the logged steps: {ATTENTION_LOSS} is {sum(second) / len(second):.2f} of the unigram "
            f"baseline ({texts.baseline:.3f})",
        ),
    )
