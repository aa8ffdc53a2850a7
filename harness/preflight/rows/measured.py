"""What the release itself makes of the rows: measured once for a set of inputs, and parsed."""

from __future__ import annotations

import functools
import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.cells import Outcome
from harness.corpus.user_speech import evenly
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.inputs import Inputs
from harness.preflight.release.deepspeed import accumulation
from harness.preflight.release.release_questions import ReleaseQuestion, ask_release, measured
from harness.preflight.rows.data_files import DataSets, data_sets, named
from harness.preflight.rows.gathered import Gathered, gather
from harness.worker.trainer import options

MOST_TEXTS = 20_000
"""Texts that the release's tokenizer reads, evenly spaced over the training rows."""

MOST_SECONDS = 300.0
"""For a million rows on a busy machine; 100,000 take some seconds."""

MOST_CONFIGURATION_BYTES = 1 << 20
_SAMPLES_A_SECOND = 16000
_DEFAULT_NAMES = {
    "token_list": ("tokens.json", "tokens.txt"),
    "seg_dict": ("seg_dict",),
    "bpemodel": ("bpe.model",),
}


@dataclass(frozen=True, kw_only=True)
class RankEpoch:
    """One epoch of one rank."""

    batches: int
    rows: int
    fewest: int
    """Rows in the smallest batch."""
    most: int
    empty: int
    """Batches without a row."""
    ended: bool
    """Whether the sampler then gave the number of a row in place of a batch, at which the training ends."""


@dataclass(frozen=True, kw_only=True)
class Dropping:
    """What a dataset that replaces rows does with a sample of them."""

    rows: int
    batches: int
    lost: tuple[int, ...]
    """Rows of the sample that are in none of the batches they were drawn for."""
    replaced: int
    cut: int
    dummies: int
    """Batches of which nothing is left, and which the dataset fills with random numbers."""


@dataclass(frozen=True, kw_only=True)
class TextTokens:
    """What the tokenizer made of some texts."""

    rows: tuple[int, ...]
    """Numbers of the rows whose texts were read."""
    tokens: tuple[int, ...]
    unknown: tuple[int, ...]
    """How many of them are `<unk>`."""
    pieces: tuple[tuple[str, int], ...]
    """What became `<unk>`, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Optimizer steps and learning rates of the whole training."""

    epochs: int
    """That the trainer runs."""
    per_epoch: tuple[int, ...]
    """Of the epochs that were measured."""
    total: int
    exact: bool
    """Whether every epoch was measured; otherwise the total is extended from those that were."""
    accumulation: int
    rates: tuple[float, ...] = ()
    """At the first, a middle and the last step; empty where there are no steps, or the scheduler cannot be built."""
    rates_at: tuple[int, ...] = ()
    highest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """What the release measured; a row's number counts the JSON objects of the set's files from 0."""

    failure: Mapping[str, Any] | None = None
    """The exception that the release raised on the way to the first batch."""
    indexed: int = 0
    kept: frozenset[int] | None = None
    """Training rows in the release's index; None where its rows are of another form."""
    arrived: frozenset[int] | None = None
    """Training rows that were in some batch of the measured epochs."""
    changed: tuple[tuple[int, str, str], ...] = ()
    """Rows whose `source` or `target` the index changes: number, field, new value."""
    epochs: tuple[tuple[RankEpoch, ...], ...] = ()
    batches: tuple[tuple[int, ...], ...] | None = None
    """The first epoch's batches of rank 0, by row number."""
    valid_rows: int | None = None
    valid_kept: frozenset[int] | None = None
    valid_batches: int | None = None
    valid_empty: int = 0
    """Validation batches without a row."""
    valid_ended: bool = False
    """Whether the validation's sampler then gave the number of a row in place of a batch."""
    valid_beyond: int = 0
    """Numbers that the validation's sampler draws beyond the validation set's end."""
    dropping: Dropping | None = None
    tokens: TextTokens | None = None
    steps: Steps | None = None
    schedule_failure: Mapping[str, Any] | None = None
    finished: Mapping[str, Any] | None = None
    """The checkpoint that a resume loads: its `epoch`; None where there is none."""

    @property
    def ended(self) -> RankEpoch | None:
        """The epoch in which a process gets no batch but a row's number; the training ends there."""
        return next((rank_epoch for ranks in self.epochs for rank_epoch in ranks if rank_epoch.ended), None)


@dataclass(frozen=True, kw_only=True)
class UserFiles:
    """The user's rows as written, with their recordings."""

    sets: DataSets
    train: Gathered | None
    valid: Gathered | None
    why_not: str
    """Why they are not measured in the release; empty where they are."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The user's rows, and what the release makes of them."""

    files: UserFiles
    arrivals: Arrivals | None

    @property
    def train(self) -> Gathered | None:
        """The training rows."""
        return self.files.train

    @property
    def valid(self) -> Gathered | None:
        """The validation rows."""
        return self.files.valid


