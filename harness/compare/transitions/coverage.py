"""Which of a release's files ran in a cell, so that a diff can be restricted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.compare.diagnose import TracedRunner
from harness.compare.transitions.runner import SearchSettings
from harness.config.matrix import VariantSource
from harness.core.cells import Cell, Check, Release


def asker_of(bench: SearchSettings, releases: Sequence[Release], variants: Sequence[VariantSource]) -> TracedRunner:
    """What records cells of these releases, on the bench's stack and with its settings."""
    return TracedRunner(
        matrix=replace(bench.matrix, variants=tuple(variants)),
        releases={release.label: release for release in releases},
        cache=bench.cache,
        stack=bench.stack,
        jobs=bench.jobs,
        warn=bench.on_warning,
    )


def executed_files(
    bench: SearchSettings, questions: Sequence[tuple[Release, Cell]], variants: Sequence[VariantSource]
) -> tuple[str, ...]:
    """The funasr files of which a function ran in any of these cells; none where nothing was recorded.

    The cells are run once more, with a recorder; an `import` has none.
    """
    asked = {cell: release for release, cell in questions if cell.check is not Check.IMPORT}
    if not asked:
        return ()
    asker = asker_of(bench, tuple(asked.values()), variants)
    answers = asker.ask({cell: {"passes": [0]} for cell in asked})
    traces = [traced.trace for traced in answers.values() if traced.trace]
    return tuple(sorted({one.file for trace in traces for one in trace.functions}))
