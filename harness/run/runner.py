"""The cell runner: every command prepares, plans, executes and judges its cells here.

Time limits, jobs, GPUs, preloaded modules and saved counterexamples are decided here alone, so a cell runs in the same
way whichever command runs it. `RunOptions` has what a command may change, each with its reason.
"""

from __future__ import annotations

import os
import secrets
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from harness.config.matrix import Matrix, VariantSource
from harness.config.settings import CellLimits
from harness.core.cells import Cell, Check, Device, Outcome, Release, Status
from harness.core.temporary import temporary_folder
from harness.environments.environment import Environment, compiled_code, scrubbed_environment
from harness.releases import install_path
from harness.run.executor import execute
from harness.run.plan import Plan, Settings, build_plan
from harness.run.prepare import Prepared, StoredExamples, lay_out_releases, prepare
from harness.run.progress import RunListener
from harness.run.reuse.circumstances import circumstances
from harness.run.reuse.kept import KeptOutcomes
from harness.run.reuse.reuse import Reuse
from harness.text.terminal import say
from harness.worker.release import importer

PRELOADED = (
    "numpy", "torch", "torch._dynamo", "torch.utils.data", "torch.distributed.fsdp", "torchaudio",
    "torchaudio.compliance.kaldi", "scipy.signal", "librosa", "soundfile", "yaml", "omegaconf", "hydra", "tqdm",
    "requests", "sentencepiece", "kaldiio", "jieba", "jamo", "jaconv", "torch_complex", "tensorboardX", "oss2",
    "modelscope", "huggingface_hub", "tiktoken", "umap", "hdbscan", "editdistance", "rapidfuzz", "regex",
    "safetensors", "websockets", "pydub", "hypothesis", "setuptools", "sklearn.cluster",
)  # fmt: skip
"""Third-party modules that the scheduler's process imports for all releases; none of them may start a thread.

Releases import `distutils`, which is part of setuptools today: a quarter of what it would take to enter one."""

PRELOADED_FOR_TRAINERS = ("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto")
"""The same where releases are imported whole, for their trainers: for a few models only it would not pay."""

_ORDERS_THAT_PAY = 3
"""Imports of whole releases that take as long as what they all need of `transformers`, imported once."""

SLOWER_WHEN_TRACED = 3.0
"""By how much a traced cell may take longer than one that is not, whose limit is the matrix's."""

_LONGEST_REASON = 500

TraceOptions = Mapping[str, Any]
"""What is recorded of a cell, see `harness.worker.record.tracing`: `{"passes": [0]}` is the first forward pass."""


