"""Kills, cuts, misbehaviours and random faults, against a stored run of small cells: `python -m tests.harden`."""
