"""One release against what the user has: which one is meant, what it cannot do, and its known issues."""
