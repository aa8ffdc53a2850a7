"""The parts of the live display, each as rows of text that a terminal of any width can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from harness.core.cells import Severity
from harness.text import units
from harness.text.plain import one_line
from harness.watch.braille import ChartLine, chart, spark
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.overview import (
    PHASE_NAMES,
    CardOverview,
    Overview,
    RankOverview,
    accuracy_name,
    baseline_curve,
    severities,
)
from harness.watch.state import ATTENTION_LOSS, Curve, TrainingState

SEVERITY_STYLE: Mapping[Severity, str] = {
    Severity.BROKEN: "bold white on red",
    Severity.WRONG: "bold yellow",
    Severity.MINOR: "cyan",
}
_LOSS_STYLES = ("cyan", "magenta", "green", "blue")
"""Of the first ranks; more have no line in a terminal."""
_PHASE_STYLES = ("red", "cyan", "blue", "magenta", "white", "yellow")
_SILENCE = 30.0
"""Seconds without a step after which that is said."""
_LABEL = 14


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown at one moment."""

    state: TrainingState
    now: Overview
    began: float
    """`time.time()` when the display began."""
    at: float
    """`time.time()` of now."""
    findings: Sequence[WatchFinding]
    forecasts: Sequence[Forecast]
    output: Sequence[str]
    """The last lines of the command's output."""
    log: str
    """Where all of it is."""
    page: str
    """Address of the page; empty without one."""


def header(view: View, width: int) -> list[Text]:
    """What is trained, how far it is, and the page's address: whole, in a row of its own if need be."""
    now = view.now
    waiting = f"waiting for the first training step, {units.duration(view.at - view.began)} so far"
    title = Text(one_line(now.title) or waiting, style="bold")
    progress = "  ".join(_progress(view))
    if not view.page:
        return [title, Text(progress)]
    if len(progress) + 2 + len(view.page) <= width:
        return [title, Text(f"{progress}  {view.page}" if progress else view.page)]
    return [title, Text(progress), Text(view.page)]


def _progress(view: View) -> Iterator[str]:
    now = view.now
    if now.epoch is not None:
        yield epoch_of(now)
    if now.step:
        yield f"step {now.step:,}" + (f" ({now.skipped:,} left out)" if now.skipped else "")
    if now.started is not None:
        yield f"{units.duration(view.at - now.started)} so far"
    silent = view.at - now.latest if now.latest is not None else 0.0
    if silent > max(_SILENCE, 10 * (now.seconds or 0.0)) and not any(rank.end for rank in now.ranks):
        yield f"no step for {units.duration(silent)}"


def epoch_of(now: Overview) -> str:
    """The trainer's own number of the epoch, and `max_epoch`, as FunASR's log has them."""
    return f"epoch {now.epoch}/{now.epochs}" if now.epochs is not None else f"epoch {now.epoch}"


def loss(view: View, width: int, height: int) -> list[Text]:
    """The loss per step, with the unigram baseline where it can be compared, and their values in the first row."""
    lines = _loss_lines(view.state)
    first = Text()
    values = {"loss": view.now.loss, ATTENTION_LOSS: view.now.attention_loss, "unigram baseline": view.now.baseline}
    shown = {line.name for line in lines}
    for line in lines:
        value = values.get(line.name)
        first.append(f"{'  ' if first else ''}━ {line.name}", style=line.style)
        if value is not None:
            first.append(f" {units.loss(value)}")
    if shown and view.now.baseline is None and "unigram baseline" not in shown:
        first.append("  no unigram baseline: no attention loss, or no token ids", style="dim")
    return [first, *chart(lines, width=width, height=height - 1)] if height > 2 else [first]


def _loss_lines(state: TrainingState) -> list[ChartLine]:
    ranks = state.training_ranks
    lines = []
    for rank, style in zip(ranks, _LOSS_STYLES, strict=False):
        if "loss" in rank.curves:
            name = "loss" if rank is ranks[0] else f"rank {rank.rank}"
            lines.append(_line(name, rank.curves["loss"], style))
    if not ranks:
        return lines
    curves = ranks[0].curves
    attention = curves.get(ATTENTION_LOSS)
    if attention is not None and attention.values != curves["loss"].values:
        lines.insert(0, _line(ATTENTION_LOSS, attention, "bright_white"))
    base = baseline_curve(ranks[0])
    return [*([_line("unigram baseline", base, "yellow")] if base.values else []), *lines]


def _line(name: str, curve: Curve, style: str) -> ChartLine:
    return ChartLine(name=name, steps=curve.steps, values=curve.values, style=style)


def figures(view: View) -> list[tuple[str, str, Curve, str]]:
    """Label, value, curve and colour of what is shown besides the loss."""
    ranks, now = view.state.training_ranks, view.now
    curves = ranks[0].curves if ranks else {}
    accuracy = (accuracy_name(ranks[0]) if ranks else None) or "acc"
    rate = max(now.learning_rates, default=None)
    norm = units.rate(now.gradient_norm) + (f" ≤ {now.clipped_at:g}" if now.clipped_at is not None else "")
    return [
        (
            one_line(accuracy, at_most=_LABEL - 1),
            units.rate(now.accuracy[1] if now.accuracy else None),
            curves.get(accuracy, Curve()),
            "green",
        ),
        ("learning rate", units.rate(rate), curves.get("learning_rate", Curve()), "blue"),
        ("gradient norm", norm, curves.get("gradient_norm", Curve()), "magenta"),
    ]