class CellRequests(Protocol):
    """What the processes of some cells receive, and what they may use. `Prepared` has it for the checks of a matrix."""

    @property
    def limits(self) -> CellLimits:
        """Time and memory of a cell."""

    @property
    def usual_seconds(self) -> Mapping[Check, float]:
        """How long a cell of each check usually takes."""

    @property
    def imports_whole_releases(self) -> bool:
        """Whether a release is imported whole, for its trainers."""

    def release_for(self, label: str) -> Mapping[str, Any]:
        """What a release's process needs to enter it."""

    def request_for(self, cell: Cell) -> Mapping[str, Any]:
        """What the cell's check is called with."""

    def gpus_for(self, cell: Cell) -> int:
        """How many GPUs the cell has to itself."""

    def evidence_for(self, cell: Cell) -> Mapping[str, Any]:
        """What is known before the cell runs; becomes part of its outcome's evidence."""


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """How cells run, whichever command runs them."""

    environment: Environment
    cache: Path
    rule: Callable[[Outcome], Outcome]
    """Turns a measured outcome into a judged one. An argument, because the rules are a layer above and need libraries
    that the host of a bundle may lack."""
    counterexamples: StoredExamples
    """Saved counterexamples of a cell of `properties`: these properties are not searched again."""
    jobs: int | None = None
    """How many cells run at once; None for one per processor."""
    preload: tuple[str, ...] = PRELOADED
    """Less than `PRELOADED` where the host of a bundle lacks some."""
    preload_for_trainers: tuple[str, ...] = PRELOADED_FOR_TRAINERS
    warn: Callable[[str], None] = lambda text: say(f"warning: {text}", style="yellow")
    """Gets sentences about the process tree itself."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a command may change about a run. By default nothing."""

    trace: Mapping[Cell, TraceOptions] = field(default_factory=lambda: MappingProxyType({}))
    """Cells that are recorded while they run.

    Their time limits are `SLOWER_WHEN_TRACED` times those of the matrix, because each tensor is hashed. A traced
    `finetune` trains once: further seeds and the extra trainings would only repeat it."""
    without_dependencies: bool = False
    """Runs a cell although an earlier check of it fails, as it is needed of a trace: each check has its own plan."""
    preload: tuple[str, ...] | None = None
    """Other modules than the settings have. The memory prediction runs one question on one model, and an import of all
    modules would take longer than the question."""
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Further environment variables of all processes. The memory prediction uses several threads, which are not to
    keep processors busy while they wait."""


PLAIN = RunOptions()


@dataclass(frozen=True, kw_only=True)
class CellRunner:
    """Runs cells. Made once per command, used as often as needed."""

    settings: RunnerSettings

    def prepare(self, matrix: Matrix, cells: Sequence[Cell], workspace: Path, **speech: Any) -> Prepared:
        """Speech and model folders of these cells; `speech` as for `harness.run.prepare.prepare`.

        Raises:
            HarnessError: what is missing, and why.
        """
        settings = self.settings
        return prepare(
            matrix,
            cells,
            settings.environment,
            cache=settings.cache,
            workspace=workspace,
            stored=settings.counterexamples,
            **speech,
        )

    def plan(
        self,
        requests: CellRequests,
        cells: Sequence[Cell],
        workspace: Path,
        *,
        options: RunOptions = PLAIN,
        prior: Sequence[Outcome] = (),
        reuse: Reuse | None = None,
    ) -> Plan:
        """The plan of these cells.

        Args:
            requests: What their processes receive.
            workspace: The folder of this run.
            options: What the command changes.
            prior: Outcomes that exist already; their cells do not run again.
            reuse: What gets records of what cells use of their release, so that others need not run.
        """
        limits, settings = requests.limits, self.settings
        factor = SLOWER_WHEN_TRACED if any(cell in options.trace for cell in cells) else 1.0
        labels = {cell.release for cell in cells} - {cell.release for cell in cells if cell.check is Check.IMPORT}
        orders = reuse.known_orders() if reuse else {}

        def release_for(label: str) -> Mapping[str, Any]:
            more = {"records_code": True} if reuse else {}
            return {**requests.release_for(label), **more, "order": list(orders.get(label, ()))}

        unknown = {label: request for label in labels if (request := order_request(release_for(label)))}
        return build_plan(
            cells,
            Settings(
                workspace=workspace / "tree",
                shared=(str(workspace / "env"),),
                compiled=tuple(compiled_code(settings.cache).values()),
                jobs=settings.jobs or len(os.sched_getaffinity(0)),
                gpus=max(1, len(settings.environment.gpu_names)),
                memory_bytes=limits.memory_bytes,
                timeout_seconds={check: factor * seconds for check, seconds in limits.timeout_seconds.items()},
                preload=self._preload(requests, len(unknown)) if options.preload is None else options.preload,
                sys_path=tuple(str(path) for path in settings.environment.extra_paths),
                places={str(settings.cache): "<cache>", str(workspace): "<workspace>"},
            ),
            release_for=release_for,
            request_for=lambda cell: _traced(requests.request_for(cell), options.trace.get(cell)),
            gpus_for=requests.gpus_for,
            prior=prior,
            order_for=unknown.get,
            imports_first=reuse is not None,
        )

    def reuse(
        self, prepared: Prepared, *, base: str = "", alone: bool = False, not_reusable: Iterable[Check] = ()
    ) -> Reuse:
        """What says which cells need not run; see `harness.run.reuse`.

        Args:
            base: A release whose cells run first.
            alone: Whether the run is of one release, of which a model is drawn, not all.
            not_reusable: Checks of which the same run reused a wrong outcome before it was interrupted.
        """
        cache = self.settings.cache
        folders = {label: install_path(release, cache) for label, release in prepared.releases.items()}
        known = circumstances(self.settings.environment, prepared.limits.memory_bytes)
        kept_outcomes = KeptOutcomes(cache, known)
        return Reuse(
            prepared.releases,
            folders,
            seed=secrets.randbelow(2**31),
            kept_outcomes=kept_outcomes,
            base=base,
            alone=alone,
            not_reusable=not_reusable,
        )

    def _preload(self, requests: CellRequests, orders: int) -> tuple[str, ...]:
        """What is imported once for all releases, of which `orders` are imported whole to see how they register."""
        settings = self.settings
        imports_everything = requests.imports_whole_releases or orders >= _ORDERS_THAT_PAY
        return settings.preload + (settings.preload_for_trainers if imports_everything else ())

    def execute(
        self,
        plan: Plan,
        requests: CellRequests,
        on_outcome: Callable[[Outcome], None],
        *,
        options: RunOptions = PLAIN,
        display: RunListener | None = None,
        reuse: Reuse | None = None,
    ) -> None:
        """Run a plan and give each outcome, judged, as soon as it is known; `reuse` says which cells need not run."""
        settings = self.settings
        folder = plan.settings.workspace.parent / "env"

        def judge(outcome: Outcome) -> None:
            judged = self.judged(outcome, requests)
            on_outcome(judged)
            if display:
                display.done(judged)

        shown: dict[str, Any] = {}
        if display:
            display.follow(plan, requests.usual_seconds, settings.environment, settings.cache)
            shown = {"on_started": display.started, "on_event": display.event, "on_tick": display.tick}
        execute(
            plan,
            judge,
            python=settings.environment.python,
            env={**scrubbed_environment(settings.environment, folder, cache=settings.cache), **options.variables},
            on_warning=settings.warn,
            reuse=reuse,
            **shown,
        )

    def judged(self, outcome: Outcome, requests: CellRequests) -> Outcome:
        """A measured outcome with what was known beforehand, judged."""
        known = requests.evidence_for(outcome.cell)
        complete = replace(outcome, evidence={**outcome.evidence, **known}) if known else outcome
        return _judged(self.settings.rule, complete)

    def run(
        self,
        matrix: Matrix,
        cells: Sequence[Cell],
        releases: Mapping[str, Release],
        *,
        options: RunOptions = PLAIN,
        display: RunListener | None = None,
        reuse_of: Callable[[Prepared], Reuse] | None = None,
    ) -> dict[Cell, Outcome]:
        """Prepare, plan, execute and judge cells that no matrix needs to list.

        Args:
            matrix: Whose settings and limits hold; its own cells and releases do not matter.
            releases: Those of the cells, by label.
            reuse_of: Makes what says which cells need not run; None where all do.

        Raises:
            HarnessError: a release, the speech or the environment is missing.
        """
        with temporary_folder() as workspace:
            prepared = self.prepare(_narrowed(matrix, cells, releases), cells, workspace)
            lay_out_releases(prepared, cells)
            reuse = reuse_of(prepared) if reuse_of else None
            return self.run_requests(prepared, cells, workspace, options=options, display=display, reuse=reuse)

    def run_requests(
        self,
        requests: CellRequests,
        cells: Sequence[Cell],
        workspace: Path,
        *,
        options: RunOptions = PLAIN,
        display: RunListener | None = None,
        reuse: Reuse | None = None,
    ) -> dict[Cell, Outcome]:
        """Plan, execute and judge cells for which everything is prepared."""
        outcomes: dict[Cell, Outcome] = {}

        def keep(outcome: Outcome) -> None:
            outcomes[outcome.cell] = outcome

        for group in _by_check(cells) if options.without_dependencies else [cells]:
            plan = self.plan(requests, group, workspace, options=options, reuse=reuse)
            self.execute(plan, requests, keep, options=options, display=display, reuse=reuse)
        return outcomes


def order_request(release: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What finds out in which order a release registers its components; None where that is known, or is no matter."""
    components = [tuple(pair) for pair in release.get("components", ())]
    if (
        release.get("whole")
        or release.get("order")
        or not importer.depends_on_order(release["install_dir"], components)
    ):
        return None
    return {"check": "registrations", "release": release, "device": Device.CPU}


