"""Why a cell fails: a failing release beside one in which the same cell passes, compared call by call.

Its rules and limits: docs/investigating.md#diagnose-why-a-cell-fails.
"""

from harness.compare.diagnose.divergence import Divergence, divergences, first_divergence
from harness.compare.diagnose.runner import Traced, TracedRunner
from harness.compare.diagnose.traces import Trace

__all__ = ["Divergence", "Trace", "Traced", "TracedRunner", "divergences", "first_divergence"]
