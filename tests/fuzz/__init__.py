"""Mutated and hostile inputs for every parser of files from outside: `python -m tests.fuzz`."""
