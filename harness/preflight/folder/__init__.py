"""The model folder as it lies: which files are in force, and what each of them holds."""
