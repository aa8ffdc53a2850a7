"""Measurements within a release for `harness.preflight`, on a user's own files: none of them writes to those."""
