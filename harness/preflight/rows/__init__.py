"""Every row of the user's jsonl: as written, and through the release's own index, dataset and sampler."""

from __future__ import annotations

from collections.abc import Iterator

from harness.preflight.findings import PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.rows import arrivals, lengths, lines, speech, texts
from harness.preflight.rows.data_files import NAMES, named
from harness.preflight.rows.gathered import Gathered
from harness.preflight.rows.measured import Arrivals, Measurement, is_audio_jsonl, measure, question
from harness.preflight.rows.samplers import unknown_classes
from harness.text.units import duration

__all__ = ["check", "question"]

SECTION = "data"


def check(inputs: Inputs) -> PreflightPart:
    """All findings and facts about the rows."""
    if not named(inputs, "train") and not named(inputs, "valid") and inputs.settings.get("train_data_set_list") is None:
        return PreflightPart(
            skipped="Rows were not checked: no jsonl is named (--train train.jsonl --valid val.jsonl)."
        )
    measurement = measure(inputs)
    findings = list(measurement.files.sets.findings)
    findings += unknown_classes(inputs)
    for rows in (measurement.train, measurement.valid):
        if rows is not None:
            findings += _about(rows, measurement, inputs)
    findings += arrivals.check(measurement, inputs)
    if measurement.train is not None and measurement.valid is not None:
        findings += texts.overlap(measurement.train, measurement.valid)
    return PreflightPart(
        findings=tuple(_without_consequences(findings)),
        facts=tuple(_facts(measurement)),
        skipped=_skipped(measurement, inputs),
    )


def _about(rows: Gathered, measurement: Measurement, inputs: Inputs) -> Iterator[PreflightFinding]:
    known = measurement.arrivals
    yield from lines.check(rows, known)
    if is_audio_jsonl(inputs):
        yield from speech.check(rows, inputs)
        yield from lengths.check(rows, inputs, known)
        yield from texts.check(rows, inputs, known)


def _without_consequences(findings: list[PreflightFinding]) -> list[PreflightFinding]:
    """Without findings that only repeat another one's effect: rows that a wrong unit leaves out."""
    units = {finding.place.file: finding.count for finding in findings if finding.rule == "source-len-unit"}
    most = max(units.values(), default=0)
    consequences = ("rows-left-out", "valid-rows-left-out", "valid-no-batch")
    return [
        finding
        for finding in findings
        if finding.rule not in consequences or finding.count > units.get(finding.place.file, most)
    ]


def _skipped(measurement: Measurement, inputs: Inputs) -> str:
    if measurement.files.why_not:
        return f"The release did not read the rows: {measurement.files.why_not}."
    failure = measurement.arrivals.failure if measurement.arrivals else None
    if failure is not None and arrivals.unexplained(failure):
        if not inputs.config.by_path:
            return "Batches were not measured: there is no readable config.yaml, which says how they are made."
        message = str(failure["message"])[:160]
        return f"Batches were not measured: the release's data code cannot be run on its own ({message})."
    return ""


def _facts(measurement: Measurement) -> Iterator[PreflightFact]:
    for rows in (measurement.train, measurement.valid):
        if rows is None:
            continue
        name = NAMES[rows.data.role]
        yield PreflightFact(section=SECTION, label=f"{name} rows", value=_rows(rows, measurement.arrivals))
        seconds = [header.seconds for header in rows.headers_by_row if header.rate]
        if seconds:
            length = f"{duration(sum(seconds))}; the longest {duration(max(seconds))}"
            other = rows.data.role != "train"
            yield PreflightFact(section=SECTION, label=f"{name} speech", value=length, detail=other)
        distinct = len({row.source for row in rows.file.rows if row.source})
        if distinct:
            some = len(rows.headers)
            read = "all" if some == distinct else f"{some} of {distinct}, evenly spaced"
            value = f"headers of {read}; samples of {rows.decoded}"
            all_read = some == distinct
            yield PreflightFact(section=SECTION, label=f"{name} recordings read", value=value, detail=all_read)
    if (known := measurement.arrivals) is not None and known.dropping is not None:
        value = f"{known.dropping.rows} rows of the first epoch through the dataset's own code, without opening audio"
        yield PreflightFact(section=SECTION, label="replaced or cut rows", value=value)


def _rows(rows: Gathered, known: Arrivals | None) -> str:
    if known is None or known.failure is not None:
        return f"{rows.count:,}"
    if rows.data.role == "train":
        arriving = known.arrived if known.arrived is not None else None
        return f"{rows.count:,}" if arriving is None else f"{len(arriving):,} of {rows.count:,} arrive in a batch"
    return f"{known.valid_rows:,} of {rows.count:,} are in the index"
