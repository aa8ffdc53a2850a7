"""The page of a watched training: shown by a browser while it trains, and the report when it has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.core.cells import Severity
from harness.report.html import asset, content_policy, render_page
from harness.report.watch_chart import COLOURS, PageChart, PageLine, draw
from harness.report.watch_summary import WatchSummary, phase_curves
from harness.watch.overview import PHASE_NAMES, baseline_curve
from harness.watch.records import CardSample
from harness.watch.state import ATTENTION_LOSS, RECENT, Curve, RankState, TrainingState

TITLES: Mapping[Severity, str] = {
    Severity.BROKEN: "Stops the training, or ruins its result",
    Severity.WRONG: "Trains something else than configured",
    Severity.MINOR: "Changes nothing that is learned",
}
_MEMORY = ("allocated", "reserved", "resident")
_MEMORY_NAMES = {"resident": "main memory"}


def render_watch_page(
    state: TrainingState, summary: WatchSummary, *, output: Sequence[str] = (), path: str = ""
) -> str:
    """The whole page: it needs nothing from elsewhere, and escapes all that was recorded.

    Args:
        output: The last lines that the command printed.
        path: Of the file that the page is kept in.
    """
    style = asset("page.css")
    script = asset("watch.js") if summary.running else ""
    pictures = [(chart, draw(chart)) for chart in charts(state) if chart.drawable]
    return render_page(
        "watch.html.j2",
        s=summary,
        ranks=state.training_ranks,
        pictures=pictures,
        output=output,
        path=path,
        titles=TITLES,
        phase_names=PHASE_NAMES,
        style=style,
        script=script,
        policy=content_policy(style, script, own_data=summary.running),
    )


def charts(state: TrainingState) -> Iterator[PageChart]:
    """The pictures, in their order."""
    ranks = state.training_ranks
    if not ranks:
        return
    yield _loss(ranks)
    accuracies = sorted({name for rank in ranks for name in rank.curves if name.startswith("acc")})
    lines = [line for name in accuracies for line in _of_ranks(ranks, name, name)]
    validated = [_validated(ranks[0], name, f"{name} in the validations") for name in accuracies]
    yield _chart("Accuracy", [*lines, *validated], "share of tokens")
    yield _chart("Learning rate", _of_ranks(ranks[:1], "learning_rate", "learning rate"), "largest of all groups")
    yield _norm(ranks)
    phases = phase_curves(ranks[0])
    note = "" if ranks[0].steps <= RECENT else f"The last {RECENT:,} steps."
    named = [_line(name, curve, number) for number, (name, curve) in enumerate(phases.items())]
    yield _chart(f"Time of a step by phase, rank {ranks[0].rank}", named, "seconds", note)
    for rank in ranks:
        yield _memory(rank)
    for index, samples in sorted(state.cards.items()):
        yield _card(index, samples)


def _loss(ranks: Sequence[RankState]) -> PageChart:
    lines = _of_ranks(ranks, "loss", "loss")
    first = ranks[0]
    attention, loss = first.curves.get(ATTENTION_LOSS), first.curves.get("loss")
    if attention is not None and (loss is None or attention.values != loss.values):
        lines.append(_line(ATTENTION_LOSS, attention, len(lines)))
    base, note = baseline_curve(first), ""
    if base.values:
        lines.append(PageLine(name="unigram baseline of loss_att", steps=base.steps, values=base.values, kind="base"))
        note = (
            "The unigram baseline is what loss_att would be if the model knew how often each of your tokens occurs, "
            "and did not hear the speech."
        )
    elif loss is not None:
        note = "No unigram baseline: the model has no attention loss, or its texts are not token ids."
    validated = _validated(first, "loss", "loss in the validations")
    return _chart("Loss", [*lines, validated], "nats", note)


def _norm(ranks: Sequence[RankState]) -> PageChart:
    last = ranks[0].recent[-1] if ranks[0].recent else None
    bound = last.clipped_at if last else None
    note = f"From before clipping; clipped at {bound:g}." if bound is not None else "The trainer does not clip."
    return _chart("Gradient norm", _of_ranks(ranks, "gradient_norm", "gradient norm"), "norm", note)


def _memory(rank: RankState) -> PageChart:
    lines = []
    for number, name in enumerate(_MEMORY):
        curve = rank.curves.get(name)
        if curve is not None:
            values = [value / 2**20 for value in curve.values]
            lines.append(
                PageLine(name=_MEMORY_NAMES.get(name, name), steps=curve.steps, values=values, kind=str(number))
            )
    note = "" if "allocated" in rank.curves else "No GPU: the memory of the process."
    return _chart(f"Memory of rank {rank.rank} at the end of a step", lines, "MiB", note)


def _card(index: int, samples: Sequence[CardSample]) -> PageChart:
    numbers = range(1, len(samples) + 1)
    used, total = [sample.used / 2**20 for sample in samples], [sample.total / 2**20 for sample in samples]
    lines = [
        PageLine(name="in use", steps=numbers, values=used, kind="0"),
        PageLine(name="the card has", steps=numbers, values=total, kind="base"),
    ]
    title = f"GPU {index}, all processes, by NVML"
    return PageChart(title=title, lines=lines, label="MiB", axis="sample, one every few seconds")


def _of_ranks(ranks: Sequence[RankState], curve: str, name: str) -> list[PageLine]:
    lines = []
    for number, rank in enumerate(ranks[:COLOURS]):
        if curve in rank.curves:
            lines.append(_line(f"{name}, rank {rank.rank}" if len(ranks) > 1 else name, rank.curves[curve], number))
    return lines


def _validated(rank: RankState, statistic: str, name: str) -> PageLine:
    points = [
        (validation.step, value)
        for validation in rank.validations
        if (value := validation.loss if statistic == "loss" else validation.stats.get(statistic)) is not None
    ]
    return PageLine(
        name=name, steps=[step for step, _ in points], values=[value for _, value in points], kind="valid", dots=True
    )


def _line(name: str, curve: Curve, number: int) -> PageLine:
    return PageLine(name=name, steps=curve.steps, values=curve.values, kind=str(number % COLOURS))


def _chart(title: str, lines: Sequence[PageLine], label: str, note: str = "") -> PageChart:
    return PageChart(title=title, lines=[line for line in lines if line.values], label=label, note=note)
