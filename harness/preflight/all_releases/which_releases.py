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
    """What would happen in each published release: by its code where it is in the cache, the known issues, the
    components that it has, and the committed run of every release.
    """
    reasons_by_release = _reasons(inputs, locked)
    recorded = recorded_reasons(inputs)
    for label, reasons in reasons_by_release.items():
        if not any(reason.severity is Severity.BROKEN for reason in reasons):
            both = (*reasons, *recorded.get(label, ()))
            reasons_by_release[label] = tuple(sorted(both, key=lambda reason: GRAVEST_FIRST.index(reason.severity)))
    installed = [(install_path(release, inputs.cache) / "funasr" / "__init__.py").is_file() for release in locked]
    return table_of(reasons_by_release, base=inputs.release.label, read=sum(installed), atlas=has_atlas())


def _reasons(inputs: Inputs, locked: Sequence[Release]) -> dict[str, tuple[ReleaseReason, ...]]:
    reader = ReleaseReader.of(inputs)
    return {release.label: reader.reasons(release) for release in locked}
