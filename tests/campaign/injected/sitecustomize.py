"""Random faults of the machine in every process of a run: `CAMPAIGN_FAULTS=SEED:PROBABILITY`.

A run of real releases hands its processes no such variable: they read the same words from `faults.txt` next to this
file. There, the processes of releases and cells are killed and have no faulty calls: what a release makes of a full
disk is its own affair.

Calls that write, make files, pipes and processes now and then raise OSError, and now and then the process is killed or
stopped. The draws of a process depend on the seed and on which process it is, not on its number.
"""

import builtins
import errno
import io
import os
import pathlib
import random
import signal
import socket
import sys

_ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EDQUOT)
_CALLS = ("open", "write", "pwrite", "fsync", "rename", "replace", "mkdir", "memfd_create", "pipe", "fork", "ftruncate")
_SIGNALS = 0.1
"""Of the faults."""


def _install(seed, probability):
    words = " ".join(sys.orig_argv)
    command, fresh_cell = "stored_run.py" in words or "harness run" in words, " cell " in words
    real = _FILE.is_file()
    chance = [random.Random(seed + (0 if command else 1))]
    # forks below the process of all releases: its own children are those of releases, theirs are cells
    depth = [2 if fresh_cell else 0]

    def fault(name):
        if chance[0].random() >= probability:
            return
        foreign = real and depth[0] > 0
        if chance[0].random() < _SIGNALS:
            # nobody watches the command, and a cell that is stopped has to wait for its time limit
            may_stop = not command and depth[0] < 2
            os.kill(os.getpid(), chance[0].choice((signal.SIGKILL, signal.SIGSTOP if may_stop else signal.SIGKILL)))
            return
        if foreign:
            return
        number = chance[0].choice(_ERRORS)
        raise OSError(number, os.strerror(number), f"planted in {name}")

    def faulty(call, name):
        def called(*arguments, **named):
            fault(name)
            return call(*arguments, **named)

        return called

    for name in _CALLS:
        setattr(os, name, faulty(getattr(os, name), f"os.{name}"))
    builtins.open = io.open = faulty(io.open, "open")
    socket.socket.sendmsg = faulty(socket.socket.sendmsg, "sendmsg")
    drawn = [0]

    def before_fork():
        drawn[0] = chance[0].getrandbits(32)

    def in_child():
        chance[0] = random.Random(drawn[0])
        depth[0] += 1

    os.register_at_fork(before=before_fork, after_in_child=in_child)


_FILE = pathlib.Path(__file__).with_name("faults.txt")
_words = _FILE.read_text() if _FILE.is_file() else os.environ.get("CAMPAIGN_FAULTS", "")
if _words:
    _seed, _probability = _words.split(":")
    _install(int(_seed), float(_probability))
