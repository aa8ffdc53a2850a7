"""For tests that send signals to a child: whoever runs the tests may have set some of them to be ignored."""

from __future__ import annotations

import signal


def listen() -> None:
    """As `preexec_fn`: let the child answer signals as it would at a terminal; nohup and `&` leave them ignored."""
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
