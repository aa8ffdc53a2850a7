"""Records what FunASR's own training scripts pass, release by release, from a git checkout of FunASR.

    python -m tests.record_shipped_scripts GIT_DIRECTORY

writes `harness/preflight/release/shipped_scripts.json`: of each script of `examples/` that calls a trainer the entry
point and the keys and values that it passes, with the releases in which it is so and their commits. No script is
copied.
A release's commit is the last one with its number in `funasr/version.txt`: what users of that release found in the
repository. (The scripts of the first commit of 1.0.28 start nothing: `${MASTER_PORT: 26669}` is empty. A commit of the
same day mends them.)
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight.command import read_script

RELEASES = ("1.0.0", "1.0.6", "1.0.14", "1.0.20", "1.0.28", "1.1.6", "1.2.0", "1.2.7", "1.3.1", "1.4.3")
TARGET = Path(__file__).parent.parent / "harness" / "preflight" / "release" / "shipped_scripts.json"
TRAINS = (b"bin/train", b"funasr-train", b"funasr.bin.train")


def git(directory: str, *words: str) -> bytes:
    return subprocess.run(["git", "-C", directory, *words], check=True, capture_output=True).stdout


def commits(directory: str) -> dict[str, str]:
    """The last commit of each version on the main line."""
    found = {git(directory, "show", "HEAD:funasr/version.txt").decode().strip(): git_id(directory, "HEAD")}
    changes = git(directory, "log", "--first-parent", "--format=%H", "--", "funasr/version.txt").decode().split()
    for commit in changes[:-1]:
        before = git_id(directory, f"{commit}^")
        version = git(directory, "show", f"{before}:funasr/version.txt").decode().strip()
        found.setdefault(version, before)
    return found


def git_id(directory: str, name: str) -> str:
    return git(directory, "rev-parse", name).decode().strip()


def recorded(directory: str, commit: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    """What each script of a commit passes, and how many findings of which severity it has."""
    made, counts = [], Counter[str]()
    with tempfile.TemporaryDirectory() as root:
        with tarfile.open(fileobj=io.BytesIO(git(directory, "archive", commit, "examples"))) as archive:
            archive.extractall(root, filter="data")
        for script in sorted(Path(root, "examples").rglob("*.sh")):
            if not script.is_file() or not any(word in script.read_bytes() for word in TRAINS):
                continue
            try:
                command = read_script(script, root=script.parent, environment={})
            except InputError as error:
                counts[f"unreadable: {error}"] += 1
                continue
            counts["scripts"] += 1
            for one in command.findings:
                counts[f"{one.severity}: {one.rule}"] += 1
                if one.severity is not Severity.MINOR:
                    print(commit[:8], script.relative_to(root), one.place.line, one.rule, one.message)
            if command.called:
                settings = {one.path: one.value for one in command.overrides}
                here = str(script.parent)
                made.append(
                    {
                        "script": str(script.relative_to(root)),
                        "entry": command.entry,
                        "launcher": command.launcher,
                        "settings": {key: within(value, here) for key, value in settings.items()},
                        "unvalued": sorted(one.path for one in command.unvalued),
                        "config": within(command.config_file, here),
                    }
                )
    return made, counts


def within(value: Any, folder: str) -> Any:
    """A value; of a file only that it is one, for its place is that of somebody's machine."""
    if isinstance(value, list):
        return [within(one, folder) for one in value]
    if isinstance(value, str) and (value.startswith(("/", ".")) or folder in value):
        return f"<path>/{value.rsplit('/', 1)[-1]}"
    return value


def main(directory: str) -> None:
    known, scripts = commits(directory), {}
    for release in RELEASES:
        made, counts = recorded(directory, known[release])
        print(release, known[release][:8], dict(counts))
        for one in made:
            same = scripts.setdefault(json.dumps(one, sort_keys=True), {**one, "releases": {}})
            same["releases"][release] = known[release]
    TARGET.parent.mkdir(exist_ok=True)
    ordered = sorted(scripts.values(), key=lambda one: (one["script"], list(one["releases"])))
    TARGET.write_text(json.dumps({"scripts": ordered}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
