"""The checks: what is measured in a release, one module or package per check."""
