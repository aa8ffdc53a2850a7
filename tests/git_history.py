"""A history of a FunASR in miniature, made with git in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOUND, BROKEN, UNBUILDABLE = "width = 8404\n", "width = 320\n", "def forward(:\n"
MODEL = "funasr/models/model.py"
OTHER = "funasr/utils/other.py"


@dataclass
class History:
    """A repository whose commits are made one after the other."""

    folder: Path
    commits: list[str] = field(default_factory=list)

    def git(self, *arguments: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{who}_NAME": "A. Author", f"GIT_{who}_EMAIL": "author@example.invalid"}
            env |= {f"GIT_{who}_DATE": f"2024-03-{len(self.commits) + 1:02d}T12:00:00+08:00"}
        answer = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], capture_output=True, text=True, env=env, check=True
        )
        return answer.stdout.strip()

    def commit(self, message: str, files: Mapping[str, str | None]) -> str:
        """Write some files, remove those that are None, and commit."""
        for name, text in files.items():
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                place.unlink()
            else:
                place.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.commits.append(self.git("rev-parse", "HEAD"))
        return self.commits[-1]


def begin(folder: Path, version: str = "1.0.0") -> History:
    """A repository with one commit of a sound release."""
    folder.mkdir(parents=True)
    history = History(folder)
    history.git("init", "-q", "-b", "main")
    history.commit(
        f"v{version}",
        {
            "funasr/__init__.py": "",
            "funasr/version.txt": f"{version}\n",
            MODEL: SOUND,
            OTHER: "x = 0\n",
            "setup.py": 'requirements = {"install": ["scipy"]}\n',
            "README.md": "FunASR\n",
        },
    )
    return history
