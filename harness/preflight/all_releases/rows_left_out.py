"""Which training rows each release leaves out or cannot read, by the rules of `harness.corpus.row_limits`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Severity
from harness.corpus.jsonl import REQUIRED_AT_FIRST, JsonlRow
from harness.corpus.row_limits import RowLimits, left_out, rules_of
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.data_files import NAMES, Role, data_sets
from harness.preflight.rows.gathered import FEW
from harness.preflight.rows.reading import MOST_ROWS, lines_of

_INDEX = "IndexDSJsonl"
_SAMPLERS = ("BatchSampler", "DynamicBatchLocalShuffleSampler")
"""The index and the samplers of which the rules were read."""
_EXAMPLE = "example"
_DEFAULTS_SINCE = (1, 0, 6)
"""Before, a row without one of `REQUIRED_AT_FIRST` is a KeyError."""
_LIMITS = ("max_token_length", "max_source_length", "min_source_length", "max_target_length", "min_target_length")


@dataclass(frozen=True)
class RowForm:
    """All of a row that a release's limits look at."""

    source_len: float | None
    target_len: float | None
    lacking: tuple[str, ...]
    """Fields that releases up to 1.0.5 require and the row has not."""


@dataclass(frozen=True, kw_only=True)
class RowForms:
    """The rows of a set, counted by their form."""

    role: Role
    given: str
    forms: Mapping[RowForm, int]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self.forms.values())


def row_forms(inputs: Inputs) -> tuple[RowForms, ...]:
    """Of the sets that can be read; none where another index or sampler than FunASR's usual reads them."""
    conf = inputs.settings.section("dataset_conf")
    if conf.get("index_ds", _INDEX) != _INDEX or conf.get("batch_sampler", _SAMPLERS[0]) not in _SAMPLERS:
        return ()
    forms_of_sets = []
    for data in data_sets(inputs).sets:
        forms: Counter[RowForm] = Counter()
        for path in data.files:
            forms.update(_forms(path, MOST_ROWS - forms.total()))
        if forms:
            forms_of_sets.append(RowForms(role=data.role, given=data.given, forms=forms))
    return tuple(forms_of_sets)


def _forms(path: Path, most: int) -> Iterator[RowForm]:
    for number, content in lines_of(path):
        if number > most:
            return
        try:
            fields = json.loads(content or b"")
        except (ValueError, RecursionError):
            continue
        # What else is wrong with a line, the parts that look at one release say.
        if isinstance(fields, dict) and isinstance(fields.get("source"), str) and fields["source"]:
            yield RowForm(
                _number(fields.get("source_len")),
                _number(fields.get("target_len")),
                tuple(name for name in REQUIRED_AT_FIRST if name not in fields),
            )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def row_findings(inputs: Inputs, sets: Sequence[RowForms]) -> Iterator[PreflightFinding]:
    """What this release makes of the rows; releases with the same `rules_of` make the same."""
    version = rules_of(inputs.release.version)
    unread = next(
        (row_set for row_set in sets if version < _DEFAULTS_SINCE and any(row.lacking for row in row_set.forms)), None
    )
    if unread is not None:
        missing_field = next(row.lacking for row in unread.forms if row.lacking)
        count = sum(number for row, number in unread.forms.items() if row.lacking)
        message = (
            f"{count} of {unread.count} {NAMES[unread.role]} rows have no `{missing_field[0]}`, which it "
            "requires (KeyError)"
        )
        yield _finding("rows-cannot-be-read", Severity.BROKEN, message, Place(file=unread.given))
        return
    for row_set in sets:
        if row_set.role == "train":
            yield from _left_out(inputs, row_set, version)


def _left_out(inputs: Inputs, rows: RowForms, version: tuple[int, ...]) -> Iterator[PreflightFinding]:
    conf = inputs.settings.section("dataset_conf")
    limits = RowLimits.of(conf, {"dataset_conf.batch_type": str(conf.get("batch_type", _EXAMPLE))})
    reasons: Counter[str] = Counter()
    for form, count in rows.forms.items():
        if reason := left_out(_row(form), limits, version):
            reasons[next((name for name in _LIMITS if name in reason), "")] += count
    if not reasons:
        return
    rows_lost, most = reasons.total(), reasons.most_common(1)[0][0]
    severity = Severity.WRONG if rows_lost >= FEW * rows.count else Severity.MINOR
    message = f"{rows_lost} of {rows.count} training rows are left out by `dataset_conf.{most}`"
    if rows_lost == rows.count:
        severity, message = Severity.BROKEN, f"{message}: there is nothing to train on"
    yield _finding("rows-left-out", severity, message, Place(file=rows.given))


def _finding(rule: str, severity: Severity, message: str, place: Place) -> PreflightFinding:
    return PreflightFinding(severity=severity, rule=rule, message=message, place=place)


def _row(form: RowForm) -> JsonlRow:
    return JsonlRow(
        line=0, content=b"{}", key="", source="s", target="", source_len=form.source_len, target_len=form.target_len,
        text_language="", lacking=form.lacking,
    )  # fmt: skip
