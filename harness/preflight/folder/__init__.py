"""The model folder: which files are in force, and what each of them holds."""
