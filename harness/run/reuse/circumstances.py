"""What decides an outcome besides release and request: the environment, the machine, the harness's code."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path

from harness.environments.environment import Environment
from harness.run.provenance import this_machine

_INSTRUCTIONS = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "Features")
"""Lines of `/proc/cpuinfo`, on x86 and on ARM: virtual machines give one model name to processors of several kinds, and
with other instructions a float32 sum has another order."""


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
        "instructions": processor_kind(_described_processors()),
        "memory_bytes": memory_bytes,
        # it parses the sources, and a later version may write the same syntax down in another way
        "parser": platform.python_version(),
        "harness": harness_code(),
    }
    return json.dumps(data, sort_keys=True)


def processor_kind(described: str) -> dict[str, str]:
    """What the first processor in the text of `/proc/cpuinfo` can do; empty where that is not described."""
    first = described.strip().partition("\n\n")[0]
    fields = dict(re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*)$", first, re.MULTILINE))
    return {name: " ".join(sorted(fields[name].split())) for name in _INSTRUCTIONS if name in fields}


def _described_processors() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""


@cache
def harness_code() -> str:
    """The hash of all of the harness's own code and of the data that it brings along."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".toml", ".yaml") and path.is_file():
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