def entry_of(inputs: Inputs) -> str:
    """The trainer that the command calls; where none is known, the one that this release's `finetune.sh` calls."""
    if inputs.command.entry in ("train", "train_ds"):
        return inputs.command.entry
    return options.trainer_options(str(inputs.install_dir), inputs.release.version, "train_ds").native_entry


def output_folder(inputs: Inputs) -> Path:
    """Where checkpoints are written."""
    output_dir = inputs.settings.get("output_dir")
    return inputs.root / (output_dir if isinstance(output_dir, str) and output_dir else "./exp")


def question(inputs: Inputs) -> ReleaseQuestion | None:
    """The measurement of the rows in the release; None where there is nothing that it could read."""
    files = gathered(inputs)
    return None if files.why_not or files.train is None else _question(inputs, files.train, files.valid)


def measure(inputs: Inputs) -> Measurement:
    """All that is known of the rows."""
    files = gathered(inputs)
    release_question = question(inputs)
    if release_question is None:
        return Measurement(files=files, arrivals=None)
    arrivals = _parse(ask_release(inputs, release_question), _chosen(files.train), with_valid=files.valid is not None)
    return Measurement(files=files, arrivals=arrivals)


def gathered(inputs: Inputs) -> UserFiles:
    """The rows and recordings; read once for the same files."""
    sets = data_sets(inputs)
    state = [[str(file), *_state(file)] for data_set in sets.sets for file in data_set.files]
    key = json.dumps([state, str(inputs.root), inputs.read_all_audio, inputs.release.label], default=str)
    return _gather(_Once(key=f"{is_audio_jsonl(inputs)} {inputs.train} {inputs.valid} {key}", inputs=inputs))


@dataclass(frozen=True)
class _Once:
    """Inputs, the same where their key is."""

    key: str
    inputs: Inputs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=2)
def _gather(once: _Once) -> UserFiles:
    inputs = once.inputs
    sets = data_sets(inputs)
    train, valid = (
        gather(data_set, inputs, audio_rows=is_audio_jsonl(inputs)) if (data_set := sets.of(role)) is not None else None
        for role in ("train", "valid")
    )
    return UserFiles(sets=sets, train=train, valid=valid, why_not=_why_not(inputs, train, valid))


def is_audio_jsonl(inputs: Inputs) -> bool:
    """Whether the rows are those of `IndexDSJsonl`: `source` and `target`."""
    index = inputs.settings.get("dataset_conf.index_ds")
    return index is None or str(index).startswith("IndexDSJsonl")


def _why_not(inputs: Inputs, train: Gathered | None, valid: Gathered | None) -> str:
    if train is None:
        return "no training rows can be read" if named(inputs, "train") else "no training set is named"
    if not train.file.complete or (valid is not None and not valid.file.complete):
        return "a file has too many rows, or lines that are too long, to be read as the release does"
    return ""


def _chosen(train: Gathered | None) -> Sequence[int]:
    """The rows whose texts the tokenizer reads."""
    return evenly(range(train.count if train is not None else 0), MOST_TEXTS)


def _question(inputs: Inputs, train: Gathered, valid: Gathered | None) -> ReleaseQuestion:
    # Without a validation set no release makes loaders; the finding about it is made elsewhere.
    other = valid or train
    config = _config(inputs)
    if (batches := accumulation(inputs, TrainerCode(code=inputs.code, entry=entry_of(inputs)))) is not None:
        config["train_conf"] = {**config.get("train_conf", {}), "accum_grad": batches}
    request = {
        "entry": entry_of(inputs),
        "config": {
            **config,
            "train_data_set_list": train.data.trainer_path,
            "valid_data_set_list": other.data.trainer_path,
        },
        "files": {
            role: [str(file) for file in set_files.data.files]
            for role, set_files in (("train", train), ("valid", other))
        },
        "root": str(inputs.root),
        "processes": inputs.processes,
        "stacked_frames": _stacked_frames(inputs, train),
        "texts": [train.file.rows[number].target for number in _chosen(train)],
        "output_dir": str(output_folder(inputs)),
    }
    return ReleaseQuestion(name="preflight.rows", request=request, whole=False, timeout_seconds=MOST_SECONDS)


def _config(inputs: Inputs) -> dict[str, Any]:
    """The settings in force as nested dicts, with the folder's token list where the config names none."""
    config: dict[str, Any] = json.loads(json.dumps(inputs.settings.section(""), default=str))
    conf = config.get("tokenizer_conf")
    tokenizer_files = {**_by_name(inputs.model), **_by_configuration(inputs.model)}
    if isinstance(conf, dict | None):
        config["tokenizer_conf"] = {**(conf or {}), **{name: str(path) for name, path in tokenizer_files.items()}}
    return config


def _by_name(folder: Path) -> dict[str, Path]:
    if (folder / "configuration.json").is_file():
        return {}
    return {
        field: folder / name
        for field, names in _DEFAULT_NAMES.items()
        for name in reversed(names)
        if (folder / name).is_file()
    }


