"""A store that is cut at a random byte: what is whole before the cut stays, and everything else is run again."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from report_factory import RELEASES, atlas, run_of

from harness.core.cells import Outcome
from harness.core.durable import json_text
from harness.core.errors import InputError, StoreError
from harness.run.archive import PACKED, pack
from harness.run.outcome_lines import line_of
from harness.run.store import OUTCOMES, RUN, RunStore, load_run
from tests.campaign.trials import PartResult


def cut_stores(count: int, *, seed: int) -> PartResult:
    """Of ten cuts eight are of the outcomes, one of `run.json` and one of the packed outcomes."""
    result, chance = PartResult(part="cuts of the store", seed=seed), random.Random(seed)
    began = time.monotonic()
    written = atlas(RELEASES[5:8])[:12]
    description = json_text(run_of(written).provenance.to_json()).encode()
    lines = [line_of(outcome) for outcome in written]
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        packed = _packed(Path(name), lines, description)
        for number in range(count):
            folder = Path(name) / str(number)
            folder.mkdir()
            (folder / RUN).write_bytes(description)
            if number % 10 == 8:
                (folder / OUTCOMES).write_bytes(b"".join(lines))
                _refused(folder, RUN, description[: chance.randrange(len(description) - 1)], result)
            elif number % 10 == 9:
                _refused(folder, PACKED, packed[: chance.randrange(len(packed))], result)
            else:
                _resumed(folder, written, lines, chance.randrange(sum(map(len, lines)) + 1), result)
            result.tried += 1
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _packed(folder: Path, lines: list[bytes], description: bytes) -> bytes:
    (folder / "packed").mkdir()
    (folder / "packed" / OUTCOMES).write_bytes(b"".join(lines))
    (folder / "packed" / RUN).write_bytes(description)
    pack(folder / "packed")
    return (folder / "packed" / PACKED).read_bytes()


def _resumed(folder: Path, written: list[Outcome], lines: list[bytes], at: int, result: PartResult) -> None:
    """Cut the outcomes, read them, open them for writing, and append what is missing."""
    (folder / OUTCOMES).write_bytes(b"".join(lines)[:at])
    whole = 0
    while whole < len(lines) and sum(map(len, lines[: whole + 1])) <= at:
        whole += 1
    torn = at > sum(map(len, lines[:whole]))
    if load_run(folder).outcomes != tuple(written[:whole]):
        result.fault(f"cut at {at}: another report")
    with RunStore.open(folder) as store:
        if store.load() != tuple(written[:whole]) or bool(store.notices) != torn:
            result.fault(f"cut at {at}: {len(store.load())} outcomes, {store.notices}")
        missing = set(store.remaining([outcome.cell for outcome in written]))
        # errored cells, and what they block, are run again
        settled = {outcome.cell for outcome in written[:whole] if outcome.status not in ("errored", "blocked")}
        if settled & missing:
            result.fault(f"cut at {at}: {len(settled & missing)} cells would be run twice")
        for outcome in written[whole:]:
            store.append(outcome)
    after = load_run(folder).outcomes
    result.cells += len(written)
    result.lost += len(written) - len(after)
    result.differing += sum(one != other for one, other in zip(after, written, strict=False))
    result.twice += (folder / OUTCOMES).read_bytes().count(b"\n") - len(after)


def _refused(folder: Path, name: str, content: bytes, result: PartResult) -> None:
    """A file that is replaced as a whole is never cut by a kill: a cut one is an error that names it."""
    (folder / name).write_bytes(content)
    try:
        load_run(folder)
    except (StoreError, InputError) as error:
        if name not in str(error) or error.exit_code != InputError.exit_code:
            result.fault(f"{name} cut to {len(content)} bytes: {error}")
    except Exception as error:
        result.internal_errors += 1
        result.fault(f"{name} cut to {len(content)} bytes: {type(error).__name__}: {error}")
    else:
        result.fault(f"{name} cut to {len(content)} bytes was read")
