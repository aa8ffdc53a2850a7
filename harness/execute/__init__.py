"""The process tree seen from outside: planning, starting, following, deciding what became of each cell."""

from harness.execute.plan import Batch, Plan, PlannedCell, Settings, build_plan
from harness.execute.run import execute

__all__ = ["Batch", "Plan", "PlannedCell", "Settings", "build_plan", "execute"]
