"""Memory and time by phase in Markdown: of each model the newest release on a CPU, every training on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.memory import NOT_ON_A_GPU, CellMemory, MemoryGroup
from harness.text import units
from harness.text.markdown import md

_HEAD = (
    "model, release", "allocated", "reserved", "used", "weights", "gradients", "optimizer state", "activations",
    "a step", "data", "forward", "backward", "optimizer", "speech s/s", "GPU busy",
)  # fmt: skip


def memory_section(groups: Sequence[MemoryGroup]) -> list[str]:
    """The section; nothing where nothing is known."""
    if not groups:
        return []
    shown = [(group, cell) for group in groups for cell in (group.cells if group.on_gpu else group.cells[-1:])]
    rows = [f"| {' | '.join(_row(group, cell))} |" for group, cell in shown]
    told = [
        f"- {md(cell.id)}: {md(sentence, at_most=1000)}"
        for _, cell in shown
        for sentence in (*([cell.shortage.sentence] if cell.shortage else []), *cell.notes)
    ]
    note = (
        "Peaks and parts in memory; times are medians over the steps after the warm-up, with their share of a step. "
        "On a CPU the newest release of each model stands for the others; the page has them all."
    )
    return [
        '<a id="memory"></a>',
        "## Memory and time of a training step",
        note,
        "\n".join([f"| {' | '.join(_HEAD)} |", "|" + " --- |" * len(_HEAD), *rows]),
        "\n".join(told),
    ]


def _row(group: MemoryGroup, cell: CellMemory) -> list[str]:
    def gpu(text: str) -> str:
        return text if cell.on_gpu else NOT_ON_A_GPU

    parts = {part.name: units.memory(part.value) for part in cell.parts}
    phases = {phase.name: phase for phase in cell.phases}
    busy = units.percent(cell.busy) if cell.busy is not None else md(cell.busy_told)
    return [
        f"{md(group.title)}<br>{md(cell.release)}",
        *(gpu(units.memory(size)) for size in (cell.allocated, cell.reserved, cell.used)),
        *(parts[name] for name in ("weights", "gradients", "optimizer state")),
        gpu(parts["activations"]),
        units.duration(cell.step_seconds),
        *(_time(phases[name].seconds, phases[name].share) for name in ("data", "forward", "backward", "optimizer")),
        units.rate(cell.audio_seconds_per_second),
        busy,
    ]


def _time(seconds: float | None, share: float | None) -> str:
    return f"{units.duration(seconds)} ({units.percent(share)})" if share is not None else units.duration(seconds)
