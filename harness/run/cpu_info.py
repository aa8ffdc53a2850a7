"""The kind of processor, as `/proc/cpuinfo` describes the first one.

Virtual machines give one model name to processors of several kinds, "AMD EPYC" among them. With other instructions a
float32 sum has another order, and a step takes another time.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

_KIND = {"cpu family": "family", "model": "model", "stepping": "stepping"}
"""Of an x86 processor, where its name says less."""
_INSTRUCTIONS = ("vendor_id", *_KIND, "flags", "CPU implementer", "CPU part", "Features")
"""On x86 and on ARM."""


def processor_name() -> str:
    """Such as `AMD EPYC (family 25, model 17, stepping 1)`."""
    return name_in(_described()) or platform.processor() or platform.machine()


def processor_kind() -> dict[str, str]:
    """What decides in which order the processor computes."""
    return kind_in(_described())


def name_in(described: str) -> str:
    """The name in a text such as that of `/proc/cpuinfo`; empty where it has none."""
    fields = _fields(described)
    kind = ", ".join(f"{word} {fields[name]}" for name, word in _KIND.items() if name in fields)
    return f"{fields['model name']}{f' ({kind})' if kind else ''}" if "model name" in fields else ""


def kind_in(described: str) -> dict[str, str]:
    """The kind in such a text; empty where nothing is described."""
    fields = _fields(described)
    return {name: " ".join(sorted(fields[name].split())) for name in _INSTRUCTIONS if name in fields}


def _fields(described: str) -> dict[str, str]:
    first = described.strip().partition("\n\n")[0]
    return {name: text.strip() for name, text in re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*)$", first, re.MULTILINE)}


def _described() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