def _by_configuration(folder: Path) -> dict[str, Path]:
    """The tokenizer's files that `configuration.json` names."""
    path = folder / "configuration.json"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return {}
        with path.open("rb") as file:
            document = json.loads(file.read(MOST_CONFIGURATION_BYTES))
        metas = document.get("file_path_metas", {}).get("tokenizer_conf", {})
        return {str(name): folder / str(value) for name, value in metas.items() if (folder / str(value)).is_file()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _stacked_frames(inputs: Inputs, train: Gathered) -> list[int] | None:
    """Frames after stacking of each training row, for the datasets that drop rows by them."""
    if not str(inputs.settings.get("dataset", "AudioDataset")).startswith("SenseVoice"):
        return None
    stacking = FrameStacking.of(inputs)
    return [stacking.frames(header.seconds) for header in train.headers_by_row]


@dataclass(frozen=True, kw_only=True)
class FrameStacking:
    """How the frontend makes frames of a recording, in milliseconds."""

    shift: float
    window: float
    step: int
    """`lfr_n`: of so many frames it makes one."""

    @classmethod
    def of(cls, inputs: Inputs) -> FrameStacking:
        """As `frontend_conf` says."""
        conf = inputs.settings.get("frontend_conf", {})
        return cls(
            shift=_number(conf, "frame_shift", 10.0),
            window=_number(conf, "frame_length", 25.0),
            step=max(1, int(_number(conf, "lfr_n", 1.0))),
        )

    def frames(self, seconds: float) -> int:
        """Frames of the encoder's input; a recording that is shorter than one window has one, an empty one none."""
        frames = max(1, math.floor((seconds * 1000 - self.window) / self.shift) + 1) if seconds else 0
        return math.ceil(frames / self.step)


def _number(conf: Any, name: str, default: float) -> float:
    value = conf.get(name) if isinstance(conf, Mapping) else None
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if usable else default  # type: ignore[arg-type]


def _state(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _parse(outcome: Outcome, chosen: Sequence[int], *, with_valid: bool) -> Arrivals:
    if not measured(outcome):
        return Arrivals(failure={"type": str(outcome.status), "message": outcome.reason, "signature": ""})
    answer = outcome.evidence["preflight"]
    train, valid, schedule = answer.get("train") or {}, answer.get("valid") or {}, answer.get("schedule") or {}
    dropping = train.get("dropping")
    return Arrivals(
        failure=answer.get("failure"),
        indexed=train.get("rows", 0),
        kept=_numbers(train.get("kept")),
        arrived=_numbers(train.get("arrived")),
        changed=tuple((number, field, value) for number, field, value in train.get("changed", ())),
        epochs=tuple(tuple(_rank_epoch(epoch_data) for epoch_data in ranks) for ranks in train.get("epochs", ())),
        batches=None if train.get("batches") is None else tuple(map(tuple, train["batches"])),
        valid_rows=valid.get("rows") if with_valid else None,
        valid_kept=_numbers(valid.get("kept")) if with_valid else None,
        valid_batches=valid.get("batches") if with_valid else None,
        valid_empty=valid.get("empty", 0) if with_valid else 0,
        valid_ended=valid.get("ended", False) if with_valid else False,
        valid_beyond=valid.get("beyond", 0) if with_valid else 0,
        dropping=None
        if dropping is None
        else Dropping(
            lost=tuple(dropping["lost"]),
            **{name: dropping[name] for name in ("rows", "batches", "replaced", "cut", "dummies")},
        ),
        tokens=_tokens(answer.get("tokens") or {}, chosen),
        steps=_steps(schedule),
        schedule_failure=schedule.get("failure"),
        finished=schedule.get("finished"),
    )


def _numbers(numbers: Sequence[int] | None) -> frozenset[int] | None:
    return None if numbers is None else frozenset(numbers)


def _rank_epoch(epoch_data: Mapping[str, Any]) -> RankEpoch:
    return RankEpoch(**{name: epoch_data[name] for name in ("batches", "rows", "fewest", "most", "empty", "ended")})


def _tokens(answer: Mapping[str, Any], chosen: Sequence[int]) -> TextTokens | None:
    if "tokens" not in answer:
        return None
    return TextTokens(
        rows=tuple(chosen),
        tokens=tuple(answer["tokens"]),
        unknown=tuple(answer["unknown"]),
        pieces=tuple((str(piece), int(count)) for piece, count in answer["pieces"]),
    )


def _steps(answer: Mapping[str, Any]) -> Steps | None:
    if "total" not in answer:
        return None
    return Steps(
        epochs=answer["epochs_run"],
        per_epoch=tuple(answer["steps"]),
        total=answer["total"],
        exact=answer["exact"],
        accumulation=answer["accumulation"],
        rates=tuple(answer.get("rates", ())),
        rates_at=tuple(answer.get("rates_at", ())),
        highest=answer.get("highest"),
    )
