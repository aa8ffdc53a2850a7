"""Whole runs with random faults in every process and file operation, compared cell by cell with an undisturbed run."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.campaign.trials import OWN_FAULT, PLANTED, PartResult, trial, undisturbed

INJECTED = Path(__file__).with_name("injected")
PROBABILITY = 0.01
"""That a call of the operating system fails."""


def soak(runs: int, *, seed: int, probability: float = PROBABILITY) -> PartResult:
    """Each run is disturbed twice, and then resumed undisturbed until it is whole."""
    result, chance = PartResult(part="soak: random faults in every process", seed=seed), random.Random(seed)
    began = time.monotonic()
    expected, _ = undisturbed()
    statuses: dict[int, int] = {}
    for _ in range(runs):
        with trial(result) as one:
            for _ in range(2):
                faults = f"{chance.getrandbits(32)}:{probability}"
                status = one.finish(one.start_afresh(CAMPAIGN_FAULTS=faults, PYTHONPATH=str(INJECTED)))
                statuses[status] = statuses.get(status, 0) + 1
                if status == 1:
                    result.fault(f"exit status 1, which means a regression, with CAMPAIGN_FAULTS={faults}")
                one.wait_for_no_process()
            disturbed = one.said()
            (one.folder / "said.txt").write_text("")
            one.complete()
            # the injector kills what it likes: which cells that were is not known, but that they were killed is
            one.compare(expected, allowed=len(expected), words=PLANTED)
            if OWN_FAULT in disturbed:
                result.count_internal_errors(disturbed)
        result.tried += 1
    result.figures = {f"ended with exit status {status}": count for status, count in sorted(statuses.items())}
    result.seconds = round(time.monotonic() - began, 1)
    return result
