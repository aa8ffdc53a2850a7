"""What a training started with, by its log: weights that were not loaded, rows that never arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized

from harness.core.cells import Severity
from harness.explain.errors_of_log import PREFLIGHT
from harness.explain.explanation import LogExplanation, silent_fault
from harness.explain.training_lines import TrainingRecord
from harness.text.plain import some
from harness.text.units import count, plural


def weights_not_loaded(record: TrainingRecord) -> Iterator[LogExplanation]:
    """A start that is missing, tensors that are missing or of another size."""
    for name in dict.fromkeys(record.missing_start):
        yield silent_fault(
            "start-missing",
            f"init_param does not exist: {name}",
            cause="FunASR prints this line and continues: the model starts with random weights, not with a "
            "checkpoint's.",
            remedy="Correct ++init_param; it is relative to the folder in which the training was started.",
            commands=(PREFLIGHT,),
            evidence=("known issue init-param-missing-is-no-error, in 1.0.10 and later",),
        )
    missing = [name for name in record.missing if "lora_" not in name]
    if missing:
        yield silent_fault(
            "tensors-missing",
            f"{plural(len(missing), 'tensor')} of the model {_are(missing)} not in the checkpoint",
            cause="FunASR prints a line for each and continues: they start with random values.",
            remedy="Give the checkpoint of this architecture, or expect to train these parts from the start.",
            commands=(PREFLIGHT,),
            evidence=(_parts(missing),),
        )
    if record.reshaped:
        name, (model_size, checkpoint_size) = next(iter(record.reshaped.items()))
        yield silent_fault(
            "tensors-of-other-size",
            f"{plural(len(record.reshaped), 'tensor')} of the checkpoint {_are(record.reshaped)} of another size and "
            "not loaded",
            cause="FunASR ignores tensors whose shape differs: these parts start with random values. The output layer "
            "and the embedding differ where the token list has another size than the checkpoint's.",
            remedy="Use the checkpoint's own tokens.json, am.mvn and config.yaml; with a token list of your "
            "own this is "
            "as it has to be, and the new layers need a training of their own.",
            commands=(PREFLIGHT,),
            evidence=(
                _parts(list(record.reshaped)),
                f"{name}: {model_size} in the model, {checkpoint_size} in the checkpoint",
            ),
        )


def _are(things: Sized) -> str:
    return "is" if len(things) == 1 else "are"


def _parts(names: list[str]) -> str:
    counted = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{part} ({number})" for part, number in counted.most_common(8))


def rows_not_trained(record: TrainingRecord) -> Iterator[LogExplanation]:
    """Data sets and epochs without a row."""
    empty = [name for name, rows in record.rows.items() if rows == 0]
    finished = record.saved or record.averaged
    if empty:
        yield silent_fault(
            "no-rows",
            f"no row of {some([name or 'the training set' for name in empty])} is taken",
            severity=Severity.BROKEN,
            cause="The index of the data set is empty: the file has no row, or every row is beyond "
            "max_source_length or "
            "max_target_length.",
            remedy="source_len is in frames of 10 ms: lengths in samples exceed every limit.",
            commands=(PREFLIGHT,),
        )
    elif not record.steps and (record.no_steps or (record.batches and not any(record.batches[:2]))):
        yield silent_fault(
            "no-steps",
            f"{_epochs_passed(record)} passed without a step" + (", and checkpoints were saved" if finished else ""),
            severity=Severity.BROKEN,
            cause="The sampler gave no batch. It drops rows beyond dataset_conf.max_token_length, up to "
            "1.0.17 also the "
            "last batch of an epoch.",
            remedy="source_len is in frames of 10 ms: lengths in samples exceed every limit. `preflight` counts the "
            "rows that are left.",
            commands=(PREFLIGHT,),
            evidence=tuple(f"{name or 'rows'}: {count(rows)} rows in the index" for name, rows in record.rows.items()),
        )
    if record.empty_batches:
        yield silent_fault(
            "empty-batches",
            "SenseVoice's collator had no row for "
            f"{plural(record.empty_batches, 'batch').replace('batchs', 'batches')}",
            cause="Every row of those batches was dropped: its features have more frames than dataset_conf.batch_size.",
            remedy="Set dataset_conf.batch_size to thousands (frames, with batch_type token), or remove long "
            "recordings.",
            commands=(PREFLIGHT,),
        )


def rows_replaced(record: TrainingRecord) -> Iterator[LogExplanation]:
    """Rows that another row took the place of, or that were dropped from their batch."""
    if record.unloaded:
        yield silent_fault(
            "recordings-not-loaded",
            f"{count(record.unloaded)} times a recording could not be loaded, and another row was taken in its place",
            cause="The data set catches the exception, logs it, and draws another row at random: these rows are never "
            "trained on, and others more often.",
            remedy="Correct the paths or remove the rows.",
            commands=(PREFLIGHT,),
            evidence=tuple(record.unloaded_why),
        )
    if record.halved:
        yield silent_fault(
            "batches-halved",
            f"{count(record.halved)} times every other row of a batch was dropped",
            cause="SenseVoice's collator drops rows until utterances times frames are at most 1.25 times "
            "dataset_conf.batch_size.",
            remedy="Use ++dataset_conf.batch_type=example, or a dataset_conf.batch_size that the longest "
            "recordings fit.",
            commands=(PREFLIGHT,),
        )


def _epochs_passed(record: TrainingRecord) -> str:
    return plural(record.entered["Train"] or record.no_steps, "epoch")
