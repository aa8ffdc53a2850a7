"""Findings about lines that no release's index can read, and rows without the fields that it reads."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.rows.data_files import NAMES
from harness.preflight.rows.gathered import NAMED, Gathered
from harness.preflight.rows.measured import Arrivals


@dataclass(frozen=True, kw_only=True)
class _LineRule:
    severity: Severity
    message: str
    remedy: str


_RULES = {
    "jsonl-byte-order-mark": _LineRule(
        severity=Severity.BROKEN,
        message="the file begins with a byte-order mark: FunASR's json.loads raises `Unexpected UTF-8 BOM`",
        remedy="sed -i '1s/^\\xEF\\xBB\\xBF//' FILE, or --fix FILE",
    ),
    "jsonl-encoding": _LineRule(
        severity=Severity.BROKEN,
        message="not UTF-8, in which FunASR opens the file: UnicodeDecodeError",
        remedy="iconv -f GB18030 -t UTF-8 FILE > utf8.jsonl, or from the encoding that it was saved in",
    ),
    "jsonl-blank-line": _LineRule(
        severity=Severity.BROKEN,
        message="a blank line: FunASR's json.loads raises JSONDecodeError on it",
        remedy="sed -i '/^[[:space:]]*$/d' FILE, or --fix FILE",
    ),
    "jsonl-not-json": _LineRule(
        severity=Severity.BROKEN,
        message="not a JSON object: FunASR's index stops at this line, or passes over it",
        remedy='write one object on each line: {"key": …, "source": …, "source_len": …, "target": …, "target_len": …}',
    ),
    "jsonl-line-too-long": _LineRule(
        severity=Severity.BROKEN,
        message="a line of more than 256 KiB, which is no row of speech and text; it was not read",
        remedy="write each row on a line of its own, and name the recording by its path",
    ),
    "row-without-source": _LineRule(
        severity=Severity.WRONG,
        message="a row without `source`: FunASR passes over it without a word",
        remedy='name the recording "source"',
    ),
    "row-without-target": _LineRule(
        severity=Severity.BROKEN,
        message="a row without `target`: FunASR's index raises KeyError",
        remedy='name the transcript "target"',
    ),
    "row-field-type": _LineRule(
        severity=Severity.BROKEN,
        message="a field of another type than FunASR's index compares and splits it as",
        remedy="`source` and `target` are texts, `source_len` and `target_len` numbers without quotes",
    ),
}


def check(train: Gathered, arrivals: Arrivals | None) -> Iterator[PreflightFinding]:
    """What is wrong with the lines of a set.

    Where the release's own index read the whole set nevertheless, nothing of it is `broken`.
    """
    read = arrivals is not None and arrivals.failure is None
    for rule, known in _RULES.items():
        lines = train.file.problems.lines.get(rule)
        if not lines:
            continue
        count = train.file.problems.counts[rule]
        severity = known.severity
        if read and severity is Severity.BROKEN and rule != "row-field-type":
            severity = Severity.WRONG if train.many(count) else Severity.MINOR
        file, line, _ = lines[0]
        named = [f"line {number}: {detail}" if detail else f"line {number}" for _, number, detail in lines[:NAMED]]
        yield PreflightFinding(
            severity=severity,
            rule=rule,
            message=known.message,
            place=train.line_place(file, line),
            evidence=(*named, *([f"and {count - NAMED} more lines"] if count > NAMED else [])),
            remedy=known.remedy.replace("FILE", shlex.quote(train.data.name), 1),
            count=count,
        )
    if not train.file.rows and not train.file.problems.counts:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="data-no-rows",
            message=f"the {NAMES[train.data.role]} set has no rows",
            place=train.line_place(0, 1),
            remedy="write one JSON object on each line",
        )
