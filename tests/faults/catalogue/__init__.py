"""All faults, by subject."""

from __future__ import annotations

from ..records import Fault
from . import checkpoints, collection, data, hearing, losses, models, settings, trainers

FAULTS: tuple[Fault, ...] = (
    *losses.FAULTS,
    *models.FAULTS,
    *hearing.FAULTS,
    *data.FAULTS,
    *trainers.FAULTS,
    *checkpoints.FAULTS,
    *settings.FAULTS,
    *collection.FAULTS,
)
