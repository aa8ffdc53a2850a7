"""What is wrong with one release for this training, as far as no release has to be run for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from packaging.version import Version

from harness.core.cells import Entry, Release, Severity
from harness.corpus.row_limits import rules_of
from harness.preflight.all_releases.kept_weights import FileContents, weight_findings
from harness.preflight.all_releases.release_table import ReleaseReason
from harness.preflight.all_releases.rows_left_out import RowForms, row_findings, row_forms
from harness.preflight.findings import PreflightFinding, PreflightPart, Report
from harness.preflight.folder import folder
from harness.preflight.folder.model_files import FolderRules, folder_rules
from harness.preflight.inputs import Inputs
from harness.preflight.keys import check as keys
from harness.preflight.release import combinations, command_in_release, known
from harness.preflight.rows.data_files import data_sets
from harness.preflight.rows.samplers import sampler_that_ends, unknown_classes
from harness.preflight.weights.build_failures import check_hidden_folder
from harness.releases import install_path
from harness.releases.first_releases import FIRST

_ABSENT = frozenset({"class-not-in-release", "trainer-not-in-release"})
"""Where these are found, nothing else matters."""


@dataclass(kw_only=True)
class ReleaseReader:
    """Reads one release after the other; what depends on less than all of a release is found out once."""

    inputs: Inputs
    rows: tuple[RowForms, ...]
    _contents: FileContents = field(default_factory=FileContents)
    _folders: dict[FolderRules, tuple[PreflightFinding, ...]] = field(default_factory=dict)
    _rows: dict[tuple[int, ...], tuple[PreflightFinding, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs) -> ReleaseReader:
        """With the rows of the data sets, which are read once."""
        return cls(inputs=inputs, rows=row_forms(inputs))

    def reasons(self, release: Release) -> tuple[ReleaseReason, ...]:
        """The findings above `minor`, the gravest first; where its code is not there, what is recorded of it."""
        install_dir = install_path(release, self.inputs.cache)
        if not (install_dir / "funasr" / "__init__.py").is_file():
            return _without_code(self.inputs, release)
        for_release = replace(self.inputs, release=release, install_dir=install_dir)
        report = Report.of(release.label, [PreflightPart(findings=tuple(self._findings(for_release)))])
        reasons = [
            ReleaseReason(
                severity=finding.severity,
                rule=f"{finding.rule} {finding.place.key}",
                text=_plain(finding.message, release),
            )
            for finding in report.findings
            if finding.severity is not Severity.MINOR
        ]
        return tuple([reason for reason in reasons if reason.rule.split()[0] in _ABSENT][:1] or reasons)

    def _findings(self, for_release: Inputs) -> Iterator[PreflightFinding]:
        yield from known.check(for_release).findings
        yield from command_in_release.check(for_release).findings
        yield from (*self._of_folder(for_release), *check_hidden_folder(for_release))
        yield from keys.check(for_release).findings
        yield from combinations.check(for_release).findings
        if self.inputs.train is not None or "train_data_set_list" in self.inputs.settings.by_path:
            yield from (
                *data_sets(for_release).findings,
                *unknown_classes(for_release),
                *sampler_that_ends(for_release),
            )
        yield from self._of_rows(for_release)
        yield from weight_findings(for_release, self._contents)

    def _of_folder(self, for_release: Inputs) -> tuple[PreflightFinding, ...]:
        rules = folder_rules(for_release.install_dir)
        if rules not in self._folders:
            self._folders[rules] = folder.check(for_release).findings
        return self._folders[rules]

    def _of_rows(self, for_release: Inputs) -> tuple[PreflightFinding, ...]:
        rules = rules_of(for_release.release.version)
        if rules not in self._rows:
            self._rows[rules] = tuple(row_findings(for_release, self.rows))
        return self._rows[rules]


def _plain(message: str, release: Release) -> str:
    """A message that is the same for neighbours."""
    text = message.replace(f"known issue of FunASR {release.label}: ", "")
    return re.sub(r"FunASR \d+(?:\.\d+)+", "it", text).replace("this release", "it").replace("funasr/bin/", "")


def _without_code(inputs: Inputs, release: Release) -> tuple[ReleaseReason, ...]:
    absent = _absent(inputs, release)
    if absent:
        return (absent,)
    entry = inputs.command.entry or (Entry.TRAIN_DS if _has_component(release, "entry/train_ds") else Entry.TRAIN)
    for_release = replace(inputs, release=release, command=replace(inputs.command, entry=entry))
    return tuple(
        ReleaseReason(severity=issue.severity, rule=f"known-{issue.id}", text=issue.title)
        for issue in known.applying(for_release)
        if issue.severity is Severity.BROKEN or (issue.by_setting and issue.severity is not Severity.MINOR)
    )


def _absent(inputs: Inputs, release: Release) -> ReleaseReason | None:
    needed = [f"{key}_classes/{inputs.config.get(key)}" for key in ("model", "encoder", "decoder", "predictor")]
    needed += [f"entry/{inputs.command.entry}"] if inputs.command.entry else []
    for name in needed:
        if not _has_component(release, name):
            text = f"it has no {name.rpartition('/')[2]}; {FIRST[name]} is the first"
            return ReleaseReason(severity=Severity.BROKEN, rule=name, text=text)
    return None


def _has_component(release: Release, name: str) -> bool:
    return name not in FIRST or Version(FIRST[name]) <= Version(release.version)
