"""Observers of a user's own training, which run in the user's process and interpreter.

The package is complete in itself: standard library of Python 3.8 to 3.13, torch where the training has imported it,
relative imports only. `startup/sitecustomize.py` loads it by its path, so the harness need not be installed there.
What it writes is described in `harness/watch/records.py`. Nothing of the training is replaced, drawn or waited for.
"""
