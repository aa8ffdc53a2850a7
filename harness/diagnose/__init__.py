"""Why a cell fails: a failing release beside one in which the same cell passes, compared call by call.

What it does, how it decides and what it cannot see is told in docs/diagnose.md.
"""

from harness.diagnose.asking import Asker, Traced
from harness.diagnose.parting import Parting, first_parting, partings
from harness.diagnose.traces import Trace

__all__ = ["Asker", "Parting", "Trace", "Traced", "first_parting", "partings"]
