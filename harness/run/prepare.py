"""What has to be ready before a cell runs: its release, the speech, the model folder; and the cell's request."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.matrix import FinetuneSettings, Matrix
from harness.config.settings import MINIMUM_EPOCHS, CellLimits
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Release
from harness.core.evidence import NAMED_ROWS, OWN_SETTINGS, USER_ROWS
from harness.corpus.corpus import Corpus, build_corpus, write_jsonl
from harness.corpus.notices import corrections, not_trained, releases_of
from harness.corpus.row_limits import LeftOut, RowLimits, rules_of
from harness.corpus.user_files import OwnRows, lay_out
from harness.corpus.user_speech import OwnSpeech, load_corpus
from harness.corpus.word_orders import WordOrders, build_word_orders, load_word_orders
from harness.environments.environment import Environment
from harness.releases import fetch, install_path
from harness.releases.holdings import hold
from harness.run.time_left import usual_seconds
from harness.variants.catalogue import load_variant, own_settings
from harness.variants.model_folder import ModelFolder, write_model_folder
from harness.variants.variant import Variant, render

VALIDATION_UTTERANCES = 4
"""The trainer validates after each epoch; what it validates on plays no part in any verdict."""


SENTENCES_AMONG_WORDS = 4
"""A batch: rows of one length alone would never be padded."""

KNOWN_BY_HEART = 5
"""Sentences that a training of some twenty steps teaches a decoder that is shown the tokens before each."""


StoredExamples = Callable[[Cell], Mapping[str, str]]
"""For a cell of `properties`: the stored counter-example of each property that is known to fail there, by its name."""


def no_stored_examples(_cell: Cell) -> Mapping[str, str]:
    """Every property is searched."""
    return {}


@dataclass(frozen=True, kw_only=True)
class WordRows:
    """The words in other orders, as jsonl files."""

    orders: WordOrders
    train: Path
    """Some sentences first: in their batch the utterances have unequal lengths, and are padded."""
    valid: Path
    """The same sentences."""
    held_out: Path
    utterances: int


@dataclass(frozen=True, kw_only=True)
class Speech:
    """The utterances of a run, as jsonl files that FunASR's datasets read."""

    corpus: Corpus
    train: Path
    valid: Path
    utterances: int
    own: OwnRows | None = None
    """A user's rows; None where the speech is the harness's."""
    words: WordRows | None = None
    """What `finetune` trains on; None where the speech is a user's."""
    notices: tuple[str, ...] = ()
    """What the user should know about their files before anything runs."""

    @property
    def sha256(self) -> str:
        """Of everything that is spoken in the run, and where `finetune` takes a part of a user's rows, of how many."""
        user_rows, parts = self.own, [self.corpus.sha256]
        if self.words is not None:
            parts += [self.words.orders.train.sha256, self.words.orders.held_out.sha256]
        if user_rows is not None and len(user_rows.given.rows) < len(user_rows.speech.train.rows):
            parts.append(f" {len(user_rows.given.rows)}")
        return hashlib.sha256("".join(parts).encode()).hexdigest() if parts[1:] else parts[0]

    @property
    def used(self) -> str:
        """What is trained and validated on, in words and without paths."""
        user_rows = self.own
        if user_rows is None:
            return self.corpus.origin
        listed, valid = len(user_rows.speech.train.rows), user_rows.speech.valid
        rows = f"{user_rows.given.path.name}: {listed} row{'s' if listed != 1 else ''}, as in the file"
        return f"{rows}; validated on {valid.path.name if valid else 'the same rows (--valid names others)'}"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that the cells of a run refer to by path."""

    cache: Path
    matrix: Matrix
    stack: Environment
    releases: Mapping[str, Release]
    variants: Mapping[str, Variant]
    folders: Mapping[tuple[str, Dimensions, Depth], ModelFolder]
    speech: Speech
    stored: StoredExamples
    """Counter-examples that are known, of a cell of `properties`."""
    trained: frozenset[str]
    """Releases with a cell about a trainer on the CPU: those are imported whole, once for all their cells.
    On a GPU each cell imports for itself, because a process that has used the GPU must not be forked."""
    own_variants: Mapping[str, Any] = field(default_factory=dict)
    """Of the user's own variants what they set, see `harness.variants.catalogue`."""

    def as_part_of(self, trained: Collection[str]) -> Prepared:
        """For cells that are a part of a run: a release is imported as in the whole run, where `trained` are."""
        return replace(self, trained=frozenset(trained) & frozenset(self.releases))

    def release_for(self, label: str) -> dict[str, Any]:
        """What a release's process needs to enter it."""
        release = self.releases[label]
        components = {pair for variant in self.variants.values() for pair in variant.components}
        return {
            "label": label,
            "version": release.version,
            "install_dir": str(install_path(release, self.cache)),
            "components": sorted(components),
            "whole": label in self.trained,
        }

    def request_for(self, cell: Cell) -> dict[str, Any]:
        """What the cell's check is called with."""
        request: dict[str, Any] = {
            "check": cell.check,
            "release": self.release_for(cell.release),
            "device": cell.device,
            "precision": cell.precision,
            "environment_shims": list(self.stack.shims),
        }
        if cell.variant is None or cell.dimensions is None or cell.depth is None:
            return request
        variant = self.variants[cell.variant]
        folder = self.folders[cell.variant, cell.dimensions, cell.depth]
        settings = self.matrix.finetune
        request |= {
            "entry": cell.entry,
            "components": sorted(variant.components),
            "model_class": variant.config["model"],
            "model_folder": str(folder.path),
            "groups": {group: list(prefixes) for group, prefixes in variant.groups.items()},
            "vocab_size": cell.dimensions.vocab_size,
            "hidden_size": cell.dimensions.hidden_size,
            "seed": settings.seed,
            "contract": _contract(variant, cell.dimensions, cell.depth),
        }
        if cell.check.through_trainer:
            training = {**self._training(cell), "gpus": self.gpus_for(cell)}
            if variant.training:
                training["overrides"] = dict(variant.training)
                training["own"] = cell.variant in self.own_variants
            request |= {"finetune": training, "data": self._data(cell, variant)}
        if cell.check in self.matrix.check_settings:
            request["settings"] = asdict(self.matrix.check_settings[cell.check])
        if cell.check is Check.PROPERTIES:
            limit = self.matrix.limits.timeout_seconds[cell.check]
            request["settings"] |= {"known": dict(self.stored(cell)), "timeout_seconds": limit}
        return request

    def gpus_for(self, cell: Cell) -> int:
        """How many GPUs the cell has to itself: one for each process that trains, as far as there are so many."""
        if cell.device is not Device.CUDA:
            return 0
        processes = self.matrix.finetune.processes if cell.check is Check.FINETUNE else 1
        return min(processes, max(1, len(self.stack.gpu_names)))

    @property
    def limits(self) -> CellLimits:
        """Those of the matrix; the time of `finetune` grows with the steps that a user's rows take."""
        limits, user_rows, settings = self.matrix.limits, self.speech.own, self.matrix.finetune
        if user_rows is None:
            return limits
        rows = len(user_rows.given.rows)
        steps = _own_training(settings, rows, None)["epochs"] * -(-rows // settings.batch_size)
        longer = limits.timeout_seconds[Check.FINETUNE] * max(1.0, steps / settings.steps)
        return replace(limits, timeout_seconds={**limits.timeout_seconds, Check.FINETUNE: longer})

    @property
    def usual_seconds(self) -> Mapping[Check, float]:
        """How long a cell of each check usually takes."""
        return usual_seconds(self.matrix)

    @property
    def imports_whole_releases(self) -> bool:
        """Whether a release is imported whole, for its trainers."""
        return bool(self.trained)

    def evidence_for(self, cell: Cell) -> dict[str, Any]:
        """What is known beforehand of a user's variant and, where a cell trains on them, of their rows."""
        user_rows = self.speech.own
        user_settings = self.own_variants.get(cell.variant or "")
        settings = {OWN_SETTINGS: user_settings} if user_settings else {}
        if user_rows is None or cell.variant is None or not cell.check.through_trainer:
            return settings
        lines, out = user_rows.expected(cell.variant, self.releases[cell.release].version)
        frames = corrections(user_rows.given)
        return settings | {
            USER_ROWS: {
                "file": user_rows.given.path.name,
                "listed": len(user_rows.given.rows),
                "trainable": len(lines),
                "reasons": [
                    {"line": row.line, "key": row.key, "reason": row.reason, "frames": frames.get(row.line)}
                    for row in out[:NAMED_ROWS]
                ],
            }
        }

    def _training(self, cell: Cell) -> dict[str, Any]:
        settings, user_rows = self.matrix.finetune, self.speech.own
        if user_rows is None or cell.variant is None:
            words = self._words(cell)
            if words is None and cell.check is Check.FINETUNE:
                return _training(settings, min(self.speech.utterances, KNOWN_BY_HEART))
            return _training(settings, words.utterances if words else self.speech.utterances)
        lines, _ = user_rows.expected(cell.variant, self.releases[cell.release].version)
        return _own_training(settings, len(lines), cell.depth)

    def _words(self, cell: Cell) -> WordRows | None:
        """The words in other orders, for a model that predicts where tokens are: it is soon right about them.

        A decoder that is shown the tokens before each learns those first. What it says about orders of words that are
        all equally likely is no better than chance for long, and it is given sentences.
        """
        if cell.check is not Check.FINETUNE or cell.variant is None:
            return None
        return self.speech.words if "predictor" in self.variants[cell.variant].config else None

    def _data(self, cell: Cell, variant: Variant) -> dict[str, Any]:
        speech = self.speech
        data: dict[str, Any] = {
            "train": str(speech.train),
            "valid": str(speech.valid),
            "utterances": speech.utterances,
            "frame_seconds": variant.frame_seconds,
        }
        if words := self._words(cell):
            data |= {
                "train": str(words.train),
                "valid": str(words.valid),
                "held_out": str(words.held_out),
                "utterances": words.utterances,
            }
        if user_rows := speech.own:
            version = self.releases[cell.release].version
            lines, _ = user_rows.expected(variant.name, version)
            out = user_rows.speech.train.left_out(user_rows.limits[variant.name], version)
            data |= {
                "small": str(user_rows.small[variant.name]),
                "own": {
                    "root": str(user_rows.root) if user_rows.root else None,
                    "lines": [row.line for row in user_rows.given.rows],
                    "expected": lines,
                    "steps": _steps(self.matrix.finetune, lines, user_rows, version),
                    "whole": {
                        "path": str(user_rows.whole),
                        "name": user_rows.whole.name,
                        "left_out_count": len(out),
                        "left_out": [{"line": row.line, "reason": row.reason} for row in out[:NAMED_ROWS]],
                    },
                },
            }
        return data


def prepare(
    matrix: Matrix,
    cells: Sequence[Cell],
    stack: Environment,
    *,
    cache: Path,
    workspace: Path,
    user_speech: OwnSpeech | None = None,
    rows: int | None = None,
    carried: Path | None = None,
    stored: StoredExamples = no_stored_examples,
) -> Prepared:
    """Synthesize and write what these cells need, their releases apart: those take longest, see `lay_out_releases`.

    What is there already is used as it is.

    Args:
        workspace: This run's own folder, for the jsonl files.
        own: The user's own speech in place of the harness's corpus.
        rows: How many of its rows `finetune` trains on, if it is said.
        carried: The harness's corpus as a bundle contains it, with the words in other orders next to it.
        stored: Which counter-examples of a cell of `properties` are known, so that they are not searched for.

    Raises:
        HarnessError: what cannot be had, and why.
    """
    hold(cache)
    labels = {cell.release for cell in cells}
    releases = {release.label: release for release in matrix.releases if release.label in labels}
    sources = {source.name: str(source.path or source.name) for source in matrix.variants}
    variants = {name: load_variant(sources[name]) for name in sorted({cell.variant for cell in cells if cell.variant})}
    corpus = user_speech.corpus if user_speech else load_corpus(carried) if carried else build_corpus(cache)
    folders = {}
    for cell in cells:
        if cell.variant and cell.dimensions and cell.depth:
            key = (cell.variant, cell.dimensions, cell.depth)
            if key not in folders:
                folders[key] = write_model_folder(
                    variants[cell.variant], corpus, cache, dimensions=cell.dimensions, depth=cell.depth
                )
    return Prepared(
        cache=cache,
        matrix=matrix,
        stack=stack,
        releases=releases,
        variants=variants,
        folders=folders,
        speech=_own_speech(
            user_speech, _most_rows(user_speech, rows, variants.values()), cells, releases, variants, workspace
        )
        if user_speech
        else _lay_out_speech(
            corpus,
            load_word_orders(carried.parent) if carried else build_word_orders(cache),
            matrix.finetune,
            workspace,
        ),
        stored=stored,
        trained=releases_with_trainers(cells),
        own_variants={
            source.name: own_settings(variants[source.name])
            for source in matrix.variants
            if source.path is not None and source.name in variants
        },
    )


def _contract(variant: Variant, dimensions: Dimensions, depth: Depth) -> dict[str, Any]:
    """What the contract knows of the architecture; see `harness.variants.architecture`."""
    traits = variant.traits.to_dict(render(variant, dimensions=dimensions, depth=depth))
    return {**traits, "inputs": list(variant.inputs), "frame_seconds": variant.frame_seconds}


def releases_with_trainers(cells: Sequence[Cell]) -> frozenset[str]:
    """Those that are imported whole, see `Prepared.trained`."""
    on_gpu = {cell.release for cell in cells if cell.device is Device.CUDA}
    return frozenset(cell.release for cell in cells if cell.check.through_trainer) - on_gpu


def lay_out_releases(
    prepared: Prepared, cells: Sequence[Cell], *, on_done: Callable[[Release], None] | None = None
) -> None:
    """Install the releases of these cells; `on_done` is called with each that is ready.

    Raises:
        HarnessError: which release cannot be had, and why.
    """
    releases = [prepared.releases[label] for label in dict.fromkeys(cell.release for cell in cells)]
    fetch(releases, prepared.cache, jobs=2 * (os.cpu_count() or 1), on_done=on_done)


def _lay_out_speech(corpus: Corpus, orders: WordOrders, settings: FinetuneSettings, workspace: Path) -> Speech:
    chosen = corpus.utterances[: settings.utterances]
    folder = workspace / "speech"
    folder.mkdir(parents=True, exist_ok=True)
    train, valid = folder / "train.jsonl", folder / "valid.jsonl"
    write_jsonl(chosen, train)
    write_jsonl(chosen[:VALIDATION_UTTERANCES], valid)
    words = _lay_out_words(corpus, orders, folder)
    return Speech(corpus=corpus, train=train, valid=valid, utterances=len(chosen), words=words)


def _lay_out_words(corpus: Corpus, orders: WordOrders, folder: Path) -> WordRows:
    train, valid, held_out = (folder / f"words-{name}.jsonl" for name in ("train", "valid", "held_out"))
    sentences = corpus.utterances[:SENTENCES_AMONG_WORDS]
    rows = (*sentences, *orders.train.utterances)
    write_jsonl(rows, train)
    write_jsonl(sentences, valid)
    write_jsonl(orders.held_out.utterances, held_out)
    return WordRows(orders=orders, train=train, valid=valid, held_out=held_out, utterances=len(rows))


def _most_rows(user_speech: OwnSpeech, rows: int | None, variants: Iterable[Variant]) -> int | None:
    """How many rows `finetune` trains on: with a model folder of the user's own all of them, if nothing is said."""
    if rows is None and any(variant.folder is not None for variant in variants):
        return len(user_speech.train.rows)
    return rows


def _own_speech(
    user_speech: OwnSpeech,
    rows: int | None,
    cells: Sequence[Cell],
    releases: Mapping[str, Release],
    variants: Mapping[str, Variant],
    workspace: Path,
) -> Speech:
    limits = {
        name: RowLimits.of(variant.config.get("dataset_conf") or {}, variant.training)
        for name, variant in variants.items()
    }
    laid_out = lay_out(user_speech, workspace / "speech", limits=limits, rows=rows)
    return Speech(
        corpus=user_speech.corpus,
        train=laid_out.train,
        valid=laid_out.valid,
        utterances=len(laid_out.given.rows),
        own=laid_out,
        notices=(*laid_out.notices, *_left_out(laid_out, cells, releases)),
    )


def _left_out(user_rows: OwnRows, cells: Sequence[Cell], releases: Mapping[str, Release]) -> Iterator[str]:
    """Sentences about the rows of whole files that releases leave out; those that leave out the same share one."""
    pairs = dict.fromkeys((cell.variant, cell.release) for cell in cells if cell.variant and cell.check.through_trainer)
    for file in user_rows.speech.files:
        places_by_rows: dict[tuple[LeftOut, ...], list[tuple[str, str]]] = {}
        for variant, label in pairs:
            if out := file.left_out(user_rows.limits[variant], releases[label].version):
                places_by_rows.setdefault(out, []).append((variant, label))
        for out, places in places_by_rows.items():
            variants = dict.fromkeys(variant for variant, _ in places)
            where = f"{', '.join(variants)}; {releases_of(dict.fromkeys(label for _, label in places))}"
            yield not_trained(file, out, where, used="trains" if file is user_rows.speech.train else "validates")


def _steps(settings: FinetuneSettings, expected: Sequence[int], user_rows: OwnRows, version: str) -> tuple[int, int]:
    """The fewest and the most steps of an epoch of the rows that a release trains on.

    1.0.18 to 1.0.25 repeat rows until the last batch is whole, and leave out what is too long afterwards.
    """
    fewest = -(-len(expected) // settings.batch_size)
    fills_first = (1, 0, 18) <= rules_of(version) < (1, 0, 26)
    return fewest, -(-len(user_rows.given.rows) // settings.batch_size) if fills_first and expected else fewest


SEEN = 10
"""How often each of a user's rows is trained on at least: 40 rows, each another, were known better than by guessing
after six epochs."""

MOST_EPOCHS_AT_FULL_DEPTH = 12
"""Each epoch leaves a checkpoint of some 2.6 GB, and no training of fewer steps is judged."""


def _own_training(settings: FinetuneSettings, rows: int, depth: Depth | None) -> dict[str, Any]:
    """The trainer's settings for a user's rows, each once an epoch."""
    epochs = max(MINIMUM_EPOCHS, SEEN, -(-settings.steps // max(1, -(-rows // settings.batch_size))))
    return {
        "epochs": min(epochs, MOST_EPOCHS_AT_FULL_DEPTH) if depth is Depth.FULL else epochs,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_steps,
        "seeds": settings.seeds,
        "accumulate": settings.accumulate,
        "processes": settings.processes,
    }


def _training(settings: FinetuneSettings, utterances: int) -> dict[str, Any]:
    """The trainer's settings; where there is less speech than the matrix counts on, its rows repeat themselves more."""
    return {
        "epochs": settings.epochs,
        "rows": settings.utterances,
        "distinct": min(settings.distinct, utterances),
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_steps,
        "seeds": settings.seeds,
        "accumulate": settings.accumulate,
        "processes": settings.processes,
    }
