"""The run: copies are laid out, cells go through the harness's own process tree, outcomes are kept and scored."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.matrix import Matrix
from harness.core.cells import Cell, Check, Outcome
from harness.core.temporary import temporary_folder
from harness.core.wire import now
from harness.environments.environment import probe
from harness.releases import fetch, load_lock, resolve
from harness.rules.apply import apply_rules
from harness.rules.counterexamples import load_counterexamples
from harness.rules.known_issues import load_known_issues
from harness.run.progress import Display
from harness.run.runner import CellRunner, RunnerSettings
from harness.run.store import Provenance, RunStore, StackFacts, collect_provenance
from harness.variants.catalogue import available

from .cells import RepeatedRequests, Scheme
from .configurations import CONFIGURATIONS
from .inject import clear, plant
from .records import SOUND, Fault
from .score import Seen, Sight, Soundness, question, sight_of, soundness

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "matrices" / "releases.lock.toml"
KNOWN_ISSUES = ROOT / "matrices" / "known_issues.toml"

EMPTY_MATRIX = """schema = 1
name = "empty"
description = "Everything that is named is excluded."
[axes]
release = ["latest"]
check = ["import"]
[[exclude]]
check = ["import"]
"""


@dataclass(frozen=True, kw_only=True)
class Power:
    """What a run gave."""

    seen: tuple[Seen, ...]
    soundness: Soundness
    seconds: float
    provenance: Provenance | None = None


def measure(
    faults: Sequence[Fault], repeats: Mapping[Check, int], *, cache: Path, output: Path, jobs: int | None = None
) -> Power:
    """Plant the faults, ask them and the sound release, and score what comes.

    Args:
        repeats: How often each check is asked of the sound release.
        output: The run's folder, as `funasr-harness run` keeps one.
        jobs: Cells at once; one per processor if None.

    Raises:
        HarnessError: what the run needs and cannot have.
        AnchorError: a fault has no place in the release.
    """
    began = time.monotonic()
    (release,) = resolve(SOUND, load_lock(LOCK))
    fetch([release], cache, jobs=1)
    configurations = tuple(CONFIGURATIONS.values()) if repeats else ()
    scheme = Scheme(sound=release, faults=tuple(faults), repeats=repeats, configurations=configurations)
    clear([plant(fault, release, cache) for fault in faults if fault.edits], cache)
    with temporary_folder() as workspace:
        seen = [_refused(fault, workspace) for fault in faults if fault.command]
        matrix = scheme.matrix(workspace / "power.toml")
        outcomes, provenance = _carry_out(scheme, matrix, cache, workspace, output, jobs)
    return Power(
        seen=(*_sights(scheme, outcomes), *seen),
        soundness=soundness(_of_the_sound(scheme, outcomes), load_known_issues(KNOWN_ISSUES, variants=available())),
        seconds=time.monotonic() - began,
        provenance=provenance,
    )


def _carry_out(
    scheme: Scheme, matrix: Matrix, cache: Path, workspace: Path, output: Path, jobs: int | None
) -> tuple[list[Outcome], Provenance]:
    issues = load_known_issues(KNOWN_ISSUES, variants=available())
    stack = probe(cache=cache)
    settings = RunnerSettings(
        environment=stack,
        cache=cache,
        rule=apply_rules,
        counterexamples=load_counterexamples(issues, KNOWN_ISSUES),
        jobs=jobs,
    )
    runner = CellRunner(settings=settings)
    prepared = RepeatedRequests(prepared=runner.prepare(matrix, matrix.cells, workspace), scheme=scheme)
    plan = runner.plan(prepared, matrix.cells, workspace)
    facts = StackFacts(
        python=stack.python_version, torch=stack.torch_version, cuda=stack.cuda_version, libraries=stack.libraries
    )
    with RunStore.open(output, fresh=True) as store:
        provenance = store.begin(collect_provenance(matrix, facts, corpus_sha256=prepared.speech.sha256))
        with Display(total=len(matrix.cells)) as display:
            runner.execute(plan, prepared, store.append, display=display)
        store.finish(provenance, now())
        return list(store.load()), provenance


def _sights(scheme: Scheme, outcomes: Sequence[Outcome]) -> list[Seen]:
    by_release: dict[str, dict[Cell, Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        by_release[outcome.cell.release][outcome.cell] = outcome
    sound = {question(cell): outcome for cell, outcome in by_release[scheme.sound.label].items()}
    return [sight_of(fault, by_release[label], sound) for label, fault in scheme.faulty().items()]


def _of_the_sound(scheme: Scheme, outcomes: Sequence[Outcome]) -> list[Outcome]:
    names = {scheme.sound.label, *scheme.repeated()}
    return [outcome for outcome in outcomes if outcome.cell.release in names]


def _refused(fault: Fault, workspace: Path) -> Seen:
    """Run a command line that must not succeed."""
    empty = workspace / "empty.toml"
    empty.write_text(EMPTY_MATRIX, "utf-8")
    places = {"matrix": ROOT / "matrices" / "pr.toml", "empty_matrix": empty}
    command = [part.format(**places) for part in fault.command]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command, "-o", str(workspace / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or [""])[0]
    return Seen(
        fault=fault,
        sight=Sight.CAUGHT if done.returncode else Sight.ESCAPED,
        status=f"exit status {done.returncode}",
        reason=last.replace(str(workspace), "<workspace>"),
        seconds=time.monotonic() - began,
    )
