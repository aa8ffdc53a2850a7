"""Releases grouped by the losses that they train to: on a CPU equal releases give bit-identical losses.

`curves` groups the releases of a run, `divergences` compares neighbouring groups by their metrics, `tracing` runs both
sides again with a recorder, `recordings` keeps that, `causes` says what the evidence supports, and `analysis` puts it
together for `format`, the report and JSON.
"""
