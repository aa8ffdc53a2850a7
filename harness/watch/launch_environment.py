"""The environment with which a user's command is started, so that the observers begin in each process that trains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import harness

RECORDS = "FUNASR_HARNESS_WATCH"
"""Names the folder of the records; without it the observers do nothing."""

STARTUP = Path(harness.__file__).parent / "worker" / "watch" / "startup"
"""The folder of the `sitecustomize` that Python imports at its start."""


def environment(records_folder: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables for the command, with this process's own if `base` is None.

    Python started with `-S`, `-I` or `-E` reads no PYTHONPATH or no `sitecustomize`: it is not observed.
    """
    variables = dict(os.environ if base is None else base)
    variables[RECORDS] = str(records_folder.absolute())
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(STARTUP), variables.get("PYTHONPATH"))))
    return variables
