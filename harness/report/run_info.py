"""What the reports say about a run as a whole: machine, versions, undeclared modules and compatibility shims."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.cells import Check, Device, Status
from harness.core.evidence import REUSED
from harness.core.evidence.imports import ImportEvidence
from harness.core.numbers import any_number
from harness.core.versions import Order, Span
from harness.report.cell_details import Fact, words
from harness.report.labels import shim_meaning
from harness.rules.verdicts import JudgedOutcome
from harness.run.provenance import Provenance, ReuseFacts
from harness.text import units

_NOT_MEASURED = frozenset((Status.SKIPPED, Status.BLOCKED, Status.ERRORED))
_LIBRARIES = ("torchaudio", "numpy", "transformers", "librosa", "scipy")
"""The libraries whose version a reader may want first; `run.json` has all of them."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Where the outcomes come from, ready to be read."""

    facts: tuple[Fact, ...]
    on_gpu: bool
    """Whether any cell was measured on a GPU."""
    banner: str
    """Why there is no VRAM figure in the report; empty when there is one."""
    notices: tuple[str, ...]
    """What the reader should know before trusting the rest: an unfinished run, a selection, a mixed harness."""
    matrix: str
    harness: str
    """Version and commit."""


def read_run_info(provenance: Provenance, judged: Iterable[JudgedOutcome], notices: Iterable[str] = ()) -> RunInfo:
    """Put the provenance into words."""
    judged = tuple(judged)
    on_gpu = [item for item in judged if item.outcome.cell.device is Device.CUDA and _measured(item)]
    return RunInfo(
        facts=_facts(provenance, reused=sum(REUSED in item.outcome.evidence for item in judged)),
        on_gpu=bool(on_gpu),
        banner=_banner(on_gpu),
        notices=(*_notices(provenance), *notices),
        matrix=provenance.matrix,
        harness=_harness(provenance),
    )


def _banner(on_gpu: list[JudgedOutcome]) -> str:
    if not on_gpu:
        return "Not measured on a GPU: no VRAM figure in this report."
    trained = [item.outcome for item in on_gpu if item.outcome.cell.check is Check.FINETUNE]
    if any(any_number(outcome.metrics.get("peak_allocated_bytes")) is not None for outcome in trained):
        return ""
    return "No VRAM figure in this report: no fine-tune was measured on the GPU."


def _measured(item: JudgedOutcome) -> bool:
    return item.outcome.status not in _NOT_MEASURED


def _facts(provenance: Provenance, reused: int) -> tuple[Fact, ...]:
    libraries = [f"{name} {provenance.libraries[name]}" for name in _LIBRARIES if name in provenance.libraries]
    graphics = ", ".join(provenance.gpus) or "none"
    driver = f", driver {provenance.driver}" if provenance.driver else ""
    cuda = f" (CUDA {provenance.cuda})" if provenance.cuda else " (CPU build)"
    memory = f", {provenance.memory_bytes / 2**30:.0f} GiB of memory" if provenance.memory_bytes else ""
    return (
        Fact(name="Date", text=_dates(provenance)),
        Fact(name="Host", text=provenance.host),
        Fact(
            name="Processor",
            text=f"{provenance.processor}, {units.plural(provenance.cpu_count, 'core')} in use{memory}",
        ),
        Fact(name="GPU", text=graphics + driver),
        Fact(name="Python and torch", text=f"Python {provenance.python}, torch {provenance.torch}{cuda}"),
        Fact(name="Libraries", text=", ".join(libraries) or "see run.json"),
        Fact(name="Harness", text=_harness(provenance)),
        Fact(
            name="Matrix",
            text=f"{provenance.matrix}, {units.plural(provenance.cells, 'cell')}, "
            f"sha256 {provenance.matrix_sha256[:12]}…",
        ),
        *([Fact(name="Speech", text=provenance.speech)] if provenance.speech else []),
        *([Fact(name="Reuse", text=_reuse(reused, provenance.reuse))] if reused else []),
    )


def _reuse(reused: int, facts: ReuseFacts | None) -> str:
    """The outcomes say how many were reused; how that was checked is known of a run that was not killed."""
    cells = units.plural(reused, "cell")
    text = f"{cells} not run, because all code and files that they use are as for a cell that ran"
    if facts and facts.confirmed:
        text += f"; {facts.confirmed} more were drawn (seed {facts.seed}), run nevertheless, and ended as predicted"
    return text


def _dates(provenance: Provenance) -> str:
    started = provenance.started.replace("T", " ").removesuffix("Z")
    if provenance.finished is None:
        return f"begun {started} UTC"
    ended = provenance.finished.replace("T", " ").removesuffix("Z")
    if ended[:10] == started[:10]:
        ended = ended[11:]
    return f"{started} to {ended} UTC"


def _harness(provenance: Provenance) -> str:
    commit = f", commit {provenance.harness_commit[:12]}" if provenance.harness_commit else ""
    changed = " with changes" if provenance.harness_dirty else ""
    return f"{provenance.harness_version}{commit}{changed}"


def _notices(provenance: Provenance) -> list[str]:
    notices = []
    if provenance.finished is None:
        notices.append("The run was not finished when this report was made.")
    if provenance.selection:
        notices.append(f"Only a part of the matrix was selected: {', '.join(provenance.selection)}.")
    if shard := provenance.shard:
        notices.append(f"This is shard {shard.name} of {shard.selected} cells; `merge` makes one run of all shards.")
    if others := provenance.other_machines:
        machines = "; ".join(dict.fromkeys(machine.processor for machine in (provenance.machine, *others)))
        notices.append(
            f"The cells ran on {len(others) + 1} machines ({machines}), for which reason times and the last digits of"
            " losses may differ."
        )
    if provenance.earlier_commits:
        notices.append(f"Some outcomes are by other commits of the harness: {', '.join(provenance.earlier_commits)}.")
    if provenance.reuse and (wrong := provenance.reuse.refuted):
        notices.append(
            f"Reuse of outcomes was wrong for {', '.join(wrong[:3])}: a fault of the harness. Cells of these "
            "checks that were reused are run instead."
        )
    notices += provenance.notices
    return notices


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """A third-party module that releases import and their metadata does not declare."""

    module: str
    releases: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class ShimUse:
    """A named change that cells made use of."""

    name: str
    meaning: str
    cells: int
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]


def undeclared_modules(judged: Iterable[JudgedOutcome], order: Order) -> tuple[Undeclared, ...]:
    """By module, the most widespread first."""
    releases: dict[str, set[str]] = defaultdict(set)
    for item in judged:
        evidence = item.outcome.common
        for module in words(evidence.undeclared) if isinstance(evidence, ImportEvidence) else ():
            releases[module].add(item.outcome.cell.release)
    modules = (
        Undeclared(module=module, releases=len(labels), spans=order.spans(labels))
        for module, labels in releases.items()
    )
    return tuple(sorted(modules, key=lambda entry: (-entry.releases, entry.module)))


def shims_used(judged: Sequence[JudgedOutcome], order: Order) -> tuple[ShimUse, ...]:
    """By name."""
    names = sorted({name for item in judged for name in item.outcome.shims})
    return tuple(_use(name, [item for item in judged if name in item.outcome.shims], order) for name in names)


def _use(name: str, users: Sequence[JudgedOutcome], order: Order) -> ShimUse:
    checks = {item.outcome.cell.check for item in users}
    return ShimUse(
        name=name,
        meaning=shim_meaning(name),
        cells=len(users),
        checks=tuple(check for check in Check if check in checks),
        spans=order.spans({item.outcome.cell.release for item in users}),
    )
