"""Default paths of the command line, relative to the folder that a command is started in."""

from __future__ import annotations

from pathlib import Path

BASELINES = Path("reports/baselines")
"""Where baselines lie, below the folder that the harness is called from."""

LOCK = Path("matrices/releases.lock.toml")
KNOWN_ISSUES = Path("matrices/known_issues.toml")
