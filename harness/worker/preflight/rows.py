"""`preflight.rows`: which of a user's rows arrive in batches, measured with the release's own code."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.worker.preflight import dropping, learning_rate, text_tokens
from harness.worker.preflight.loaders import DEFAULTS, LoaderRequest, Pass, RankLoaders
from harness.worker.preflight.row_numbers import KeptRows, kept_rows
from harness.worker.process import failures
from harness.worker.release import importer
from harness.worker.trainer import options

MOST_DRAWN = 250_000
"""Rows drawn by all epochs and ranks together that are measured; of longer trainings the first epochs are."""
MOST_BATCHED = 200_000
"""Rows whose batches are listed."""


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """What arrives of the training and the validation rows.

    `request` has `entry`, `config` (with `train_data_set_list` and `valid_data_set_list`), `files` (by role the jsonl
    files), `root`, `processes`, `stacked_frames` (by row of the training files, or None), `texts` and `output_dir`.
    """
    install_dir, entry = request["release"]["install_dir"], request["entry"]
    importer.require_entry(install_dir, entry)
    trainer = options.trainer_options(install_dir, request["release"]["version"], entry)
    _import(install_dir, request["config"])
    evidence: dict[str, Any] = {}
    with contextlib.chdir(request["root"]):
        evidence["tokens"] = _tried(install_dir, lambda: text_tokens.measure(request))
        evidence |= _arrivals(
            request,
            install_dir,
            LoaderRequest(install_dir=install_dir, entry=entry, config=request["config"], options=trainer),
        )
        evidence["schedule"] = _tried(
            install_dir, lambda: learning_rate.measure(request, trainer, evidence.get("train"))
        )
    return {"status": "passed", "reason": "", "evidence": {"preflight": evidence}}


def _import(install_dir: str, config: Mapping[str, Any]) -> None:
    """The modules that register datasets, samplers and the tokenizer; one that cannot be imported is not there."""
    if not importer.is_partial():
        return
    conf = config.get("dataset_conf") or {}
    named = {
        "dataset_classes": config.get("dataset", "AudioDataset"),
        "index_ds_classes": conf.get("index_ds"),
        "batch_sampler_classes": conf.get("batch_sampler"),
        "dataloader_classes": conf.get("dataloader"),
    }
    # The defaults besides what is named; each release has some of them.
    components = [pair for pair in importer.registrations(install_dir) if pair[1] in (named.get(pair[0]), *DEFAULTS)]
    names = config.get("tokenizer")
    names = names.split(",") if isinstance(names, str) else names or ()
    components.extend(("tokenizer_classes", str(name)) for name in names)
    importer.import_available_components(install_dir, components)


def _tried(install_dir: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the work gives, or the release's exception as `failure`."""
    try:
        return work()
    except Exception as error:
        return {"failure": dict(failures.describe(error, install_dir))}


def _arrivals(request: Mapping[str, Any], install_dir: str, loaders: LoaderRequest) -> dict[str, Any]:
    evidence: dict[str, Any] = {}
    world = request["processes"]
    try:
        with _no_devices():
            ranks = [RankLoaders(loaders, 0, world)]
            ranks += [RankLoaders(loaders, rank, world) for rank in range(1, world)] if world > 1 else []
            evidence["train"] = _train(request, loaders, ranks)
            evidence["valid"] = _valid(request, ranks[0])
    except Exception as error:
        evidence["failure"] = dict(failures.describe(error, install_dir))
    return evidence


@contextlib.contextmanager
def _no_devices() -> Iterator[None]:
    """Loaders pin memory where there is a GPU; none is needed here."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


class _Numbering:
    """The files' row numbers of a dataset's rows; each dataset's index is looked through once."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files
        self._known: dict[int, tuple[Any, KeptRows]] = {}

    def of(self, dataset: Any) -> KeptRows:
        index = getattr(dataset, "index_ds", None)
        if id(index) not in self._known:
            self._known[id(index)] = (index, kept_rows(getattr(index, "contents", None), self.files))
        return self._known[id(index)][1]

    @property
    def kept_numbers(self) -> set[int] | None:
        """All rows that some dataset has."""
        numbers = [rows_kept.numbers for _, rows_kept in self._known.values()]
        return (
            None
            if any(numbers_kept is None for numbers_kept in numbers)
            else {number for numbers_kept in numbers if numbers_kept for number in numbers_kept}
        )

    @property
    def changed(self) -> list[tuple[int, str, str]]:
        """The rows that an index changed."""
        return list(dict.fromkeys(change for _, rows_kept in self._known.values() for change in rows_kept.changed))


