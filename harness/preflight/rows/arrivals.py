"""Findings about what the release makes of the rows: left out, never drawn, changed, replaced; uneven ranks."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.core.cells import Severity
from harness.corpus.jsonl import JsonlRow
from harness.corpus.row_limits import RowLimits, left_out
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.data_files import KEYS, NAMES
from harness.preflight.rows.gathered import Gathered
from harness.preflight.rows.measured import Arrivals, Measurement, entry_of
from harness.preflight.rows.reading import JsonRow
from harness.preflight.rows.samplers import ended_by_a_row
from harness.worker.trainer import options

MOST_OF_AN_EPOCH = 0.25
"""Rows that a dropped last batch may take of an epoch before the training is another one than the files say."""

_OWN_LENGTH_SINCE = (1, 0, 18)
_LIMITS = ("max_token_length", "max_source_length", "min_source_length", "max_target_length", "min_target_length")


def check(measurement: Measurement, inputs: Inputs) -> Iterator[PreflightFinding]:
    """What becomes of the rows in this release."""
    arrivals, train = measurement.arrivals, measurement.train
    if arrivals is None or train is None:
        return
    if arrivals.failure is not None:
        yield from _raised(arrivals.failure, train)
        return
    if arrivals.ended is not None or arrivals.valid_ended:
        yield ended_by_a_row(arrivals, inputs)
        return
    yield from _left_out(train, arrivals, inputs)
    yield from _limit_of_another_row(train, arrivals, inputs)
    yield from _not_drawn(train, arrivals, inputs)
    yield from _changed(train, arrivals)
    yield from _empty_batches(train, arrivals, inputs)
    yield from _ranks(arrivals, inputs)
    yield from _dropped(train, arrivals, inputs)
    yield from _validation(measurement, arrivals, inputs)


def unexplained(failure: Mapping[str, Any]) -> bool:
    """Whether the exception came from outside the release's index and samplers: then nothing is known of the rows."""
    return not any(part in str(failure.get("signature")) for part in ("index_ds.py", "samplers.py"))


def _raised(failure: Mapping[str, Any], train: Gathered) -> Iterator[PreflightFinding]:
    """The exception of the release's index or sampler, where no line of the file explains it."""
    explained = any(rule != "row-without-source" for rule in train.file.problems.counts)
    if unexplained(failure) or explained:
        return
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="rows-cannot-be-read",
        message=f"the release's own data code raises {failure['type']} on these rows: {failure['message'][:160]}",
        place=Place(file=train.data.given),
        evidence=(str(failure.get("signature")),),
        remedy="each row needs key, source, source_len, target and target_len; releases up to 1.0.5 also prompt",
    )


