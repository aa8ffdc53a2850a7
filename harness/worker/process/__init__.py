"""The process tree within one environment: one process per release, one per cell."""