def _train(request: Mapping[str, Any], loaders: LoaderRequest, ranks: Sequence[RankLoaders]) -> dict[str, Any]:
    numbering = _Numbering(request["files"]["train"])
    epochs_run = loaders.options.epochs_run(learning_rate.integer_setting(loaders.config, "max_epoch", 100))
    epochs: list[list[dict[str, Any]]] = []
    arrived: set[int] = set()
    first: list[Pass] = []
    drawn, indexed = 0, 0
    known = True
    for epoch in range(max(epochs_run, 0)):
        if (epoch >= 2 and drawn > MOST_DRAWN) or any(counts["ended"] for counts in itertools.chain(*epochs)):
            break
        epochs.append([])
        for rank in ranks:
            passes = list(rank.train(epoch))
            epochs[-1].append(_counted(passes))
            first = first or passes
            for loader_pass in passes:
                indexed = max(indexed, len(loader_pass.dataset))
                drawn += sum(map(len, loader_pass.batches))
                numbers = numbering.of(loader_pass.dataset).numbers
                known = known and numbers is not None
                arrived |= (
                    {numbers[place] for batch in loader_pass.batches for place in batch}
                    if numbers is not None
                    else set()
                )
    if not first and not epochs:
        first = list(ranks[0].train(0))
        indexed = len(first[0].dataset) if first else 0
        known = all(numbering.of(loader_pass.dataset).numbers is not None for loader_pass in first)
    kept_numbers = numbering.kept_numbers if known else None
    return {
        "rows": indexed if kept_numbers is None else len(kept_numbers),
        "kept": None if kept_numbers is None else sorted(kept_numbers),
        "arrived": None if kept_numbers is None else sorted(arrived),
        "changed": numbering.changed,
        "epochs_run": epochs_run,
        "epochs": epochs,
        "batches": _listed(first, numbering),
        **dropping.measure(request, first, numbering.of),
    }


def _counted(passes: Sequence[Pass]) -> dict[str, Any]:
    """The numbers of one rank's epoch."""
    sizes = [len(batch) for loader_pass in passes for batch in loader_pass.batches]
    return {
        "batches": len(sizes),
        "slices": [[len(loader_pass.batches), loader_pass.length] for loader_pass in passes],
        "rows": sum(sizes),
        "fewest": min(sizes, default=0),
        "most": max(sizes, default=0),
        "empty": sizes.count(0),
        "ended": any(loader_pass.ended_by is not None for loader_pass in passes),
    }


def _listed(passes: Sequence[Pass], numbering: _Numbering) -> list[list[int]] | None:
    """The batches of the first epoch that rank 0 gets, by row number; None where there are too many, or no numbers."""
    if sum(len(batch) for loader_pass in passes for batch in loader_pass.batches) > MOST_BATCHED:
        return None
    batches = []
    for loader_pass in passes:
        numbers = numbering.of(loader_pass.dataset).numbers
        if numbers is None:
            return None
        batches += [[numbers[place] for place in batch] for batch in loader_pass.batches]
    return batches


def _valid(request: Mapping[str, Any], rank: RankLoaders) -> dict[str, Any]:
    numbering = _Numbering(request["files"]["valid"])
    loader_pass = rank.valid(0)
    kept_of_file = numbering.of(loader_pass.dataset)
    size = len(loader_pass.dataset)
    beyond = [place for batch in loader_pass.batches for place in batch if place >= size]
    return {
        **_counted([loader_pass]),
        "rows": size,
        "kept": kept_of_file.numbers,
        "changed": kept_of_file.changed,
        "beyond": len(beyond),
    }
