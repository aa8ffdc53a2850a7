"""Which rows of the training set each release leaves out or cannot read, by the rules in `harness.corpus.row_limits`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Severity
from harness.corpus.jsonl import REQUIRED_AT_FIRST, JsonlRow
from harness.corpus.row_limits import RowLimits, left_out, rules_of
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.data_files import data_sets
from harness.preflight.rows.gathered import FEW
from harness.preflight.rows.reading import MOST_ROWS, lines_of

_INDEX = "IndexDSJsonl"
_SAMPLERS = ("BatchSampler", "DynamicBatchLocalShuffleSampler")
"""The index and the samplers of which the rules were read."""
_EXAMPLE = "example"
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

    given: str
    forms: Mapping[RowForm, int]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self.forms.values())


def row_forms(inputs: Inputs) -> RowForms | None:
    """Of the training set; None where none can be read, or another index or sampler than FunASR's usual reads it."""
    conf = inputs.settings.section("dataset_conf")
    usual = conf.get("index_ds", _INDEX) == _INDEX and conf.get("batch_sampler", _SAMPLERS[0]) in _SAMPLERS
    data = data_sets(inputs).of("train")
    if data is None or not usual:
        return None
    forms: Counter[RowForm] = Counter()
    for path in data.files:
        forms.update(_forms(path, MOST_ROWS - forms.total()))
    return RowForms(given=data.given, forms=forms) if forms else None


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


def row_findings(inputs: Inputs, rows: RowForms) -> Iterator[PreflightFinding]:
    """What this release makes of the rows; releases with the same `rules_of` make the same."""
    conf = inputs.settings.section("dataset_conf")
    kind = str(conf.get("batch_type", _EXAMPLE))
    limits = RowLimits.of(conf, {"dataset_conf.batch_type": kind})
    version = rules_of(inputs.release.version)
    reasons: Counter[str] = Counter()
    for form, count in rows.forms.items():
        reason = left_out(_row(form), limits, version)
        if reason:
            reasons[reason if form.lacking and version < (1, 0, 6) else _limit(reason)] += count
    if not reasons:
        return
    (most, _), gone = reasons.most_common(1)[0], reasons.total()
    place = Place(file=rows.given)
    if "KeyError" in most:
        yield _finding("rows-cannot-be-read", Severity.BROKEN, f"{gone} of {rows.count} training rows have {most}", place)
        return
    severity = Severity.WRONG if gone >= FEW * rows.count else Severity.MINOR
    message = f"{gone} of {rows.count} training rows are left out by `dataset_conf.{most}`"
    if gone == rows.count:
        severity, message = Severity.BROKEN, f"{message}: there is nothing to train on"
    yield _finding("rows-left-out", severity, message, place)


def _finding(rule: str, severity: Severity, message: str, place: Place) -> PreflightFinding:
    return PreflightFinding(severity=severity, rule=rule, message=message, place=place)


def _limit(reason: str) -> str:
    return next((name for name in _LIMITS if name in reason), "")


def _row(form: RowForm) -> JsonlRow:
    return JsonlRow(
        line=0, content=b"{}", key="", source="s", target="", source_len=form.source_len, target_len=form.target_len,
        text_language="", lacking=form.lacking,
    )  # fmt: skip
