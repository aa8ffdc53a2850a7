"""The report as Markdown: the answer, the grid in short, the failures and the curves; the page has the single cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.core.cells import Check, Status, Verdict
from harness.core.release_order import Span, in_words
from harness.report import labels
from harness.report.advice import SHORT_OF_BROKEN, Reason, VariantAdvice
from harness.report.baselines import baselines_section
from harness.report.changes import boundaries_section, drift_section
from harness.report.failures import FailureGroup, GroupKey, Message, defect_key, group_key, has_failed
from harness.report.grid import Column, Grid, Mark
from harness.report.later_checks import upper_rungs
from harness.report.learning import CurveGroup, CurveKey, CurveUse, curve_key
from harness.report.levels import MEANING, NAME, SIGN
from harness.report.memory_table import memory_section
from harness.report.summary import Summary
from harness.rules.levels import Level
from harness.run.repeat_commands import Repeating
from harness.text import units
from harness.text.markdown import block, code, md
from harness.text.plain import upstream_url
from harness.text.sparkline import bars

_MOST_LINES = 5
_LONGEST_RANGE = 4000


def render_markdown(summary: Summary) -> str:
    """The whole file."""
    parts = [
        *_head(summary),
        *_answer(summary),
        *_grid(summary),
        *_failures(summary),
        *boundaries_section(summary.boundaries),
        *_learning(summary),
        *baselines_section(summary.baselines),
        *memory_section(summary.memory),
        *drift_section(summary.drift),
        *upper_rungs(summary),
        *_surroundings(summary),
        *_reading(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(summary: Summary) -> list[str]:
    setting = summary.setting
    banner = f"> **{md(setting.banner)}**" if setting.banner else ""
    notices = "\n".join(f"> {md(notice)}" for notice in setting.notices)
    facts = _table(("", ""), [(f"**{md(fact.name)}**", md(fact.text)) for fact in setting.facts])
    tallies = ", ".join(f"{SIGN[tally.word]} {tally.cells:,} {NAME[tally.word]}" for tally in summary.levels)
    counts = f"{units.plural(summary.cells, 'cell')} of {units.plural(summary.releases, 'release')}"
    return [
        f"# {md(summary.title)}",
        md(labels.LEDE, at_most=2000),
        banner,
        notices,
        facts,
        f"{counts} (a cell is one question to one release): {md(tallies)}.",
    ]


def _answer(summary: Summary) -> list[str]:
    advice = summary.advice
    parts = ["## The answer"]
    if advice.newest_for_all:
        every = "every model here" if len(advice.variants) > 1 else md(advice.variants[0].variant)
        parts.append(f"The newest release with which {every} can be fine-tuned:")
        parts.append(_install(advice.newest_for_all))
        parts.append("\n".join(_checks(variant, advice.newest_for_all) for variant in advice.variants))
    elif advice.fine_tuned:
        parts.append("No published release in this run can fine-tune every model here.")
    else:
        parts.append("No fine-tune was asked for in this run.")
    for variant in advice.variants:
        parts += _variant(variant, newest_for_all=advice.newest_for_all, fine_tuned=advice.fine_tuned)
    return parts


def _checks(variant: VariantAdvice, release: str) -> str:
    """Which checks passed with a variant in a release, and how many faults are told below."""
    answer = variant.of(release)
    faults = f" ({units.plural(len(answer.reasons), 'fault')} below)" if answer.reasons else ""
    return f"- {md(variant.variant)}: {md(answer.tested.in_words)}{faults}"


def _variant(advice: VariantAdvice, *, newest_for_all: str | None, fine_tuned: bool) -> list[str]:
    lines = []
    if advice.trains:
        lines.append(f"- ✓ **Can be fine-tuned**: {_spans(advice.trains)}")
    if advice.passes:
        lines.append(f"- ✓ Nothing is broken, but nothing was fine-tuned: {_spans(advice.passes)}")
    if advice.tested:
        lines.append("- Which checks passed")
        lines += [f"  - **{_spans(tested.spans)}**: {md(tested.in_words)}" for tested in advice.tested]
    for severity in SHORT_OF_BROKEN:
        found = [reason for reason in advice.besides if reason.severity is severity]
        lines += _reasons(f"{SIGN[Level(severity)]} **Of these, {severity}**: {MEANING[Level(severity)]}", found)
    lines += _reasons("! **Of these, what the other trainer that they ship does**", advice.other_trainer)
    lines += _reasons("! **Can be fine-tuned, but something is broken**", advice.partly)
    lines += _reasons("✗ **Cannot be fine-tuned**" if fine_tuned else "✗ **Broken**", advice.fails)
    lines += _reasons("? Not known", advice.unknown)
    own = advice.newest if advice.newest != newest_for_all else None
    return [f"### {md(advice.variant)}", "\n".join(lines), _install(own) if own else ""]


def _spans(spans: Sequence[Span]) -> str:
    return md(in_words(spans), at_most=_LONGEST_RANGE)


def _reasons(title: str, reasons: Sequence[Reason]) -> list[str]:
    if not reasons:
        return []
    return [
        f"- {title}",
        *(
            f"  - **{_spans(reason.spans)}**: {md(reason.text)}"
            + (f" [Details](#{reason.anchor})" if reason.anchor else "")
            for reason in reasons
        ),
    ]


def _grid(summary: Summary) -> list[str]:
    grid = summary.grid
    # Where marks lead: this file has no single cells, so to the failure or the curve that they belong to.
    links = {group.key: group.anchor for group in summary.failures}
    curves = {group.key: group.anchor for group in summary.curves}
    head = ("releases", *(_column(column, grid) for column in grid.columns))
    rows = [
        (
            md(str(band.span)),
            *(_mark(marks, links, curves) for marks in zip(*(row.marks for row in band.rows), strict=True)),
        )
        for band in grid.bands
    ]
    letters = ", ".join(f"{labels.CHECK_LETTER[check]} {md(check)}" for check in summary.checks)
    signs = ", ".join(f"{SIGN[tally.word]} {NAME[tally.word]}" for tally in summary.levels)
    place = f" All of it: {md(grid.one_place)}." if grid.one_place else ""
    return [
        "## Releases by model and shape",
        "Newest first; neighbours with equal rows share one. A shape such as v8404-h320 is a vocabulary of 8404 tokens "
        f"and a hidden size of 320.{place}",
        f"Checks, each after those that it depends on: {letters}. {md(signs)}. “C ✗ L”: passed up to C, broken at L. "
        "“F ≠ D”: passed up to F, though D is wrong. "
        "&#42; not yet explained, or unexpected.",
        _table(head, rows),
    ]


def _column(column: Column, grid: Grid) -> str:
    if column.variant is None:
        return "import"
    parts = [column.variant, str(column.dimensions), "" if grid.one_place else column.place, str(column.entry or "")]
    return "<br>".join(md(part) for part in parts if part)


def _mark(marks: Sequence[Mark | None], failures: dict[GroupKey, str], curves: dict[CurveKey, str]) -> str:
    """What neighbours that look the same have in one column; with a link where one serves all of them."""
    shown = marks[0]
    if shown is None:
        return ""
    targets = {_target(mark, failures, curves) for mark in marks if mark}
    if len(targets) > 1:
        targets = {"learning" if all(target.startswith("curve") for target in targets) else ""}
    target = targets.pop()
    return f"[{md(shown.sign)}](#{target})" if target else md(shown.sign)


def _target(mark: Mark, failures: dict[GroupKey, str], curves: dict[CurveKey, str]) -> str:
    outcome = mark.judged.outcome
    if has_failed(outcome):
        return failures[group_key(mark.judged)]
    if mark.judged.defects:
        return failures[defect_key(mark.judged, mark.judged.defects[0])]
    key = curve_key(outcome)
    return curves[key] if key else ""


def _failures(summary: Summary) -> list[str]:
    parts = ["## What fails, and why"]
    if not summary.failures:
        return [*parts, "Nothing failed."]
    for group in summary.failures:
        parts += _failure(group, summary.repeat)
    return parts


def _failure(group: FailureGroup, repeat: Repeating) -> list[str]:
    known = group.issue if group.verdict is Verdict.KNOWN else None
    more = f" and {units.plural(len(group.also), 'more finding')}" if known and group.also else ""
    judged = labels.VERDICT_NAME[group.verdict] + (", not yet explained" if known and not group.explained else "")
    blocked = f"; keeps {units.plural(group.blocked_cells, 'more cell')} from being run" if group.blocked_cells else ""
    statuses = ", ".join(labels.STATUS_NAME[status] for status in group.statuses)
    grave = f"{SIGN[Level(group.severity)]} {group.severity} · " if group.severity else ""
    parts = [
        f'<a id="{group.anchor}"></a>',
        f"### F{group.number}. {md(known.title if known else group.signature)}{more}",
        f"{md(grave)}**{md(judged)}** · {md(statuses)} · {units.plural(group.cells, 'cell')}{blocked}",
    ]
    if known:
        for issue in (known, *group.also):
            parts.append(f"**{md(issue.title)}** ({issue.severity})" if group.also else "")
            parts.append(f"Cause: {md(issue.cause, at_most=2000)}" if issue.explained else "")
            parts.append(f"Remedy: {md(issue.remedy, at_most=2000)}" if issue.remedy else "")
            parts.append(f"Reported upstream: {', '.join(map(_report, issue.upstream))}" if issue.upstream else "")
    else:
        parts.append(md(group.sentence, at_most=1000))
    parts.append(f"Signature {code(group.signature)}")
    parts.append("\n".join(_message(group.type, message) for message in group.messages))
    parts.append(
        _table(
            ("model", "check", "shapes", "releases"),
            [
                (
                    md(place.variant or "all"),
                    md(place.check_name),
                    md(", ".join(place.shapes)),
                    md(in_words(place.spans), at_most=_LONGEST_RANGE),
                )
                for place in group.places
            ],
        )
    )
    lines = [f"{line.place} in {line.function}\n    {line.code}" for line in group.lines[-_MOST_LINES:]]
    parts.append(block("\n".join(lines)) if lines else "")
    parts.append(f"Repeat: {code(repeat.show(group.example))}")
    return parts


def _message(kind: str, message: Message) -> str:
    text = f"{kind}: {message.text}" if message.text else kind
    return f"- {code(text)} ({units.plural(message.cells, 'cell')})"


def _learning(summary: Summary) -> list[str]:
    if not summary.curves:
        return []
    rows = [
        (
            f'<a id="{group.anchor}"></a>K{group.number}',
            f"{md(str(group.variant))}<br>{md(str(group.dimensions))}"
            + ("" if summary.grid.one_place else f"<br>{md(group.place)}"),
            units.loss(group.epoch_losses[0] if group.epoch_losses else None),
            bars(group.losses),
            units.loss(group.epoch_losses[-1] if group.epoch_losses else None),
            str(group.steps),
            _uses(group),
        )
        for group in summary.curves
    ]
    return [
        '<a id="learning"></a>',
        "## Do they learn? The baseline",
        "Every fine-tune ran with the same seed on the same speech. Releases whose losses are equal at every step to "
        "the last digit share a row. On a CPU equal curves are the norm, so a release with a curve of its own computes "
        "something else than its neighbours. First and last epoch: the mean loss over the optimizer steps of that "
        f"epoch. Native: the trainer that the release's own recipe (`finetune.sh`) calls.{_without_curve(summary)}",
        _table(
            ("curve", "model", "first epoch", "loss by step", "last epoch", "steps", "trainer, releases, outcome"), rows
        ),
    ]


def _without_curve(summary: Summary) -> str:
    missing = summary.without_curve
    return f" {units.plural(missing, 'more fine-tune')} came to no step, so without a curve." if missing else ""


def _uses(group: CurveGroup) -> str:
    return "<br>".join(_use(use) for use in group.uses)


def _use(use: CurveUse) -> str:
    native = f" ({labels.NATIVE[use.native]})" if labels.NATIVE[use.native] else ""
    verdict = "" if use.verdict is Verdict.AS_EXPECTED else f", **{labels.VERDICT_NAME[use.verdict]}**"
    spans = md(in_words(use.spans), at_most=_LONGEST_RANGE)
    return f"{SIGN[use.level]} {md(str(use.entry))}{native}: {spans}{verdict}"


def _surroundings(summary: Summary) -> list[str]:
    modules = [
        (code(entry.module), str(entry.releases), md(in_words(entry.spans), at_most=_LONGEST_RANGE))
        for entry in summary.undeclared
    ]
    shims = "\n".join(
        f"- **{md(entry.name)}** ({units.plural(entry.cells, 'cell')}): {md(entry.meaning, at_most=1000)}"
        for entry in summary.shims
    )
    return [
        "## Modules that are needed but not declared",
        _table(("module", "releases", "which"), modules) if modules else "None was seen.",
        "## What the harness changed so that releases run here",
        shims or "Nothing: no compatibility shim was made use of.",
    ]


def _reading(summary: Summary) -> list[str]:
    commands = "\n".join(f"# {command.name}\n{command.text}".rstrip() for command in summary.commands)
    checks = [(labels.CHECK_LETTER[check], md(check), md(labels.CHECK_MEANING[check])) for check in Check]
    levels = [(SIGN[level], NAME[level], MEANING[level]) for level in reversed(Level)]
    statuses = [
        (labels.STATUS_SIGN[word], md(labels.STATUS_NAME[word]), labels.STATUS_MEANING[word]) for word in Status
    ]
    verdicts = [(md(labels.VERDICT_NAME[word]), labels.VERDICT_MEANING[word]) for word in Verdict]
    return [
        "## How to read it, and how to repeat it",
        block(commands),
        "The page `compatibility.html` has the evidence of every single cell, and `outcomes.jsonl` the raw figures.",
        _table(("", "check", "what passes it"), checks),
        _table(("", "level", "meaning"), levels),
        _table(("", "status", "meaning"), statuses),
        _table(("verdict", "meaning"), verdicts),
        f"Made by funasr-harness {md(summary.setting.harness)}.",
    ]


def _report(name: str) -> str:
    url = upstream_url(name)
    return f"[{md(name)}]({url})" if url else md(name)


def _install(release: str) -> str:
    return f"```shell\npip install funasr=={release}\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # Imported here: the command line answers `--help` without it.
    from tabulate import tabulate

    return tabulate(list(rows), headers=list(head), tablefmt="pipe", disable_numparse=True)
