"""Speech whose text is known, and what a model needs for it: tokens and feature statistics."""
