"""Matrices and settings, read from TOML: every problem of a file at once, each with its place."""
