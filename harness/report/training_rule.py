"""What the training rule found of a fine-tune, in words: against the constant prediction, by invariant, against others.

It reads what `harness/rules/` left in the outcome's evidence, and computes nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from harness.core.evidence.training import TrainingEvidence
from harness.core.evidence.verdicts import (
    Convergence,
    HeardInMode,
    HearingVerdict,
    InvariantsVerdict,
    LearningVerdict,
    SeedFigures,
    TrainingVerdict,
)
from harness.text import units

_TESTS = {"page": "Page's trend test over the seeds", "mann-kendall": "Mann-Kendall test of one seed"}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One seed's training compared with a prediction that ignores the audio."""

    seed: int | None
    loss: float | None
    """The last epoch's attention loss over the constant prediction's; None where that is 0."""
    accuracy: float
    """The share of tokens that the first pass got right in the last epoch."""
    chance: float
    """What is right without hearing."""
    heard: tuple[str, ...] = ()
    """By mode, what is right with the utterance's own speech and with another's; or why that was not observed."""

    @property
    def text(self) -> str:
        """`seed 0: loss 0.29 of a constant prediction's, 70% right (17% without hearing), after it …`."""
        share = units.UNKNOWN if self.loss is None else f"{self.loss:.2f}"
        return ", ".join(
            (
                f"seed {self.seed}: loss {share} of a constant prediction's",
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
    unobserved: tuple[str, ...]
    convergence: str
    excused: tuple[tuple[str, str], ...] = ()
    """Conditions of learning that were not met and are no finding, each with what the configuration in force says."""

    @classmethod
    def of(cls, evidence: TrainingEvidence) -> Self:
        """Read the evidence of a fine-tuning."""
        verdict = evidence.training or TrainingVerdict()
        learning, invariants = verdict.learning or LearningVerdict(), verdict.invariants or InvariantsVerdict()
        heard_by_seed = {hearing.seed: _hearing_reasons(hearing) for hearing in reversed(learning.hearing)}
        return cls(
            seeds=tuple(_learned(seed, heard_by_seed.get(seed.seed, ())) for seed in learning.seeds),
            trend=_trend(learning),
            kept=tuple(name for name, broken_by in invariants.reasons.items() if not broken_by),
            broken=tuple(name for name, broken_by in invariants.reasons.items() if broken_by),
            unobserved=invariants.not_observed,
            convergence=_convergence(evidence.convergence) if evidence.convergence else "",
            excused=tuple(verdict.not_observed.items()),
        )

    @property
    def learned(self) -> str:
        """All seeds in one text."""
        return "; ".join(seed.text for seed in self.seeds)

    @property
    def not_observed(self) -> str:
        """`unigram, hearing: the configuration freezes 30 tensors at random values`."""
        reasons = dict.fromkeys(why for _, why in self.excused)
        return "; ".join(
            f"{', '.join(name for name, why in self.excused if why == reason)}: {reason}" for reason in reasons
        )

    @property
    def invariants(self) -> str:
        """`kept: …; broken: …; not observed: …`, what is empty left out."""
        parts = {"kept": self.kept, "broken": self.broken, "not observed": self.unobserved}
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names)


def _hearing_reasons(verdict: HearingVerdict) -> tuple[str, ...]:
    """What the control of one seed's training says."""
    modes = tuple(_heard_in(mode) for mode in verdict.modes)
    return (*modes, f"hearing not observed ({verdict.not_observed})") if verdict.not_observed else modes


def _heard_in(mode: HeardInMode) -> str:
    if mode.share is None:
        # A negative loss is the score where no tokens could be counted.
        return f"{mode.mode} mode: loss {-mode.own:.2f} with its own speech, {-mode.other:.2f} with another's"
    return f"{mode.mode} mode: {_percent(mode.own)} right with its own speech, {_percent(mode.other)} with another's"


def _learned(seed: SeedFigures, hearing_reasons: tuple[str, ...]) -> Learned:
    return Learned(
        seed=seed.seed,
        loss=seed.last_loss / seed.constant_loss if seed.constant_loss else None,
        accuracy=seed.last_accuracy,
        chance=seed.constant_accuracy,
        heard=hearing_reasons,
    )


def _trend(learning: LearningVerdict) -> str:
    name = _TESTS.get(learning.trend_test or "")
    return f"{name}: p = {learning.trend_p:.2g}" if name and learning.trend_p is not None else ""


def _convergence(convergence: Convergence) -> str:
    reference = convergence.reference.partition("/")[0]
    if convergence.same:
        return f"bit-identical curves with {reference}"
    if convergence.bound is None:
        return f"not compared with {reference}: too few seeds in common"
    return (
        f"{convergence.difference:+.3f} of a constant prediction's loss compared with {reference}, "
        f"where ±{convergence.bound:.3f} is noise"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"
