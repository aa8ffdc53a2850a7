"""The command line with its kept outcomes in a folder of their own: `python kept_outcomes_at.py FOLDER WORDS…`.

Releases, speech and compiled code stay those of the cache, so that a command meets a warm cache and knows no outcome.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness import cli
from harness.run.reuse import kept

if __name__ == "__main__":
    # An absolute path takes the place of the cache that it is joined to.
    kept.FOLDER = str(Path(sys.argv[1]).absolute())
    sys.exit(cli.main(sys.argv[2:]))
