"""A release in this process: importing it, its registry, its models, and the shims that let it run here."""
