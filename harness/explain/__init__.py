"""What a log or a traceback of a training with FunASR says: the release, the cause if it is known, and what to do."""
