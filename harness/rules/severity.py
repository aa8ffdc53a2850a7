"""How grave a fault is: what its known issue says, and otherwise what this rule derives.

The rule looks at the check, at the status, and at the parts of the signature:

- What ends with an exception, a crash, a time-out or without memory is `broken`; so is an import, a construction or a
  loss contract that fails, for nothing can be trained.
- A check's own finding goes by its name: one of the tables below says how grave each name is, and why.
- A name that no table has is `broken` until somebody says otherwise.

A fault that shows only under a setting other than the recipe's is at most `wrong` (`harness.core.cells.Severity`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from harness.core.cells import Check, Outcome, Severity, Status

_GRAVEST_FIRST = tuple(Severity)

_B, _W, _M = Severity.BROKEN, Severity.WRONG, Severity.MINOR

CONTRACT: Mapping[str, Severity] = MappingProxyType(
    {
        "NoLoss": _B,
        "NoProjection": _B,
        "LossBuiltForOtherVocabulary": _B,
        "ProjectionOfOtherWidth": _B,
        "LossNotCalled": _B,
        "LossWidth": _B,
        "ProjectionNotCalled": _B,
        "LossNotFinite": _B,
        "NoGradient": _B,
        # What is not heard cannot be learned from.
        "FramesUnheard": _B,
        "Unregistered": _B,
        "Frozen": _B,
        # All parts are trained, though in another proportion than configured.
        "LossNotTheSum": _W,
        # Two parts are one: it learns, another model than configured.
        "SharedWeights": _W,
    }
)
"""By the kind of what `construct` and `loss_contract` find."""

PROPERTIES: Mapping[str, Severity] = MappingProxyType(
    {
        # Nothing can be trained, or what is trained has nothing to do with the text.
        "classes_fit": _B,
        "lengths_agree": _B,
        "gradients_reach_every_part": _B,
        # Training goes on, with another loss, another mask or another input than the definition says.
        "loss_is_its_definition": _W,
        "padding_is_left_out_of_the_loss": _W,
        "parts_add_up": _W,
        "order_of_the_batch_does_not_matter": _W,
        "order_of_the_vocabulary_does_not_matter": _W,
        "padded_frames_do_not_matter": _W,
        "utterances_do_not_touch_each_other": _W,
        "predictor_ends_where_the_utterance_ends": _W,
        "labels_outside_the_vocabulary_are_refused": _W,
        "one_target_is_enough": _W,
        "predictor_fires_for_every_token": _W,
        "every_token_sees_frames": _W,
        "sampler_shows_a_share_of_what_was_missed": _W,
        "frozen_parts_stay_without_gradient": _W,
        "chunks_see_no_future": _W,
        "tokens_see_no_future": _W,
        "one_chunk_is_full_context": _W,
        # The training is as configured: it does not repeat itself, or its evaluation is another.
        "one_seed_gives_one_model": _M,
        "evaluation_gives_the_loss_of_training": _M,
        "evaluation_draws_nothing": _M,
        "ctc_in_evaluation_draws_nothing": _M,
    }
)
"""By the name of a property."""

DATA_BROKEN = frozenset({"text_plain", "features"})
"""Questions about the data of every row: what was learned has nothing to do with the file."""

DATA_FAMILIES = (
    *("audio", "bare", "batches", "cmvn", "fewer", "frames", "limit", "list", "long", "once", "padding", "path"),
    *("ranks", "remainder", "row", "rows", "shuffle", "slices", "start", "steps", "text", "validation"),
)
"""Beginnings, up to the first underscore, of the names of questions about some rows or batches: they are lost, changed
or invented, and the training continues with the others, so these are `wrong`."""

TRAINING: Mapping[str, Severity] = MappingProxyType(
    {
        # It did not learn, or not from where it was to begin, or not with all its parts.
        "losses": _B,
        "parameters": _B,
        "unigram": _B,
        "accuracy": _B,
        "trend": _B,
        "hearing": _B,
        "start": _B,
        "gradients": _B,
        "optimizer": _B,
        # It learned, with other steps than configured.
        "steps": _W,
        "epochs": _W,
        "batches": _W,
        "schedule": _W,
        "moving": _W,
        "clipping": _W,
        "clearing": _W,
        "accumulation": _W,
        "ranks": _W,
        "configuration": _W,
        "frozen": _W,
        "convergence": _W,
        # What is logged of the training is wrong, or it takes more time or memory; what is learned is the same.
        "statistics": _M,
        "log": _M,
        "memory": _M,
        "idling": _M,
    }
)
"""By the condition of a `finetune` that is not met. A training that took no step is broken, whatever `steps` says."""

CHECKPOINT: Mapping[str, Severity] = MappingProxyType(
    {
        # A file that its user takes for the trained model is not.
        "saved_whole": _B,
        "average_is_mean": _B,
        "average_loads": _B,
        "folder_loads": _B,
        # What resumes is another training; a better checkpoint is passed over; a misfit goes without a word.
        "resumes_at_epoch": _W,
        "resumes_weights": _W,
        "resumes_optimizer": _W,
        "resumes_schedule": _W,
        "resumes_losses": _W,
        "resumes_within_epoch": _W,
        "resumes_within_sorted_epoch": _W,
        "resumes_twice_within_epoch": _W,
        "best_is_best": _W,
        "criterion_is_measured": _W,
        "average_survives_pruning": _W,
        "mismatch_said": _W,
        "mismatch_refused": _W,
        # Only without the configuration.json that the trainer copies into the folder.
        "bare_folder_loads": _W,
    }
)
"""By the name of a question about what was saved."""

DECODE: Mapping[str, Severity] = MappingProxyType({"weights": _B, "error_rate": _B, "untrained": _B})
"""By the condition of a `decode` that is not met: the model that was loaded is not the one that was trained."""


def gravest(severities: Iterable[Severity]) -> Severity | None:
    """The gravest of them; None of none."""
    return min(severities, key=_GRAVEST_FIRST.index, default=None)


def derived(outcome: Outcome, part: str = "") -> Severity:
    """The severity of what is wrong with an outcome by the rule at the head of this module.

    Args:
        outcome: One that failed, crashed or was ended.
        part: A name of its signature's, where that has several; empty for a signature of one piece.
    """
    if outcome.status is not Status.FAILED or outcome.failure is None:
        return Severity.BROKEN
    kind = outcome.failure.signature.partition("@")[0]
    match outcome.cell.check:
        case Check.CONSTRUCT | Check.LOSS_CONTRACT:
            return CONTRACT.get(kind, Severity.BROKEN)
        case Check.PROPERTIES:
            return PROPERTIES.get(part, Severity.BROKEN)
        case Check.DATA:
            return of_data(part)
        case Check.FINETUNE:
            return Severity.BROKEN if part == "steps" and _took_none(outcome) else TRAINING.get(part, Severity.BROKEN)
        case Check.CHECKPOINT:
            return CHECKPOINT.get(part, Severity.BROKEN)
    return Severity.BROKEN


def of_data(question: str) -> Severity:
    """The severity of a question of the `data` check that fails."""
    known = question not in DATA_BROKEN and question.partition("_")[0] in DATA_FAMILIES
    return Severity.WRONG if known else Severity.BROKEN


def _took_none(outcome: Outcome) -> bool:
    """Whether no step was taken, or it is not known that one was."""
    verdict = outcome.training_evidence.training if outcome.training_evidence else None
    if verdict is not None:
        return not verdict.steps
    return outcome.training is None or not outcome.training.steps
