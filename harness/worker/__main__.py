"""`python -m harness.worker serve PLAN CHANNEL PARENT [WITHOUT ...]`,
`python -m harness.worker cell REQUEST RESULT TRACE`.

PLAN, CHANNEL, REQUEST, RESULT and TRACE are descriptors that come with the exec, PARENT is a process, and WITHOUT are
modules that are not imported beforehand.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run one of the two commands; on success both end the process themselves."""
    match arguments:
        case ["serve", plan, channel, parent, *without]:
            from harness.worker.process import scheduler

            scheduler.serve(int(plan), int(channel), without, parent=int(parent))
        case ["cell", request, result, trace]:
            from harness.worker.process import cell_process

            cell_process.serve(int(request), int(result), int(trace))
        case _:
            print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
