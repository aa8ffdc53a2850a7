"""A release's own trainer: running it, observing it, and what its configuration requires."""
