"""A release's code, read and never run."""