def _judged(rule: Callable[[Outcome], Outcome], outcome: Outcome) -> Outcome:
    """The judged outcome; what a rule cannot take costs that cell alone, for a release's process wrote it."""
    try:
        return rule(outcome)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        reason = f"its measurements cannot be judged: {type(error).__name__} in {where}: {error}"
        return replace(outcome, status=Status.ERRORED, reason=reason[:_LONGEST_REASON], failure=None)


def _narrowed(matrix: Matrix, cells: Sequence[Cell], releases: Mapping[str, Release]) -> Matrix:
    """The matrix with these cells in place of its own."""
    known = {source.name: source for source in matrix.variants}
    names = sorted({cell.variant for cell in cells if cell.variant})
    return replace(
        matrix,
        cells=tuple(cells),
        releases=tuple(releases[label] for label in dict.fromkeys(cell.release for cell in cells)),
        variants=tuple(known.get(name, VariantSource(name=name)) for name in names),
    )


def _by_check(cells: Sequence[Cell]) -> list[list[Cell]]:
    checks = sorted({cell.check.position for cell in cells})
    return [[cell for cell in cells if cell.check.position == check] for check in checks]


def _traced(request: Mapping[str, Any], trace: TraceOptions | None) -> Mapping[str, Any]:
    if trace is None:
        return request
    if request["check"] == Check.FINETUNE:
        request = {**request, "finetune": {**request["finetune"], "seeds": 1, "accumulate": 1, "processes": 1}}
    return {**request, "trace": dict(trace)}
