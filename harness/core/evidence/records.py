"""Which records each check's metrics and evidence are parsed into."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.core.evidence.checkpoint import CheckpointEvidence, CheckpointMetrics
from harness.core.evidence.contract import ConstructEvidence, ConstructMetrics, ContractEvidence, ContractMetrics
from harness.core.evidence.data import DataEvidence, DataMetrics
from harness.core.evidence.decode import DecodeEvidence, DecodeMetrics
from harness.core.evidence.imports import ImportEvidence, ImportMetrics
from harness.core.evidence.properties import PropertyEvidence, PropertyMetrics
from harness.core.evidence.training import TrainingEvidence, TrainingMetrics

RECORDS: Mapping[str, tuple[type[Any], type[Any]]] = MappingProxyType(
    {
        "import": (ImportMetrics, ImportEvidence),
        "construct": (ConstructMetrics, ConstructEvidence),
        "loss_contract": (ContractMetrics, ContractEvidence),
        "properties": (PropertyMetrics, PropertyEvidence),
        "data": (DataMetrics, DataEvidence),
        "finetune": (TrainingMetrics, TrainingEvidence),
        "checkpoint": (CheckpointMetrics, CheckpointEvidence),
        "decode": (DecodeMetrics, DecodeEvidence),
    }
)
"""By check: the class of the metrics and that of the evidence."""
