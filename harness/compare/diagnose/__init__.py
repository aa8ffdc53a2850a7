"""Why a cell fails: compares a failing release, call by call, with one in which the same cell passes.

Its rules and limits: docs/investigating.md#diagnose-why-a-cell-fails.
"""

from harness.compare.diagnose.divergence import Divergence, divergences, first_divergence
from harness.compare.diagnose.runner import Traced, TracedRunner
from harness.compare.diagnose.traces import Trace

__all__ = ["Divergence", "Trace", "Traced", "TracedRunner", "divergences", "first_divergence"]
