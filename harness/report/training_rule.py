"""What the training rule found of a fine-tune, in words: against the constant prediction, by invariant, against others.

It reads what `harness/rules/` left in the outcome's evidence, and computes nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from harness.core.numbers import any_number
from harness.rules.apply import TRAINING
from harness.rules.convergence import CONVERGENCE
from harness.text import units

_TESTS = {"page": "Page's trend test over the seeds", "mann-kendall": "Mann-Kendall test of one seed"}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One seed's training compared with a prediction that ignores the audio."""

    seed: int | None
    loss: float | None
    """The last epoch's attention loss over the constant prediction's."""
    accuracy: float | None
    """The share of tokens that the first pass got right in the last epoch."""
    chance: float | None
    """What is right without hearing."""
    heard: tuple[str, ...] = ()
    """By mode, what is right with the utterance's own speech and with another's; or why that was not observed."""

    @property
    def text(self) -> str:
        """`seed 0: loss 0.29 of a constant prediction's, 70% right (17% without hearing), after it …`."""
        return ", ".join(
            (
                f"seed {self.seed}: loss {_share(self.loss)} of a constant prediction's",
                f"{_percent(self.accuracy)} right ({_percent(self.chance)} without hearing)",
                *self.heard,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Everything that the rule left of one fine-tune; empty where it was not judged."""

    seeds: tuple[Learned, ...]
    trend: str
    kept: tuple[str, ...]
    """Invariants by name, as the next two."""
    broken: tuple[str, ...]
    not_asked: tuple[str, ...]
    convergence: str
    excused: tuple[tuple[str, str], ...] = ()
    """Conditions of learning that were not met and are no finding, each with what the configuration in force says."""

    @classmethod
    def of(cls, evidence: Mapping[str, Any]) -> Self:
        """Read the evidence of an outcome; whatever is not of the expected kind counts as not had."""
        verdict = _mapping(evidence.get(TRAINING))
        learning, invariants = _mapping(verdict.get("learning")), _mapping(verdict.get("invariants"))
        reasons = _mapping(invariants.get("reasons"))
        return cls(
            seeds=tuple(
                _learned(one, _heard(learning, one.get("seed")))
                for one in _list(learning.get("seeds"))
                if isinstance(one, Mapping)
            ),
            trend=_trend(learning),
            kept=tuple(name for name, found in reasons.items() if not found),
            broken=tuple(name for name, found in reasons.items() if found),
            not_asked=tuple(str(name) for name in _list(invariants.get("not_asked"))),
            convergence=_convergence(_mapping(evidence.get(CONVERGENCE))),
            excused=tuple((str(name), str(why)) for name, why in _mapping(verdict.get("not_observed")).items()),
        )

    @property
    def learned(self) -> str:
        """All seeds in one text."""
        return "; ".join(one.text for one in self.seeds)

    @property
    def not_observed(self) -> str:
        """`unigram, hearing: the configuration freezes 30 tensors at random values`."""
        reasons = dict.fromkeys(why for _, why in self.excused)
        return "; ".join(f"{', '.join(name for name, why in self.excused if why == one)}: {one}" for one in reasons)

    @property
    def invariants(self) -> str:
        """`kept: …; broken: …; not asked: …`, what is empty left out."""
        parts = {"kept": self.kept, "broken": self.broken, "not asked": self.not_asked}
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names)


def _heard(learning: Mapping[str, Any], seed: object) -> tuple[str, ...]:
    """What the control of this seed's training says; nothing where a run was recorded before there was one."""
    one = next((_mapping(one) for one in _list(learning.get("hearing")) if _mapping(one).get("seed") == seed), {})
    told = tuple(_heard_in(_mapping(mode)) for mode in _list(one.get("modes")))
    why = str(one.get("not_observed") or "")
    return (*told, f"hearing not observed ({why})") if why else told


def _heard_in(mode: Mapping[str, Any]) -> str:
    scores = [any_number(mode.get(name)) for name in ("own", "other")]
    if any_number(mode.get("share")) is None:
        # A negative loss is the score where no tokens could be counted.
        own, other = (_share(None if score is None else -score) for score in scores)
        return f"{mode.get('mode')} mode: loss {own} with its own speech, {other} with another's"
    own, other = (_percent(score) for score in scores)
    return f"{mode.get('mode')} mode: {own} right with its own speech, {other} with another's"


def _learned(seed: Mapping[str, Any], heard: tuple[str, ...]) -> Learned:
    loss, constant = any_number(seed.get("last_loss")), any_number(seed.get("constant_loss"))
    number = seed.get("seed")
    return Learned(
        seed=number if isinstance(number, int) else None,
        loss=loss / constant if loss is not None and constant else None,
        accuracy=any_number(seed.get("last_accuracy")),
        chance=any_number(seed.get("constant_accuracy")),
        heard=heard,
    )


def _trend(learning: Mapping[str, Any]) -> str:
    name, p = _TESTS.get(str(learning.get("trend_test"))), any_number(learning.get("trend_p"))
    return f"{name}: p = {p:.2g}" if name and p is not None else ""


def _convergence(found: Mapping[str, Any]) -> str:
    reference = str(found.get("reference", "")).partition("/")[0]
    if not reference:
        return ""
    if found.get("same"):
        return f"bit-identical curves with {reference}"
    difference, bound = any_number(found.get("difference")), any_number(found.get("bound"))
    if difference is None or bound is None:
        return f"not compared with {reference}: too few seeds in common"
    return f"{difference:+.3f} of a constant prediction's loss compared with {reference}, where ±{bound:.3f} is noise"


def _share(value: float | None) -> str:
    return units.UNKNOWN if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return units.UNKNOWN if value is None else f"{100 * value:.0f}%"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()
