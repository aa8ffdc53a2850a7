"""Programs that start another program: `nohup`, `env`, `nice`, `srun` …"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from harness.preflight.command.words import Word

_WITH_VALUE: Mapping[str, frozenset[str]] = {
    "nohup": frozenset(),
    "time": frozenset(),
    "exec": frozenset(),
    "command": frozenset(),
    "setsid": frozenset(),
    "env": frozenset({"-u", "-C", "-S"}),
    "sudo": frozenset({"-u", "-g"}),
    "nice": frozenset({"-n"}),
    "ionice": frozenset({"-c", "-n"}),
    "stdbuf": frozenset({"-i", "-o", "-e"}),
    "timeout": frozenset({"-s", "-k"}),
    "taskset": frozenset({"-c"}),
    "numactl": frozenset(),
    "srun": frozenset({"-p", "-n", "-N", "-c", "-J", "-w", "-t"}),
    "xargs": frozenset({"-n", "-I"}),
}
"""Each with its options that take a value as the next word."""
_WITH_ARGUMENT = frozenset({"timeout", "taskset"})
"""Those whose first argument is their own."""
_RUNNERS: Mapping[str, tuple[str, ...]] = {"uv": ("run",), "poetry": ("run",), "conda": ("run",), "pipenv": ("run",)}


def unwrapped(words: Sequence[Word]) -> tuple[Word, ...]:
    """The words from the program on that does the work."""
    remaining = list(words)
    while remaining:
        name = posixpath.basename(remaining[0].text)
        if name in _RUNNERS and len(remaining) > 1 and remaining[1].text in _RUNNERS[name]:
            remaining = _after_options(remaining[2:], frozenset({"-n", "--name", "-p", "--with", "--python"}))
        elif name in _WITH_VALUE:
            remaining = _after_options(remaining[1:], _WITH_VALUE[name])
            if name in _WITH_ARGUMENT:
                remaining = remaining[1:]
            while name == "env" and remaining and re.match(r"[A-Za-z_]\w*=", remaining[0].text):
                remaining = remaining[1:]
        else:
            break
    return tuple(remaining)


def given_by_env(words: Sequence[Word]) -> dict[str, Word]:
    """`env NAME=value program`: the variables that it sets."""
    variables: dict[str, Word] = {}
    if not any(posixpath.basename(word.text) == "env" for word in words[:4]):
        return variables
    for word in words[: len(words) - len(unwrapped(words))]:
        name, equals, _ = word.text.partition("=")
        if equals and name.isidentifier():
            variables[name] = word
    return variables


def _after_options(words: list[Word], with_value: frozenset[str]) -> list[Word]:
    remaining = words
    while remaining and remaining[0].text.startswith("-") and remaining[0].text != "-":
        if remaining[0].text == "--":
            return remaining[1:]
        remaining = remaining[2 if remaining[0].text in with_value else 1 :]
    return remaining
