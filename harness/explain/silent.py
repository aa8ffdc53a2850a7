"""What a log shows without any exception: no rows, no steps, a rate that is never reached, losses that are no numbers.

Each rule says only what the log's own lines show. A threshold stands where a sound training might come near it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.explain.explanation import LogExplanation
from harness.explain.silent_learning import faults_of_steps
from harness.explain.silent_start import rows_not_trained, rows_replaced, weights_not_loaded
from harness.explain.training_lines import TrainingRecord


def silent_faults(record: TrainingRecord) -> Iterator[LogExplanation]:
    """What is wrong with a training although nothing was raised, or besides."""
    if not (record.is_training or record.missing_start or record.reshaped or record.missing):
        return
    yield from weights_not_loaded(record)
    rows = list(rows_not_trained(record))
    yield from rows
    yield from rows_replaced(record)
    if not rows:
        yield from faults_of_steps(record)
