"""Architectures: FunASR configs with placeholders for the dimensions, one YAML file each."""
