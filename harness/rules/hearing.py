"""Did the model learn to hear? What is right must be right because of the speech, and of the right part of it.

After each training the model scores every text with the speech that belongs to it, with the speech of other utterances
and with silence (`harness.worker.trainer.hearing`). For a model that hears nothing the scores of one text have the same
distribution whichever speech it is given, so each of them is equally likely to be that of the text's own speech.
Over that choice, independent for each text, the sum of the scores of the own speech has an exact distribution; the
probability of a sum as high as the one that was seen is the test's p.

Asked of each seed's training, in evaluation mode and in training mode:

- the own speech scores higher than that of others, over the first half of the tokens and over the second half, each at
  `ALPHA`: whoever hears the beginning only is right about the beginning only;
- the own speech scores higher than silence, at `ALPHA`;
- of what a model can be right about only by hearing, at least `LEAST_SHARE` is right.

All of it has to hold, so a model that hears nothing passes at most once in 1 / `ALPHA` trainings.

This is required of models that score a text without being shown it: Paraformers, by their first pass. A decoder that is
shown the tokens before each (teacher forcing) brings its loss down by them long before it hears, so where it is no
better with its own speech that is reported as not observed.

Of every model: it takes the same batch in both modes, for validation is in evaluation mode. And with another's speech
it is not right more often than all the tokens before each allow; a model that is sees the tokens that it is to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from harness.core.evidence.training import ModeScores, SeedTraining
from harness.core.evidence.verdicts import HeardInMode, HearingVerdict

ALPHA = 1e-3
"""How often a model that hears nothing would be taken for one that does."""

LEAST_SHARE = 0.2
"""Of (own - other) / (all - other): models that could not hear had up to 0.06, one whose predictor could not had 0.11;
see docs/checks.md#rules-for-learning."""

MOST_DEAF = 0.06
"""The same share of the models that could not hear: where a training on a user's own rows is above it and below
`LEAST_SHARE`, and every test says that the speech matters, so few epochs of sentences of which each is another have
taught it too little for the share to be judged."""

READING_DEVIATIONS = 5.0
"""Standard deviations above what the tokens before each allow."""

HELD_OUT = "held_out"
"""What `of` says where the texts are orders of words that the training never had."""

TRAINED = "training"
"""What `of` says where the texts are those that it was trained on; for a Paraformer, a user's own."""

MODES = ("evaluation", "training")
_HALVES = (" for the first half of the text", " for the second half")

Scores = tuple[tuple[float, ...], ...]
"""By text: the score of each part of it."""


def judge_hearing(training: SeedTraining) -> HearingVerdict:
    """Apply the rule at the head of this module to one training."""
    hearing, seed = training.hearing, training.seed
    if hearing is None:
        return _unknown(seed, "the harness that recorded this training did not look")
    if hearing.not_observed:
        return _unknown(seed, hearing.not_observed)
    tokens = _known(hearing.tokens)
    by_loss = hearing.score == "loss"
    modes, missing, raised = [], [], []
    for name in MODES:
        recorded = hearing.modes.get(name, ModeScores())
        mode = None if recorded.raised else _mode(name, recorded, tokens, by_loss)
        if recorded.raised:
            raised.append(f"In {name} mode the forward pass ended in {recorded.raised}.")
        elif mode is None:
            missing.append(f"{name} mode: its scores are not whole")
        else:
            modes.append(mode)
    if not modes:
        # What no mode can take was made wrongly here.
        missing, raised = missing + raised, []
    first_pass = hearing.first_pass
    choices = 1 + min((len(hearing.modes[mode.mode].others) for mode in modes), default=0)
    least = _Least(speech=float(choices) ** -len(tokens), silence=2.0 ** -len(tokens))
    early = [mode for mode in modes if hearing.of == TRAINED and _learned_little(mode)]
    deaf = [reason for mode in modes if mode not in early for reason in _about(mode, least)]
    missing += [f"{_share_too_low(mode)} These steps taught it too little to judge the share." for mode in early]
    if modes:
        missing += least.too_high(len(tokens))
    if deaf and not first_pass:
        missing.append(f"the decoder is shown the tokens before each, and these steps taught it no more: {deaf[0]}")
    source, texts = hearing.of, len(tokens)
    reads = [reason for mode in modes for reason in _about_reading(mode, tokens)] if source == HELD_OUT else []
    return HearingVerdict(
        seed=seed,
        of=source,
        texts=texts,
        modes=tuple(modes),
        reasons=(*raised, *reads, *(deaf if first_pass else ())),
        not_observed="; ".join(reason.rstrip(".") for reason in missing),
        first_pass=first_pass,
    )


@dataclass(frozen=True, kw_only=True)
class _Least:
    """The least p that so few texts can give; where it is above `ALPHA` a test says nothing, whatever is heard."""

    speech: float
    silence: float

    def too_high(self, texts: int) -> Iterator[str]:
        """Why a test was not made."""
        for against, p in (("other speech", self.speech), ("silence", self.silence)):
            if p > ALPHA:
                yield f"{texts} texts are too few for the test against {against}: its p is {p:.2g} at least"


