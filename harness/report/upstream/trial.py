"""Runs a script in the release's own environment, as somebody who has nothing but that release and torch."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Release
from harness.core.temporary import temporary_folder
from harness.environments.environment import Environment, scrubbed_environment
from harness.releases import install_path
from harness.report.upstream.scripts import SHOWN
from harness.run.scrub import Scrubber

PATIENCE_SECONDS = 300.0
_LONGEST = 12_000


@dataclass(frozen=True, kw_only=True)
class ScriptTrial:
    """What a script did when it was run."""

    exit_status: int | None
    """None when it did not end in time."""
    output: str
    """What it printed, without folders of this machine."""

    @property
    def shown(self) -> bool:
        """Whether the fault showed."""
        return self.exit_status == SHOWN

    @property
    def sentence(self) -> str:
        """What came of it."""
        if self.shown:
            return f"the script was run and showed the fault (exit status {SHOWN})"
        if self.exit_status == 0:
            return "the script was run and did not show the fault (exit status 0)"
        ended = "did not end in time" if self.exit_status is None else f"ended with exit status {self.exit_status}"
        return f"the script {ended}: nothing is known of whether it shows the fault"


def run(script: str, release: Release, stack: Environment, *, cache: Path) -> ScriptTrial:
    """Run a script's text with the release first on its path, and nothing of the harness on it."""
    install_dir = install_path(release, cache)
    with temporary_folder("issue") as workspace:
        environment = scrubbed_environment(stack, workspace, cache=cache)
        environment["PYTHONPATH"] = os.pathsep.join(map(str, (install_dir, *stack.extra_paths)))
        file = workspace / "reproduce.py"
        file.write_text(script, encoding="utf-8")
        try:
            completed = subprocess.run(
                [str(stack.python), str(file)],
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                cwd=workspace,
                timeout=PATIENCE_SECONDS,
            )
            status, printed = completed.returncode, completed.stdout
        except subprocess.TimeoutExpired:
            status, printed = None, ""
        scrubber = Scrubber.of(install_dirs=[install_dir], places={str(cache): "<cache>"}, workspace=workspace)
        return ScriptTrial(exit_status=status, output=scrubber.text(printed)[-_LONGEST:])
