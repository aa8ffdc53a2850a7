"""The static comparison of two laid-out releases, as far as a cell came to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from harness.compare.diagnose.api import ApiChange, object_changes, parameter_changes
from harness.compare.diagnose.changes import FunctionChange
from harness.compare.diagnose.reads import key_changes, registry_changes, return_changes, yaml_changes
from harness.compare.diagnose.source import ReleaseSource


def api_changes(
    changed: Sequence[FunctionChange], files: Sequence[str], mine: ReleaseSource, theirs: ReleaseSource
) -> tuple[ApiChange, ...]:
    """What changed in parameters, defaults, keys, results, objects and registries.

    Args:
        changed: The functions that ran and differ; in all others nothing of the sort can have changed.
        files: The files of which something ran.
    """
    touched = sorted({each.file for each in changed})
    return tuple(
        chain(
            _of_functions(changed, mine, theirs),
            chain.from_iterable(object_changes(file, mine, theirs) for file in touched),
            registry_changes(mine, theirs, files),
            yaml_changes(mine, theirs, files),
        )
    )


def _of_functions(changed: Sequence[FunctionChange], mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    for each in changed:
        if each.is_whole:
            continue
        for compare in (parameter_changes, key_changes, return_changes):
            yield from compare(each.file, each.function, mine, theirs)