def exact_p(scores: Sequence[Sequence[float]]) -> float:
    """P(a sum as high as that of the first scores | in each row any of its scores is the first, equally likely).

    Exact, over ranks: within a row every score is replaced by the number of scores that it beats, ties by half.
    """
    import numpy as np

    distribution, observed = np.ones(1), 0
    for row in scores:
        ranks = [sum((other < score) + 0.5 * (other == score) for other in row) - 0.5 for score in row]
        doubled = [round(2 * rank) for rank in ranks]
        step = np.zeros(max(doubled) + 1)
        for rank in doubled:
            step[rank] += 1 / len(doubled)
        distribution = np.convolve(distribution, step)
        observed += doubled[0]
    return float(min(1.0, distribution[observed:].sum()))


def _mode(name: str, recorded: ModeScores, tokens: Scores, by_loss: bool) -> HeardInMode | None:
    own_speech, silence = _known(recorded.own), _known(recorded.silence)
    others = [_known(scores) for scores in recorded.others]
    sets = (own_speech, silence, *others)
    if not tokens or not others or any(len(scores) != len(tokens) for scores in sets):
        return None
    parts = len(own_speech[0])
    if any(len(row) != parts for scores in (*sets, *(() if by_loss else (tokens,))) for row in scores):
        return None
    # Where no text has a second half, nothing is said about it.
    spoken = [part for part in range(parts) if by_loss or any(row[part] for row in tokens)]
    total = float(len(tokens)) if by_loss else sum(map(sum, tokens))
    if total <= 0:
        return None
    means = [sum(map(sum, scores)) / total for scores in sets]
    other = sum(means[2:]) / len(others)
    return HeardInMode(
        mode=name,
        own=means[0],
        other=other,
        silence=means[1],
        share=None if by_loss else (means[0] - other) / (1.0 - other) if other < 1.0 else 0.0,
        by_loss=by_loss,
        p_parts=tuple(
            exact_p([[scores[row][part] for scores in (own_speech, *others)] for row in range(len(tokens))])
            for part in spoken
        ),
        p_silence=exact_p([[sum(own_speech[row]), sum(silence[row])] for row in range(len(tokens))]),
    )


def _about(mode: HeardInMode, least: _Least) -> Iterator[str]:
    right = "" if mode.share is None else f"{_right(mode)}; "
    for part, p in enumerate(mode.p_parts):
        if p > ALPHA >= least.speech:
            half = _HALVES[part] if len(mode.p_parts) > 1 else ""
            yield f"In {mode.mode} mode the output{half} does not depend on the speech ({right}p = {p:.2g})."
    if mode.p_silence > ALPHA >= least.silence:
        yield f"In {mode.mode} mode the output is as good with silence (p = {mode.p_silence:.2g})."
    if mode.share is not None and mode.share < LEAST_SHARE:
        yield _share_too_low(mode)


def _learned_little(mode: HeardInMode) -> bool:
    """Whether the output depends on the speech, by every test, and the share is between a deaf model's and the rule."""
    depends = all(p <= ALPHA for p in (*mode.p_parts, mode.p_silence))
    return depends and mode.share is not None and MOST_DEAF < mode.share < LEAST_SHARE


def _share_too_low(mode: HeardInMode) -> str:
    return (
        f"In {mode.mode} mode {mode.share:.1%} of what can only be heard is heard ({_right(mode)}); "
        f"at least {LEAST_SHARE:.0%} is required."
    )


def _right(mode: HeardInMode) -> str:
    return (
        f"{mode.own:.1%} of the tokens are right with the utterance's own speech, {mode.other:.1%} with another's and "
        f"{mode.silence:.1%} with silence"
    )


def _about_reading(mode: HeardInMode, tokens: Scores) -> Iterator[str]:
    """Of orders of words: each token is one of those not said before it, so the k-th of n is right once in n-k+1."""
    counts = [round(sum(row)) for row in tokens]
    total = sum(counts)
    if mode.by_loss or not total:
        return
    known = sum(1 / (count - place) for count in counts for place in range(count)) / total
    if mode.other > known + READING_DEVIATIONS * (known * (1 - known) / total) ** 0.5:
        yield (
            f"In {mode.mode} mode {mode.other:.1%} of the tokens are right with another's speech, where who knows all "
            f"tokens before each can be right at {known:.1%}: the decoder sees the tokens that it is to say."
        )


def _known(scores: Scores) -> Scores:
    """The scores; none where one is not finite, or a text has none."""
    return scores if all(row and all(map(isfinite, row)) for row in scores) else ()


def _unknown(seed: int | None, why: str) -> HearingVerdict:
    return HearingVerdict(seed=seed, of="", texts=0, modes=(), reasons=(), not_observed=why)
