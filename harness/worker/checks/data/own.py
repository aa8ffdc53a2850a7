"""A question about the user's own file: which of its rows does an epoch bring?

No recording is read: the release's index reads the file, and its sampler says which rows it would draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.worker.checks.data.answers import DataAnswer, fails, holds, listed, not_asked
from harness.worker.checks.data.scene import DataCheckContext, ReleaseRaised
from harness.worker.trainer.received_rows import lines_of, rows_of

NAME = "own_rows"


def ask(scene: DataCheckContext) -> Iterator[DataAnswer]:
    """Nothing where the speech is the harness's."""
    if scene.own is not None:
        yield _rows(scene, scene.own)


def _rows(scene: DataCheckContext, own: dict[str, Any]) -> DataAnswer:
    name, count = own["name"], len(rows_of(own["path"]))
    try:
        loader = scene.guarded(scene.feed(own["path"], batch_size=1, buffer_size=1, shuffle=False).build).train
        drawn = scene.guarded(lambda: [number for batch in loader.batch_sampler for number in batch])
    except ReleaseRaised as raised:
        if own["left_out_count"] == count:
            return listed(NAME, f"reading {name} raises {raised}", file=_reason(own))
        return fails(NAME, f"reading {name} raises {raised}")
    kept = lines_of(getattr(loader.dataset.index_ds, "contents", None), own["path"], range(1, count + 1))
    if kept is None:
        return not_asked(NAME, "the release's index keeps the rows in another form")
    came = {kept[number] for number in drawn}
    gone = [line for line in range(1, count + 1) if line not in came]
    excused = [one["line"] for one in own["left_out"]]
    # Up to 1.0.17 the last batch of an epoch never comes, whatever is in it: `once` tells of that.
    unexplained = [line for line in gone if line not in excused] if len(excused) == own["left_out_count"] else []
    allowed = own["left_out_count"] + scene.feeding.loaders_in_main
    if len(gone) > allowed or len(unexplained) > scene.feeding.loaders_in_main:
        lines = ", ".join(map(str, (unexplained or gone)[:5]))
        message = f"{len(gone)} of {count} rows of {name} never arrive; the limits in force leave out "
        return fails(NAME, f"{message}{own['left_out_count']}", utterance=f"line {lines}", arrived="nothing")
    if len(gone) > own["left_out_count"]:
        message = f"{count - len(gone)} of {count} rows of {name} arrive; the last batch of an epoch never comes"
        return listed(NAME, message, utterance=f"line {gone[-1]}", arrived="nothing")
    if own["left_out_count"]:
        message = f"{own['left_out_count']} of {count} rows of {name} are left out by the limits in force"
        return listed(NAME, message, file=_reason(own), arrived="nothing")
    return holds(NAME, f"all {count} rows of {name} arrive")


def _reason(own: dict[str, Any]) -> str:
    first = own["left_out"][0]
    return f"line {first['line']}: {first['reason']}"
