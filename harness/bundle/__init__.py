"""A matrix with all that it needs in one file, for a GPU host without a network; its result is one file too.

`contents`, `libraries` and `archive` make the bundle. On the host, `bootstrap` unpacks it before anything of the
harness can be imported, and `harness.commands.bundle_host` runs it. `result` imports the result file.
"""
