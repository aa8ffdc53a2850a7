"""With which releases would this training work? What can be said of every published one without running it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.cells import Release, Severity
from harness.preflight.all_releases.reasons import ReleaseReader
from harness.preflight.all_releases.recorded import has_atlas, recorded_reasons
from harness.preflight.all_releases.release_table import ReleaseReason, ReleaseTable, table_of
from harness.preflight.findings import GRAVEST_FIRST
from harness.preflight.inputs import Inputs
from harness.releases import install_path


def which_releases(inputs: Inputs, locked: Sequence[Release]) -> ReleaseTable:
    """What would happen in each published release: by its code where it lies in the cache, the known issues, the
    components that it has, and the committed run of every release.
    """
    found = _reasons(inputs, locked)
    recorded = recorded_reasons(inputs)
    for label, reasons in found.items():
        if not any(one.severity is Severity.BROKEN for one in reasons):
            both = (*reasons, *recorded.get(label, ()))
            found[label] = tuple(sorted(both, key=lambda one: GRAVEST_FIRST.index(one.severity)))
    there = [(install_path(one, inputs.cache) / "funasr" / "__init__.py").is_file() for one in locked]
    return table_of(found, base=inputs.release.label, read=sum(there), atlas=has_atlas())


def _reasons(inputs: Inputs, locked: Sequence[Release]) -> dict[str, tuple[ReleaseReason, ...]]:
    reader = ReleaseReader.of(inputs)
    return {release.label: reader.reasons(release) for release in locked}
