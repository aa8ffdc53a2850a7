"""Faults planted in a release, in the data or in the command, each in a real training that `watch` watches.

`python -m tests.watch_faults` runs all of them, and sound trainings beside them, and prints what was named.
"""

import sys
from pathlib import Path

# The helpers of the tests are found as pytest finds them.
sys.path.insert(0, str(Path(__file__).parent.parent))
