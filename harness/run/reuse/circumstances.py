"""What decides an outcome besides release and request: the environment, the machine, the harness's code."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from functools import cache
from pathlib import Path

from harness.environments.environment import Environment
from harness.run.cpu_info import processor_kind
from harness.run.provenance import this_machine


def circumstances(environment: Environment, memory_bytes: int) -> str:
    """One text that is another wherever one of these is; `memory_bytes` is what a cell may use."""
    machine = asdict(this_machine())
    data = {
        "python": environment.python_version,
        "torch": environment.torch_version,
        "cuda": environment.cuda_version,
        "libraries": dict(environment.libraries),
        "shims": environment.shims,
        "machine": {name: machine[name] for name in ("host", "processor", "cpu_count")},
        "instructions": processor_kind(),
        "memory_bytes": memory_bytes,
        # it parses the sources, and a later version may write the same syntax down in another way
        "parser": platform.python_version(),
        "harness": harness_code(),
    }
    return json.dumps(data, sort_keys=True)


@cache
def harness_code() -> str:
    """The hash of all of the harness's own code and of the data that it brings along."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".toml", ".yaml") and path.is_file():
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
