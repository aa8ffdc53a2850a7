"""What the rules add to a cell's evidence: their verdicts, with the figures that support them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SeedFigures:
    """One training compared with the unigram baseline: the best constant prediction."""

    seed: int | None
    first_loss: float
    """Attention loss, mean over the first epoch."""
    last_loss: float
    """The same over the last epoch."""
    constant_loss: float
    """The unigram baseline's loss on the last epoch's batches."""
    gain: float
    """1 - last_loss / constant_loss; negative where the loss is above the baseline's."""
    epochs: tuple[float, ...]
    """Each epoch's attention loss, relative to the baseline's."""
    first_accuracy: float
    """Share of right tokens in the first epoch."""
    last_accuracy: float
    constant_accuracy: float
    """The share that is right without hearing anything."""
    accuracy_p: float | None
    """p of the binomial test of the last epoch's right tokens; None where no token needs hearing, because every
    utterance has a length of its own."""


@dataclass(frozen=True, kw_only=True)
class HeardInMode:
    """The hearing test in one mode of one training."""

    mode: str
    """`evaluation` or `training`."""
    own: float
    """Mean score with the own speech: a share of the tokens, or a negative loss."""
    other: float
    """The same with the speech of other utterances."""
    silence: float
    share: float | None
    """(own - other) / (1 - other), and 0 where nothing is left to hear; None where losses are compared, which have no
    upper end."""
    by_loss: bool = False
    p_parts: tuple[float, ...]
    """p of own against others, for each half of the tokens; for the whole where losses are compared."""
    p_silence: float
    """p of own against silence."""


@dataclass(frozen=True, kw_only=True)
class HearingVerdict:
    """Whether one training taught the model to hear."""

    seed: int | None
    of: str
    """`held_out` or `training`: the utterances that were compared."""
    texts: int
    modes: tuple[HeardInMode, ...]
    reasons: tuple[str, ...]
    """Empty where it hears, or where that was not observed."""
    not_observed: str
    """Why nothing is known of one mode or of both; empty otherwise."""
    first_pass: bool = True
    """Whether the model was shown none of the right tokens."""


@dataclass(frozen=True, kw_only=True)
class LearningVerdict:
    """Whether a fine-tuning learned, and the figures of the test."""

    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By condition; empty where it is met."""
    seeds: tuple[SeedFigures, ...] = ()
    """The trainings whose figures are complete."""
    trend_test: str | None = None
    """`page` over several seeds, `mann-kendall` of one; None where neither could be made."""
    trend_p: float | None = None
    hearing: tuple[HearingVerdict, ...] = ()
    """Of each seed's training."""


@dataclass(frozen=True, kw_only=True)
class InvariantsVerdict:
    """Which of the trainer's invariants hold."""

    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By invariant, of those that were checked; empty where it holds."""
    not_observed: tuple[str, ...] = ()
    """Invariants that could not be observed."""


@dataclass(frozen=True, kw_only=True)
class TrainingVerdict:
    """Whether a fine-tuning is accepted, and the figures behind it."""

    passed: bool = False
    reasons: tuple[str, ...] = ()
    """One sentence or more for each condition that is not met; empty when it passed."""
    unmet: tuple[str, ...] = ()
    """The conditions that are not met, by name."""
    steps: int | None = None
    steps_expected: int | None = None
    epochs: int = 0
    smallest_change: float | None = None
    """The smallest relative change among the required groups; None when one of them is not known."""
    learning: LearningVerdict | None = None
    """None where no step was taken."""
    invariants: InvariantsVerdict | None = None
    """The trainer's invariants; None where no step was taken."""
    not_observed: Mapping[str, str] = field(default_factory=dict)
    """Conditions that were not met, each with why that is no finding: what the configuration in force says, or what is
    the user's own."""


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """How fast one release learns, compared with an earlier one."""

    reference: str
    """The id of the cell that it is compared with."""
    seeds: int
    difference: float
    """Mean over the shared seeds, in units of the unigram baseline's loss; positive is slower."""
    bound: float | None
    """The difference that the seeds' scatter allows; None where it could not be computed or the curves are equal."""
    spread: float | None
    """Standard deviation over seeds."""
    degrees_of_freedom: int
    same: bool
    """Whether the curves are bit-identical."""

    @property
    def within_noise(self) -> bool:
        """Whether it is neither slower nor faster than the noise allows."""
        return self.same or self.bound is None or abs(self.difference) <= self.bound


@dataclass(frozen=True, kw_only=True)
class DecodedUtterance:
    """One utterance and its transcript."""

    key: str
    reference: str
    hypothesis: str
    error_rate: float
    """Character error rate."""


@dataclass(frozen=True, kw_only=True)
class DecodeVerdict:
    """Whether the model transcribes what it was trained on, and the figures behind it."""

    passed: bool
    proves: bool
    """Whether the untrained model fails clearly; otherwise nothing is proven."""
    unmet: tuple[str, ...]
    """By name: `weights`, `error_rate`, `untrained`."""
    reasons: tuple[str, ...]
    error_rate: float | None
    untrained_error_rate: float | None
    allowed: float | None
    """The highest character error rate that passes."""
    utterances: tuple[DecodedUtterance, ...]
    not_observed: str = ""
    """Why a wrong transcript says nothing: the configuration in force trains less than the check's own."""
