"""From evidence to one sentence of cause: general rules, the most specific first; none holds where evidence is missing.

No rule knows of a particular release, model or fault.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.compare.diagnose.causes import arguments, code, construction, exceptions
from harness.compare.diagnose.causes.cause import Cause
from harness.compare.diagnose.evidence import Evidence

__all__ = ["RULES", "Cause", "find_cause"]

RULES: tuple[Callable[[Evidence], Cause | None], ...] = (
    exceptions.attribute_that_nothing_sets,
    exceptions.call_that_does_not_fit,
    exceptions.name_that_is_gone,
    arguments.moved,
    arguments.swapped,
    construction.renamed_key,
    construction.changed_default,
    construction.changed_argument,
    arguments.changed_default,
    code.replaced_call,
    code.changed_where_it_parts,
    code.only_change,
)


def find_cause(evidence: Evidence) -> Cause | None:
    """The cause that the evidence supports; None where it supports none."""
    return next((cause for rule in RULES if (cause := rule(evidence)) is not None), None)
