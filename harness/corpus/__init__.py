"""Speech whose text is known, and what a model must be told about it: tokens and feature statistics."""
