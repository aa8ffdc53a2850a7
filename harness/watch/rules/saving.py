"""What is saved: is it the model in memory, by what is the best one chosen, and what has moved?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.watch.findings import WatchFinding
from harness.watch.rules.settings import WatchSettings
from harness.watch.state import RankState, TrainingState

MOST_NAMED = 3
VALIDATED_BY = 2
"""Epochs after which a validation should have been: trainers validate at the end of each."""
AVERAGED = ".avg"
"""In the name of a file with the mean of several checkpoints (funasr/train_utils/average_nbest_models.py)."""


def about_saving(state: TrainingState, ended: bool) -> Iterator[WatchFinding]:
    """All rules of this module."""
    validated = any(validation.batches for rank in state.training_ranks for validation in rank.validations)
    for rank in state.training_ranks:
        if rank.training is None:
            continue
        yield from _not_what_is_in_memory(rank, WatchSettings.of(rank.training))
        if validated:
            yield from _best_means_nothing(rank, WatchSettings.of(rank.training))
        else:
            yield from _never_validated(rank, WatchSettings.of(rank.training).chosen_by)
        yield from _read_back(rank)
        if ended:
            yield from _never_saved(rank)


def _not_what_is_in_memory(rank: RankState, settings: WatchSettings) -> Iterator[WatchFinding]:
    left_out = settings.train_conf.get("effective_save_name_excludes")
    prefixes = tuple(map(str, left_out)) if isinstance(left_out, list | tuple) else ()
    for saved in rank.saved:
        missing = tuple(name for name in saved.missing if not name.startswith(prefixes)) if prefixes else saved.missing
        averaged = AVERAGED in Path(saved.path).name
        if not missing and (averaged or not saved.other_values):
            continue
        if missing:
            fault = f"lacks {_names(missing)} of the model"
        else:
            fault = f"has other values in {_names(saved.other_values)} than the model in memory"
        yield WatchFinding(
            severity=Severity.BROKEN,
            rule="checkpoint-not-the-model",
            message=f"the saved checkpoint {fault}: what is loaded later is not what was trained",
            step=saved.step,
            rank=rank.rank,
            evidence=(f"{Path(saved.path).name}, {saved.tensors} tensors",),
            remedy="see the release's known issues for saving",
        )
        return


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _best_means_nothing(rank: RankState, settings: WatchSettings) -> Iterator[WatchFinding]:
    chosen = settings.chosen_by
    if chosen in ("", "loss") or not any(validation.batches for validation in rank.validations):
        return
    if any(chosen in validation.stats for validation in rank.validations):
        values = [validation.stats.get(chosen) for validation in rank.validations]
        if len(values) < 3 or any(value for value in values):
            return
        fault = f"`{chosen}` was 0 in all {len(values)} validations"
    else:
        fault = f"this model computes no `{chosen}`"
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="best-by-nothing",
        message=f"the trainer chooses the best checkpoint by `{chosen}`, and {fault}: the choice means nothing",
        step=rank.validations[-1].step,
        rank=rank.rank,
        evidence=(f"statistics of a validation: {', '.join(sorted(rank.validations[-1].stats)) or 'none'}",),
        remedy="++train_conf.avg_keep_nbest_models_type=loss",
    )


def _never_validated(rank: RankState, chosen: str) -> Iterator[WatchFinding]:
    """Epochs have passed and checkpoints were saved, and no batch was validated: as with an empty validation set."""
    saved = any(saved_file.tensors and not saved_file.averaged for saved_file in rank.saved)
    # The passes of a compiled model are not observed, those of its validation neither.
    observed = any(step.forwards for step in rank.recent)
    if not chosen or rank.rank or not saved or not observed or len(rank.epochs) < VALIDATED_BY:
        return
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="best-by-nothing",
        message=f"the trainer chooses the best checkpoint by the validation's `{chosen}`, and no batch was validated "
        f"in {len(rank.epochs)} epochs: the choice means nothing",
        step=rank.steps,
        rank=rank.rank,
        remedy="does the validation set have rows, within the limits of `dataset_conf` and enough for a batch of each "
        "rank?",
    )


def _read_back(rank: RankState) -> Iterator[WatchFinding]:
    read_back = rank.read_back
    if read_back is None:
        return
    if read_back.missing or read_back.different:
        named = read_back.missing or read_back.different
        yield WatchFinding(
            severity=Severity.BROKEN,
            rule="read-back-differs",
            message=f"the last checkpoint, loaded again, is not what was trained: {_names(named)} "
            + ("are missing" if read_back.missing else "differ"),
            step=rank.steps,
            rank=rank.rank,
            evidence=(f"{Path(read_back.path).name}: {read_back.equal} of {read_back.tensors} tensors are equal",),
            remedy="see the release's known issues for saving",
        )
    groups = {group.name: group for group in rank.training.groups} if rank.training else {}
    not_moved = [
        name for name, share in read_back.moved.items() if share == 0.0 and name in groups and groups[name].trainable
    ]
    if not not_moved or not rank.steps:
        return
    everything = len(not_moved) == len([name for name in read_back.moved if name in groups and groups[name].trainable])
    yield WatchFinding(
        severity=Severity.BROKEN if everything else Severity.WRONG,
        rule="parts-not-moved",
        message="no weight has moved: nothing was trained"
        if everything
        else f"{_names(tuple(not_moved))}: trainable, and not one weight has moved",
        step=rank.steps,
        rank=rank.rank,
        evidence=tuple(f"{name}: {share:.0%} of the tensors moved" for name, share in sorted(read_back.moved.items()))[
            :8
        ],
        remedy="does the loss depend on that part? If it is to stay as it is, name it in `freeze_param`",
    )


def _never_saved(rank: RankState) -> Iterator[WatchFinding]:
    ended = rank.ended
    if rank.rank or ended is None or ended.how != "finished" or rank.saved or not rank.steps:
        return
    if rank.training is not None and not rank.training.trainer:
        return
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="never-saved",
        message=f"the training took {rank.steps} steps and saved nothing",
        step=rank.steps,
        rank=rank.rank,
        remedy="look at `++train_conf.save_checkpoint_interval` and at `output_dir`",
    )
