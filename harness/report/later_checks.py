"""The checks after `loss_contract` in Markdown: properties, data, saved checkpoints, decoded text.

What holds is told in a line; the page has every figure.
"""

from __future__ import annotations

from harness.core.cells import Severity
from harness.core.release_order import in_words
from harness.report.checkpoint import SavedGroup
from harness.report.data import DataQuestion, DataUse
from harness.report.decode import Decoded
from harness.report.levels import SIGN
from harness.report.properties import VariantProperties
from harness.report.summary import Summary
from harness.rules.levels import Level
from harness.text import units
from harness.text.markdown import block, code, md

_LONGEST_RANGE = 4000
_GRAVE = ("fails", "known", "listed")


def upper_rungs(summary: Summary) -> list[str]:
    """The sections, as many as there is something to tell in."""
    return [
        *_properties(summary.properties),
        *_data(summary.data),
        *_saved(summary.saved),
        *_decoded(summary.decoded),
    ]


def _properties(variants: tuple[VariantProperties, ...]) -> list[str]:
    parts = ["## Properties"] if variants else []
    for variant in variants:
        drawn = f"{units.plural(variant.cells, 'cell')}, {units.plural(variant.examples, 'drawn example')}"
        parts.append(f"### {md(variant.variant)} ({drawn}, at least {variant.fewest} in each)")
        grave = [(row, use) for row in variant.rows for use in row.uses if use.status in _GRAVE]
        for row, use in grave:
            spans = md(in_words(use.spans), at_most=_LONGEST_RANGE)
            parts.append(
                f"{_grave(use.severity)}**{md(row.words)}** does not hold in {spans}: {md(use.message, at_most=1000)}"
            )
            parts.append(block(use.counterexample) if use.counterexample else "")
        held = [md(row.words) for row in variant.rows if row.status == "holds"]
        parts.append(f"Holds wherever it was asked: {'; '.join(held)}." if held else "")
    return parts


def _data(questions: tuple[DataQuestion, ...]) -> list[str]:
    if not questions:
        return []
    lines = [
        f"- {_grave(use.severity)}{md(use.standing)}, {_where(use)}: "
        f"**{md(question.words)}** ({code(question.name)}): {md(use.message, at_most=1000)}"
        for question in questions
        for use in question.uses
        if use.standing in _GRAVE
    ]
    held = [md(question.words) for question in questions if question.standing == "holds"]
    kept = f"Holds wherever it was asked: {'; '.join(held)}." if held else ""
    return ["## What the trainer is fed", "\n".join(lines), kept]


def _where(use: DataUse) -> str:
    return f"{md(str(use.entry))}, {md(in_words(use.spans), at_most=_LONGEST_RANGE)}"


def _saved(groups: tuple[SavedGroup, ...]) -> list[str]:
    parts = ["## What was saved"] if groups else []
    for group in groups:
        spans = md(in_words(group.spans), at_most=_LONGEST_RANGE)
        parts.append(f"### {spans} ({md(group.variant)}, {md(str(group.entry))})")
        told = [question for question in group.questions if question.status in _GRAVE]
        parts.append(
            "\n".join(
                f"- {_grave(one.severity)}{md(one.status)}: **{md(one.words)}**: {md(one.message, at_most=1000)}"
                for one in told
            )
            or "Every promise that was asked for was kept."
        )
    return parts


def _grave(severity: Severity | None) -> str:
    return f"{SIGN[Level(severity)]} {severity}: " if severity else ""


def _row(one: Decoded) -> tuple[str, ...]:
    rates = (one.error_rate, one.allowed, one.untrained_error_rate)
    names = (md(one.release), md(one.variant), md(str(one.entry)))
    return (*names, str(one.steps or units.UNKNOWN), *map(units.percent, rates))


def _decoded(cells: tuple[Decoded, ...]) -> list[str]:
    if not cells:
        return []
    head = "| release | model | trainer | steps | character error rate | allowed | not trained |"
    rows = [f"| {' | '.join(_row(one))} |" for one in cells]
    lines = [f"- {md(line.reference)} → {md(line.hypothesis) or 'nothing'}" for line in cells[0].lines]
    of_newest = f"What {md(cells[0].release)} ({md(cells[0].variant)}) gave back:" if lines else ""
    return ["## Text given back", "\n".join([head, "|" + " --- |" * 7, *rows]), of_newest, "\n".join(lines)]
