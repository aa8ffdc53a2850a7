"""Every key of the config and the command: does this release read it, and what does it take for a value?"""
