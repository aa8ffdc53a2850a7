"""Planted faults: what is wrong with them, where the harness must see it, and a run that tells whether it does.

`python -m tests.faults power` runs them, `python -m tests.faults table` writes `reports/planted_faults.md`.
"""
