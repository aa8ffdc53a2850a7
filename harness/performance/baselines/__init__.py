"""Baselines: what fine-tunes took on a machine when somebody looked and accepted it, with the noise of its repeats.

One file for each machine, torch and precision, under `reports/baselines/`; see docs/performance.md#baselines.
Runs are compared with them in `harness/performance/baselines/compare.py`.
"""

from harness.performance.baselines.files import load_baselines, write_baseline
from harness.performance.baselines.keys import Key
from harness.performance.baselines.records import Acceptance, Baseline, BaselineEntry, RunOrigin

__all__ = ["Acceptance", "Baseline", "BaselineEntry", "Key", "RunOrigin", "load_baselines", "write_baseline"]
