"""Keys of `Outcome.evidence` and `Outcome.metrics` that several layers read or write."""

from __future__ import annotations

USER_ROWS = "user_rows"
"""The key in the evidence of a cell that trains on a user's file: `file`, `listed`, `trainable`, and `reasons` with
`line`, `key` and `reason` of rows that are left out, and their recording's `frames` where `source_len` is not that.
In its metrics: what of them reached training."""

NAMED_ROWS = 50
"""Rows that are left out are named up to so many."""

OWN_SETTINGS = "own_settings"
"""The key in a cell's evidence that holds what the user's own variant sets, see `harness.variants.catalogue`."""

REUSED = "reused"
"""The key in the evidence of a cell that was not run, see `harness.run.reuse`: `cell` is the id of the one that was."""

BLOCKED_BY = "blocked_by"
"""The key in the evidence of a blocked cell that holds the id of the cell that blocks it."""