def small_curves(view: View, width: int) -> list[Text]:
    """One row for each: name, value, and the curve without axes."""
    rows = []
    for label, value, curve, style in figures(view):
        row = Text.assemble((f"{label:<{_LABEL}}", "dim"), f"{value:<16}")
        rows.append(row.append_text(spark(curve.values, width=max(4, width - row.cell_len), style=style)))
    return rows


def charts(view: View, width: int, height: int) -> list[Text]:
    """A chart for each, one above the other."""
    rows: list[Text] = []
    shown = figures(view)
    for number, (label, value, curve, style) in enumerate(shown):
        share = height // len(shown) + (number < height % len(shown))
        rows.append(Text.assemble((f"━ {label} ", style), value))
        rows += chart([_line(label, curve, style)], width=width, height=share - 1)
    return rows


def speed(view: View, width: int) -> list[Text]:
    """What a step takes and what it is spent on."""
    now = view.now
    if not now.seconds:
        return [Text("no step yet", style="dim")]
    first = Text.assemble((f"{units.duration(now.seconds)} a step", "bold"))
    if now.speech_per_second is not None:
        first.append(f"  {units.rate(now.speech_per_second)} s of speech a second")
    elif now.frames_per_second is not None:
        first.append(f"  {units.count(now.frames_per_second)} frames a second")
    return [first, _phases(now), _phase_bar(now, width)]


def _phases(now: Overview) -> Text:
    """The share of each phase that has one."""
    total, row = sum(now.phases.values()) or 1.0, Text()
    for (name, seconds), style in zip(now.phases.items(), _PHASE_STYLES, strict=False):
        if seconds / total >= 0.005:
            row.append("  " if row else "").append("■ ", style=style)
            row.append(f"{_phase(name)} {100 * seconds / total:.0f} %")
    return row


def _phase_bar(now: Overview, width: int) -> Text:
    total, row, until = sum(now.phases.values()) or 1.0, Text(), 0.0
    for seconds, style in zip(now.phases.values(), _PHASE_STYLES, strict=False):
        until += seconds
        row.append("━" * (round(width * until / total) - row.cell_len), style=style)
    return row


def _phase(name: str) -> str:
    return PHASE_NAMES.get(name, one_line(name, at_most=20))


def memory(view: View) -> list[Text]:
    """A row for each rank, and one for each GPU, those of the same number together."""
    cards = {card.index: card for card in view.now.cards}
    rows = []
    for rank in view.now.ranks:
        rows.append(_rank_memory(rank))
        card = cards.pop(rank.rank, None)
        rows += [_card_memory(card)] if card else []
    return [*rows, *map(_card_memory, cards.values())]


def _card_memory(card: CardOverview) -> Text:
    row = Text.assemble((f"GPU {card.index} ", "dim"), (f"{_mib(card.used)} of {_mib(card.total)} MiB", "bold"))
    row.append(f", this training {_mib(card.ours)}, others {_mib(card.others)}")
    if card.utilisation is not None:
        row.append(f", busy {card.utilisation} %")
    return row.append(f" {one_line(card.name, at_most=40)}", style="dim")


def _rank_memory(rank: RankOverview) -> Text:
    row, memory = Text.assemble((f"rank {rank.rank} ", "dim")), rank.memory
    if memory.allocated is None and memory.reserved is None:
        row.append("no GPU, ")
    else:
        row.append(f"allocated {_mib(memory.allocated)}", style="bold")
        row.append(f" peak {_mib(memory.peak_allocated)} reserved {_mib(memory.reserved)} ")
        if rank.by_nvml is not None:
            row.append(f"NVML {_mib(rank.by_nvml)} ")
    row.append(f"main {_mib(memory.resident)} MiB")
    return row.append(f" {rank.end}", style="bold") if rank.end else row


def _mib(size: int | None) -> str:
    return units.memory(size).removesuffix(" MiB")


def forecasts(view: View) -> list[Text]:
    """A row for each forecast."""
    rows = []
    for forecast in view.forecasts:
        row = Text.assemble((f"{one_line(forecast.label)} ", "dim"), (one_line(forecast.value), "bold"))
        rows.append(row.append(f"  {one_line(forecast.detail)}", style="dim") if forecast.detail else row)
    return rows


def findings_title(view: View) -> str:
    """How many findings of each severity there are."""
    counts = severities(view.findings)
    return "findings: " + (", ".join(f"{count} {severity}" for severity, count in counts.items()) or "none")


def findings(view: View) -> list[Text]:
    """A row for each finding."""
    return [finding_row(finding) for finding in view.findings]


def finding_row(finding: WatchFinding) -> Text:
    """A finding on one row."""
    severity, rule = (str(finding.severity), SEVERITY_STYLE[finding.severity]), (f" {one_line(finding.rule)} ", "bold")
    return Text.assemble(severity, rule, f"{where(finding)}{one_line(finding.message)}")


def where(finding: WatchFinding) -> str:
    """The step and the rank of a finding, as the beginning of a sentence."""
    places = [f"step {finding.step:,}"] if finding.step is not None else []
    places += [f"rank {finding.rank}"] if finding.rank is not None else []
    return f"{', '.join(places)}: " if places else ""


def output(view: View, height: int) -> list[Text]:
    """The last lines that the command printed."""
    return [Text(one_line(line)) for line in view.output[-height:]] if height > 0 else []
