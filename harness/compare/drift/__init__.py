"""Releases grouped by the losses that they train to: on a CPU equal releases give equal losses to the last digit.

`curves` groups the releases of a run, `evidence` holds neighbouring groups against each other by what was measured,
`tracing` runs both sides again with a recorder, `causes` says what the evidence supports, `storing` keeps it.
"""
