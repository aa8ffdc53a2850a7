"""Failures that a user's own key, value or file causes: they are not booked as a release's."""

from __future__ import annotations

YOURS = "yours"
"""The key in a failed cell's evidence that names the cause: `reason` is one sentence with the file and the key."""
