"""A user's own training, observed while it runs: what the observers recorded, what follows from it, and its display.

The observers themselves are `harness.worker.watch`: they run in the user's processes, and write records.
"""
