"""Baselines: what fine-tunes took on a machine when somebody looked and accepted it, with the noise of its repeats.

One file for each machine, torch and precision, under `reports/baselines/`; see docs/baselines.md. What runs are held
against is in `harness/judge/baseline.py`.
"""

from harness.baselines.files import load_baselines, write_baseline
from harness.baselines.keys import Key
from harness.baselines.records import Acceptance, Baseline, Entry, RunOrigin

__all__ = ["Acceptance", "Baseline", "Entry", "Key", "RunOrigin", "load_baselines", "write_baseline"]
