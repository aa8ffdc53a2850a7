"""All parts of preflight in their order: what is cheap and decides the rest comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.preflight.findings import Part, Report
from harness.preflight.inputs import Inputs

PartCheck = Callable[[Inputs], Part]


def parts() -> Sequence[tuple[str, PartCheck]]:
    """Each part's name, as progress shows it, and its function."""
    return ()


def examine(inputs: Inputs, *, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Everything that preflight has to say about these inputs.

    Raises:
        HarnessError: a fault of the harness or the machine.
    """
    found = []
    for name, check in parts():
        progress(name)
        found.append(check(inputs))
    return Report.of(inputs.release.label, [Part(findings=inputs.command.findings), *found])
