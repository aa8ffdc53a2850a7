"""A matrix with all that it needs in one file, for a GPU host without a network; what comes back is one file too.

Made at home by `contents`, `libraries` and `archive`; unpacked there by `starter`, which runs before anything of the
harness can be imported; run there by `there`; taken in at home by `result`.
"""
