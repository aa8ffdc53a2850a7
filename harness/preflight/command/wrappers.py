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
    rest = list(words)
    while rest:
        name = posixpath.basename(rest[0].text)
        if name in _RUNNERS and len(rest) > 1 and rest[1].text in _RUNNERS[name]:
            rest = _after_options(rest[2:], frozenset({"-n", "--name", "-p", "--with", "--python"}))
        elif name in _WITH_VALUE:
            rest = _after_options(rest[1:], _WITH_VALUE[name])
            if name in _WITH_ARGUMENT:
                rest = rest[1:]
            while name == "env" and rest and re.match(r"[A-Za-z_]\w*=", rest[0].text):
                rest = rest[1:]
        else:
            break
    return tuple(rest)


def given_by_env(words: Sequence[Word]) -> dict[str, Word]:
    """`env NAME=value program`: the variables that it sets."""
    found: dict[str, Word] = {}
    if not any(posixpath.basename(word.text) == "env" for word in words[:4]):
        return found
    for word in words[: len(words) - len(unwrapped(words))]:
        name, equals, _ = word.text.partition("=")
        if equals and name.isidentifier():
            found[name] = word
    return found


def _after_options(words: list[Word], with_value: frozenset[str]) -> list[Word]:
    rest = words
    while rest and rest[0].text.startswith("-") and rest[0].text != "-":
        if rest[0].text == "--":
            return rest[1:]
        rest = rest[2 if rest[0].text in with_value else 1 :]
    return rest
