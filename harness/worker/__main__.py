"""`python -m harness.worker serve PLAN.json PARENT` and `python -m harness.worker cell REQUEST.json RESULT.json`."""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one of the two commands; on success both end the process themselves."""
    match arguments:
        case ["serve", plan, parent]:
            from harness.worker.process import scheduler

            scheduler.serve(Path(plan), parent=int(parent))
        case ["cell", request, result]:
            from harness.worker.process import cell_process

            cell_process.serve(Path(request), Path(result))
        case _:
            print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