def _left_out(train: Gathered, arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    """Rows that are not in the index, or never in a batch for a limit of the sampler's."""
    if arrivals.kept is None or arrivals.arrived is None:
        return
    reasons = _reasons(train, arrivals, inputs, train.count, "train")
    if not reasons:
        return
    numbers = sorted(reasons)
    none = not arrivals.arrived
    by_limit: dict[str, list[int]] = defaultdict(list)
    for number in numbers:
        by_limit[next((name for name in _LIMITS if name in reasons[number]), "")].append(number)
    most = max(by_limit, key=lambda name: len(by_limit[name]))
    finding = train.finding(
        "rows-left-out",
        f"{len(numbers)} of {train.count} training rows are left out by {_name_of(most)}"
        + (": there is nothing to train on, and the trainer writes checkpoints nevertheless" if none else ", silently"),
        numbers,
        severity=Severity.BROKEN if none else None,
        evidence=[_limit_line(name, by_limit[name], inputs) for name in by_limit],
        details=_lengths(train, numbers, reasons),
        remedy=_limit_remedy(most, by_limit[most], train),
    )
    setting = inputs.settings.by_path.get(f"dataset_conf.{most}")
    # A limit that the user set is the place to mend; the rows are in the evidence.
    yield replace(finding, place=setting.place) if setting is not None and setting.from_command else finding


def _reasons(rows: Gathered, arrivals: Arrivals, inputs: Inputs, count: int, role: str) -> dict[int, str]:
    """The rows that a limit leaves out, each with the limit."""
    limits = _limits(inputs)
    rows_kept = arrivals.kept if role == "train" else arrivals.valid_kept
    arrived = arrivals.arrived if role == "train" else arrivals.valid_kept
    limits_by_row = {}
    for number in range(count):
        if rows_kept is None or arrived is None or number in arrived or not rows.file.rows[number].source:
            continue
        reason = _limit_of(rows.file.rows[number], limits, inputs)
        if reason or number not in rows_kept:
            limits_by_row[number] = reason
    return limits_by_row


def _limits(inputs: Inputs) -> RowLimits:
    conf = inputs.settings.get("dataset_conf", {})
    conf = conf if isinstance(conf, Mapping) else {}
    return RowLimits.of(conf, {"dataset_conf.batch_type": conf.get("batch_type", "example")})


def _limit_of(row: JsonRow, limits: RowLimits, inputs: Inputs) -> str:
    """The limit by which this release means to leave a row out; empty where there is none."""
    return left_out(
        JsonlRow(
            line=row.line, content=b"{}", key=row.key, source=row.source, target=row.target,
            source_len=row.source_len, target_len=row.target_len, text_language="", lacking=(),
        ),
        limits,
        inputs.version,
    )  # fmt: skip


def _above_the_limit(train: Gathered, arrivals: Arrivals, inputs: Inputs) -> list[int]:
    """Training rows that arrive although they are above the sampler's limit.

    Samplers up to 1.0.17 compare it with the length of row `shuffle_idx[idx]`, and draw row `idx`.
    """
    if arrivals.arrived is None or inputs.version >= _OWN_LENGTH_SINCE:
        return []
    limits = _limits(inputs)
    rows = train.file.rows
    return [number for number in sorted(arrivals.arrived) if _limit_of(rows[number], limits, inputs)]


def _limit_of_another_row(train: Gathered, arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    """Rows above a limit that are trained, while others are left out in their place."""
    above = _above_the_limit(train, arrivals, inputs)
    if not above:
        return
    yield train.finding(
        "limit-of-another-row",
        f"{len(above)} of {train.count} training rows are above `dataset_conf.max_token_length` and are trained all "
        "the same: with shuffling, this release's sampler compares it with another row's length. As many others, "
        "drawn at random, are missing from every epoch",
        above,
        evidence=[_limit_line("max_token_length", above, inputs)],
        details=_lengths(train, above, dict.fromkeys(above, "")),
        remedy="take the long rows out of the file, or ++dataset_conf.shuffle=false; 1.0.18 compares each row's own",
    )


def _name_of(limit: str) -> str:
    return f"`dataset_conf.{limit}`" if limit else "this release's index"


def _limit_line(limit: str, numbers: Sequence[int], inputs: Inputs) -> str:
    """One limit in the user's units."""
    if not limit:
        return f"{len(numbers)} rows by the index of this release"
    value = inputs.settings.get(f"dataset_conf.{limit}")
    where = f" ({inputs.settings.place(f'dataset_conf.{limit}')})" if value is not None else ", this release's default"
    if "target" in limit:
        return f"{limit} counts characters or words of `target_len`: {value if value is not None else 'unset'}{where}"
    units = "frames of 10 ms and characters together, not tokens" if limit == "max_token_length" else "frames of 10 ms"
    value_in_words = f" = {value:g}, {value / 100:g} s of speech" if isinstance(value, int | float) else ""
    return f"{limit} counts {units}{value_in_words}{where}"


def _lengths(train: Gathered, numbers: Sequence[int], reasons: Mapping[int, str]) -> dict[int, str]:
    details = {}
    for number in numbers[:8]:
        seconds = train.headers_by_row[number].seconds
        measured = f"{seconds:.1f} s, {len(train.file.rows[number].target)} characters" if seconds else ""
        details[number] = "; ".join(part for part in (measured, reasons[number]) if part)
    return details


def _limit_remedy(limit: str, numbers: Sequence[int], train: Gathered) -> str:
    rows = [train.file.rows[number] for number in numbers]
    sums = [(row.source_len or 1) + (row.target_len or 0) for row in rows]
    if limit == "max_token_length":
        return f"++dataset_conf.max_token_length={int(max(sums)) + 1}, or cut these recordings"
    if limit == "max_source_length":
        return f"++dataset_conf.max_source_length={int(max(row.source_len or 1 for row in rows)) + 1}"
    if limit.startswith("min_"):
        return f"++dataset_conf.{limit}=0"
    if limit == "max_target_length":
        return f"++dataset_conf.max_target_length={int(max(row.target_len or 0 for row in rows)) + 1}"
    return "compare these rows with those that are kept"


def _not_drawn(train: Gathered, arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    """Rows of the index that are in no batch of an epoch, though no limit is about them."""
    if arrivals.kept is None or arrivals.arrived is None or not arrivals.epochs:
        return
    reasons = _reasons(train, arrivals, inputs, train.count, "train")
    # For each row above the limit that arrives, the epoch lacks another.
    allowed = len(arrivals.kept - reasons.keys()) - len(_above_the_limit(train, arrivals, inputs))
    drawn = sum(epoch.rows for ranks in arrivals.epochs for epoch in ranks) / len(arrivals.epochs)
    lost = round(allowed - drawn)
    if lost <= 0:
        return
    most = max((epoch.most for ranks in arrivals.epochs for epoch in ranks), default=0)
    never = sorted(arrivals.kept - arrivals.arrived - reasons.keys())
    few = Severity.MINOR if lost <= MOST_OF_AN_EPOCH * allowed else Severity.WRONG
    yield PreflightFinding(
        severity=few if drawn else Severity.BROKEN,
        rule="rows-not-drawn",
        message=f"{lost} of {allowed} training rows are in no batch of an epoch"
        + (
            ": the sampler drops the last batch"
            if lost <= most or not drawn
            else ", and no limit of dataset_conf is why"
        ),
        place=inputs.settings.place("dataset_conf.batch_size"),
        evidence=(
            f"a batch has up to {most} rows" if most else "the rows do not fill one batch",
            f"{len(never)} rows are in no batch of {len(arrivals.epochs)} epochs",
        ),
        remedy=f"take a smaller dataset_conf.batch_size (it is {inputs.settings.get('dataset_conf.batch_size')})",
        count=lost,
    )


def _changed(train: Gathered, arrivals: Arrivals) -> Iterator[PreflightFinding]:
    for field, message, remedy in (
        (
            "source",
            "the release reads another path than the row names (it replaces /cpfs01)",
            "keep the recordings in a folder without `/cpfs01` in its path",
        ),
        (
            "target",
            "the release removes all spaces of the text, because `aishell` is in the recording's path: it joins words",
            "keep the recordings in a folder without `aishell` in its path",
        ),
    ):
        changed = {number: value[-40:] for number, name, value in arrivals.changed if name == field}
        # Spaces between Chinese characters are no tokens: only Latin words are joined.
        if field == "target":
            changed = {
                number: value for number, value in changed.items() if _joins_words(train.file.rows[number].target)
            }
        if changed:
            yield train.finding(
                f"row-{field}-changed",
                message,
                list(changed),
                severity=Severity.BROKEN if field == "source" else None,
                details=changed,
                remedy=remedy,
            )


def _joins_words(text: str) -> bool:
    words = text.split()
    return any(first[-1].isascii() and second[0].isascii() for first, second in itertools.pairwise(words))


def _empty_batches(train: Gathered, arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    empty = sum(epoch.empty for ranks in arrivals.epochs for epoch in ranks) + arrivals.valid_empty
    if empty:
        longest = max((row.source_len or 1 for row in train.file.rows), default=0)
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="batch-empty",
            message="the sampler makes a batch without a row, because one row alone is larger than "
            "`dataset_conf.batch_size`: "
            + (
                "the dataset fills it with random numbers of another width"
                if arrivals.dropping is not None
                else "the model's forward is called without arguments (TypeError)"
            ),
            place=inputs.settings.place("dataset_conf.batch_size"),
            evidence=(
                f"batch_size {inputs.settings.get('dataset_conf.batch_size')} by "
                f"{inputs.settings.get('dataset_conf.batch_type', 'example')}; the longest row has {longest:g} frames",
            ),
            remedy=f"++dataset_conf.batch_size={max(6000, int(longest) + 1)}, counted in frames of 10 ms",
            count=empty,
        )


def _ranks(arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    """Processes that get different numbers of batches."""
    uneven = [ranks for ranks in arrivals.epochs if len({epoch.batches for epoch in ranks}) > 1]
    if not uneven:
        return
    counts = [epoch.batches for epoch in uneven[0]]
    together = _stops_together(inputs)
    yield PreflightFinding(
        severity=Severity.MINOR if together else Severity.BROKEN,
        rule="ranks-uneven",
        message=f"the {len(counts)} processes get different numbers of batches: "
        + (
            "an epoch ends where the first of them has none left"
            if together
            else "with DDP the others wait for the one that has fewer, until NCCL's timeout"
        ),
        place=inputs.settings.place("dataset_conf.batch_type"),
        evidence=(f"batches of an epoch by process: {', '.join(map(str, counts[:8]))}",),
        remedy="++dataset_conf.sort_size=1024 (a sampler that gives each process as many), or batch_type=example",
    )


def _stops_together(inputs: Inputs) -> bool:
    """Whether this trainer's processes signal each other that one of them has no batch left."""
    path = options.trainer_file(str(inputs.install_dir), entry_of(inputs))
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    training = text.partition("def validate_epoch")[0]
    return re.search(r"^\s*dist\.all_reduce\(iterator_stop", training, re.MULTILINE) is not None


def _dropped(train: Gathered, arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    dropping = arrivals.dropping
    if dropping is None or not (dropping.lost or dropping.replaced or dropping.cut or dropping.dummies):
        return
    size = inputs.settings.get("dataset_conf.batch_size")
    parts = (
        f"{dropping.replaced} are replaced by another row, drawn at random" if dropping.replaced else "",
        f"{dropping.cut} are cut off their batch" if dropping.cut else "",
        f"{dropping.dummies} batches are filled with random numbers" if dropping.dummies else "",
    )
    unreadable = [number for number in dropping.lost if not train.headers_by_row[number].rate]
    if len(unreadable) == len(dropping.lost) and not dropping.cut:
        return
    yield train.finding(
        "rows-replaced-or-cut",
        f"of {dropping.rows} rows of the first epoch, {', '.join(part for part in parts if part)}: the dataset "
        f"leaves out a recording with more encoder frames than batch_size ({size}) whatever the batch_type, and halves "
        "batches that are larger",
        list(dropping.lost) or [0],
        severity=Severity.BROKEN if dropping.dummies == dropping.batches else _by_share(dropping.lost, dropping.rows),
        evidence=[f"{len(dropping.lost)} of {dropping.rows} rows do not arrive; measured without opening audio"],
        remedy="++dataset_conf.batch_type=token ++dataset_conf.batch_size=6000 (frames, above the longest recording's)",
    )


def _by_share(lost: Sequence[int], total: int) -> Severity:
    return Severity.WRONG if len(lost) >= 0.01 * total else Severity.MINOR


def _validation(measurement: Measurement, arrivals: Arrivals, inputs: Inputs) -> Iterator[PreflightFinding]:
    valid = measurement.valid
    if valid is None:
        return
    if arrivals.valid_beyond:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="valid-sampled-by-train",
            message="this release draws validation rows by the training set's length: the validation set has fewer, "
            "and the first validation raises IndexError",
            place=Place(file=valid.data.given, key=KEYS["valid"]),
            evidence=(f"{valid.count} validation rows, {arrivals.valid_beyond} numbers drawn beyond them",),
            remedy="give it the training file for validation too, as this release's finetune.sh does",
        )
    elif not arrivals.valid_batches:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="valid-no-batch",
            message=f"no {NAMES['valid']} row arrives in a batch: the best checkpoint is chosen by nothing",
            place=Place(file=valid.data.given),
            evidence=(f"{arrivals.valid_rows} of {valid.count} rows are in the index",),
            remedy="the limits of dataset_conf and the unit of source_len apply to validation rows too",
        )
    elif reasons := _reasons(valid, arrivals, inputs, valid.count, "valid"):
        yield valid.finding(
            "valid-rows-left-out",
            f"{len(reasons)} of {valid.count} validation rows are left out",
            sorted(reasons),
            severity=Severity.MINOR,
            details=_lengths(valid, sorted(reasons), reasons),
            remedy="the limits of dataset_conf apply to validation rows too",
        )
