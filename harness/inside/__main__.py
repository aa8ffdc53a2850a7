"""`python -m harness.inside serve PLAN.json PARENT` and `python -m harness.inside cell REQUEST.json RESULT.json`."""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one of the two commands; both end the process themselves when all is well."""
    match arguments:
        case ["serve", plan, parent]:
            from harness.inside import tree

            tree.serve(Path(plan), parent=int(parent))
        case ["cell", request, result]:
            from harness.inside import cell

            cell.serve(Path(request), Path(result))
        case _:
            print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
