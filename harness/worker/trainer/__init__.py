"""A release's own trainer: running it, observing it, and what it has to do by its configuration."""
