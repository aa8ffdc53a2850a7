"""The process tree seen from outside: planning, starting, following, deciding what became of each cell."""

from harness.run.executor import execute
from harness.run.plan import Plan, Settings, build_plan

__all__ = ["Plan", "Settings", "build_plan", "execute"]
