"""What the trainers' own lines say: steps, epochs, rows, checkpoints, what was loaded.

The forms are those of `funasr/train_utils/trainer.py` and `trainer_ds.py` of all releases from 1.0.0 to 1.4.16:

- up to 1.0.6 on the progress bar: `Train epoch: 0/4, step 0/4, … (loss: 16.343), [('acc', 0.0)]`;
- up to 1.0.17 on the progress bar: `rank: 0, epoch: 0/4, step: 1/4, … (loss: 16.343), (lr: 1.000e-04), [('acc', 0.0)]`;
- since 1.0.18 in the log: `train, rank: 0, epoch: 0/4, … (loss_avg_rank: 16.343), … (lr: 1.000e-04), [('acc', 0.0)]`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from harness.watch.state import Curve

_STEP = re.compile(
    rb"(?:rank: (?P<rank>\d{1,6}), )?(?P<valid>validation )?(?:Train )?"
    rb"epoch: (?P<epoch>\d{1,7})/(?P<epochs>\d{1,9}), (?:data_slice: \d+/\d+, )?"
    rb"step(?:_in_slice)?:? (?P<step>\d{1,12})/(?P<steps>\d{1,12}),(?: step_in_epoch: (?P<in_epoch>\d{1,12}),)?"
)
_WHOLE_STEP = re.compile(
    rb"\[[\d :,-]{19,30}\]\[root\]\[INFO\] - (?P<what>train|val), rank: (?P<rank>\d{1,6}), "
    rb"epoch: (?P<epoch>\d{1,7})/(?P<epochs>\d{1,9}), (?:data_slice: \d+/\d+, )?"
    rb"step(?:_in_slice)?: (?P<step>\d{1,12})/(?P<steps>\d{1,12}), (?:step_in_epoch: (?P<in_epoch>\d{1,12}), )?"
    rb"total step: \d+, \(loss_avg_rank: (?P<loss>[-+\w.]+)\), (?:\([a-z_]+: [-+.\d\w]+\), ){0,3}"
    rb"\(lr: (?P<rate>[-+\w.]+)\), (?P<statistics>\[(?:\('\w+', [-+\w.]+\)(?:, )?)*\]), "
    rb"\{(?:'\w+': '[\d.]+'(?:, )?)*\}, GPU, memory: usage: (?P<used>\d+\.\d+) GB(?:, [a-z_]+: \d+\.\d+ GB)*"
)
"""The whole line of a step as releases since 1.0.18 log it: nothing else is in it, so nothing more is looked for."""
_LOSS = re.compile(rb"\(loss(?:_avg_rank)?: (?P<loss>[-+\w.]+)\)")
_STAT = re.compile(rb"\('(\w{1,40})', [-+\w.]+\)")
_TOTAL_ROWS = re.compile(rb"total_num of samplers(?: across ranks)?: (?P<rows>\d{1,12})(?:, (?P<file>.*))?")
_BATCHES = re.compile(rb"rank: \d+, dataloader start from step: (?P<start>\d+), batch_num: (?P<number>\d{1,12}),")
_TENSOR = re.compile(rb"miss key in ckpt: (?:model: )?(?P<name>[\w.]+)", re.IGNORECASE)
_SHAPES = re.compile(
    rb"dst: \('(?P<name>[\w.]+)', torch\.Size\((?P<own>\[[\d, ]*\])\)\), "
    rb"src: \('[\w.]+', torch\.Size\((?P<theirs>\[[\d, ]*\])\)"
)
_ENTERED = re.compile(rb"(?P<what>Train|Validate) epoch: (?P<epoch>\d+), rank: (?P<rank>\d+)")
_NO_STEPS = re.compile(rb"(?P<what>Training|Validation) Epoch: \d+: 0it \[")
_CONFIGURED_RATE = re.compile(rb"'optim_conf': \{[^{}]{0,200}?'lr': ([\d.eE+-]+)")
_CONFIGURED_WARM_UP = re.compile(rb"'warmup_steps': (\d{1,12})")
_MOST_WHY = 3
_MOST_NAMES = 2000
_NAMED_STEPS = 200
"""Steps whose statistics' names are read; a model reports the same ones ever after."""
OTHER_MARKS = (
    *(b"ckpt", b"heckpoint", b"init_param", b"total_num of samplers", b"dataloader start", b"The grad norm is "),
    b"dst: (",
    *(b"Loading wav failed", b"drop half data", b"'optim_conf': {"),
    *(b"Error executing job", b" acc: ", b"funasr version", b"0it [", b"data is empty"),
)
"""What a line has that is no step and of interest; a block of a log without any needs no look at its lines."""
_MOST_EPOCHS = 5000


@dataclass(kw_only=True)
class EpochOf:
    """The steps of one epoch that the log shows, of the first rank."""

    number: int
    steps: int = 0
    of: int = 0
    """Steps of the epoch, as the trainer counts them."""
    loss_sum: float = 0.0
    finite: int = 0
    accuracy_sum: float = 0.0
    accuracies: int = 0
    attention_sum: float = 0.0
    attentions: int = 0
    rate_first: float | None = None
    rate_last: float | None = None
    memory: float = 0.0
    """The most that was allocated after a step, GB."""
    last: int = -1

    @property
    def loss(self) -> float | None:
        """The mean of the logged losses that are numbers."""
        return self.loss_sum / self.finite if self.finite else None

    @property
    def attention(self) -> float | None:
        """The mean of the logged `loss_att`."""
        return self.attention_sum / self.attentions if self.attentions else None

    @property
    def accuracy(self) -> float | None:
        """The mean of the logged accuracies."""
        return self.accuracy_sum / self.accuracies if self.accuracies else None


@dataclass(kw_only=True)
class TrainingRecord:
    """What the trainer's lines of a whole log say."""

    train: dict[int, EpochOf] = field(default_factory=dict)
    valid: dict[int, EpochOf] = field(default_factory=dict)
    epochs: int | None = None
    """`max_epoch`."""
    ranks: set[int] = field(default_factory=set)
    statistics: dict[str, None] = field(default_factory=dict)
    """Names that the model reports with a step, in their order."""
    steps_named: int = 0
    attention: Curve = field(default_factory=Curve)
    """`loss_att` of the training steps that the log shows, each with its epoch."""
    broken_losses: Counter[str] = field(default_factory=Counter)
    """Of training steps: `nan`, `inf`."""
    first_broken: tuple[int, int] | None = None
    """Epoch and step of the first loss that is no number."""
    bad_norms: int = 0
    rate_highest: float | None = None
    rates: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Of each file that was indexed."""
    batches: list[int] = field(default_factory=list)
    """Batches of the data loaders, as the samplers print them; the first ones."""
    entered: Counter[str] = field(default_factory=Counter)
    """How often an epoch was entered: `Train`, `Validate`."""
    no_steps: int = 0
    """Progress bars of training epochs without a step."""
    missing_start: list[str] = field(default_factory=list)
    missing: dict[str, None] = field(default_factory=dict)
    reshaped: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By tensor, the model's shape and the checkpoint's."""
    saved: int = 0
    averaged: bool = False
    resumed: str = ""
    versions: Counter[str] = field(default_factory=Counter)
    """What FunASR printed as its own version."""
    best_accuracies: Counter[str] = field(default_factory=Counter)
    unvalidated: int = 0
    empty_batches: int = 0
    unloaded: int = 0
    """Recordings that SenseVoice's and other data sets could not load: they take another row."""
    unloaded_why: dict[str, None] = field(default_factory=dict)
    halved: int = 0
    """Batches of which SenseVoice's collator dropped a half."""
    rate_configured: float | None = None
    """`optim_conf.lr`, where the release prints its settings (up to 1.1.x) or hydra its command line."""
    warm_up: int | None = None
    overrides: str = ""
    """What hydra printed of the command line."""
    _first_rank: int = 0

    @property
    def steps(self) -> int:
        """Training steps that the log shows."""
        return sum(epoch.steps for epoch in self.train.values())

    @property
    def is_training(self) -> bool:
        """Whether the log has anything of a trainer."""
        return bool(self.train or self.entered or self.saved or self.no_steps)

    def read(self, line: bytes, *, others: bool = True) -> None:
        """Take in one line; others are passed over.

        Args:
            line: Without colours.
            others: Whether the block that it is of has any of `OTHER_MARKS`.
        """
        start = line.find(b"epoch: ")
        if start >= 0:
            loss = line.find(b"(loss", start)
            if loss >= 0:
                self._step(line, start, loss)
                return
            if entered := _ENTERED.search(line):
                self.entered[entered["what"].decode()] += 1
                return
        if others:
            self._other(line)

    def read_whole(self, match: re.Match[bytes]) -> None:
        """Take in a line that is one of `whole_step`: the same as `read`, faster."""
        kind, rank, number, epochs, step, steps, in_epoch, loss, rate, statistics, used = match.groups()
        is_valid = kind == b"val"
        epoch = self._epoch_of_step(int(rank), int(number), int(in_epoch or step), is_valid)
        if epoch is None:
            return
        self.epochs = int(epochs)
        epoch.of = max(epoch.of, int(steps))
        self._loss(epoch, epoch.last, loss, is_valid)
        self._statistics(epoch, statistics, 0, is_valid)
        if not is_valid:
            self._rate(epoch, _number(rate))
        epoch.memory = max(epoch.memory, float(used))

    def _step(self, line: bytes, at: int, loss_at: int) -> None:
        # Before `epoch: ` are `rank: 0, `, `Train ` or `validation `, and before the rank the tag.
        start = line.rfind(b"rank: ", max(0, at - 30), at)
        start = start if start >= 0 else max(line.rfind(b"validation ", max(0, at - 11), at), 0) or at
        head, loss = _STEP.match(line, start), _LOSS.match(line, loss_at)
        if head is None or loss is None:
            return
        is_valid = head["valid"] is not None or line[max(0, start - 5) : start] == b"val, "
        step = int(head["in_epoch"] or head["step"])
        epoch = self._epoch_of_step(int(head["rank"] or 0), int(head["epoch"]), step, is_valid)
        if epoch is None:
            return
        self.epochs = int(head["epochs"])
        epoch.of = max(epoch.of, int(head["steps"]))
        self._loss(epoch, step, loss["loss"], is_valid)
        self._statistics(epoch, line, loss.end(), is_valid)
        if not is_valid:
            self._rate(epoch, _between(line, b"(lr: ", b")", loss.end()))
        used = _between(line, b"usage: ", b" ", loss.end())
        epoch.memory = max(epoch.memory, used or 0.0)

    def _epoch_of_step(self, rank: int, number: int, step: int, is_valid: bool) -> EpochOf | None:
        """The epoch that a step counts in; None for one that is seen already, and of another rank than the first."""
        if rank not in self.ranks:
            self.ranks.add(rank)
            self._first_rank = min(self.ranks)
        epochs = self.valid if is_valid else self.train
        epoch = epochs.get(number)
        if epoch is None:
            if len(epochs) >= _MOST_EPOCHS:
                return None
            epoch = epochs[number] = EpochOf(number=number)
        if rank != self._first_rank or step == epoch.last:
            # A progress bar shows a step again and again.
            return None
        epoch.last = step
        epoch.steps += 1
        return epoch

    def _loss(self, epoch: EpochOf, step: int, text: bytes, is_valid: bool) -> None:
        value = _number(text)
        if value is not None and math.isfinite(value):
            epoch.loss_sum += value
            epoch.finite += 1
        elif not is_valid:
            self.broken_losses["nan" if value is None or math.isnan(value) else "inf"] += 1
            self.first_broken = self.first_broken or (epoch.number, step)

    def _statistics(self, epoch: EpochOf, line: bytes, at: int, is_valid: bool) -> None:
        if self.steps_named < _NAMED_STEPS:
            self.steps_named += 1
            for name in _STAT.findall(line, at):
                self.statistics.setdefault(name.decode(), None)
        number = _between(line, b"('acc', ", b")", at)
        if number is not None and math.isfinite(number):
            epoch.accuracy_sum += number
            epoch.accuracies += 1
        if is_valid:
            return
        loss = _between(line, b"('loss_att', ", b")", at)
        if loss is not None and math.isfinite(loss):
            epoch.attention_sum += loss
            epoch.attentions += 1
            self.attention.add(epoch.number, loss)

    def _rate(self, epoch: EpochOf, rate: float | None) -> None:
        if rate is None:
            return
        self.rates += 1
        epoch.rate_first = rate if epoch.rate_first is None else epoch.rate_first
        epoch.rate_last = rate
        self.rate_highest = rate if self.rate_highest is None else max(self.rate_highest, rate)

    def _other(self, line: bytes) -> None:
        if b"ckpt" in line or b"heckpoint" in line or b"init_param" in line or b"dst: (" in line:
            self._checkpoint(line)
        elif match := _TOTAL_ROWS.search(line):
            name = (match["file"] or b"").decode("utf-8", "replace").strip()
            if len(self.rows) < 100:
                self.rows[name.replace("\\", "/").rpartition("/")[2]] = int(match["rows"])
        elif match := _BATCHES.search(line):
            if len(self.batches) < _MOST_NAMES:
                self.batches.append(int(match["number"]))
        elif b"The grad norm is " in line:
            self.bad_norms += 1
        elif b"Error executing job with overrides: [" in line:
            self.overrides = line.partition(b"overrides: ")[2].decode("utf-8", "replace")
        elif b" acc: " in line and (b"Update best" in line or b"No improvement" in line):
            self.best_accuracies[line.partition(b" acc: ")[2][:8].decode("ascii", "replace").strip(" ,")] += 1
        elif b"funasr version: " in line:
            self._version(line)
        elif b"0it [" in line and (match := _NO_STEPS.search(line)):
            self.no_steps += match["what"] == b"Training"
        elif b"data is empty" in line:
            self.empty_batches += 1
        elif b"Loading wav failed" in line:
            self.unloaded += 1
            if len(self.unloaded_why) < _MOST_WHY:
                why = line.partition(b"Loading wav failed! ")[2].partition(b", Traceback")[0]
                self.unloaded_why.setdefault(why[:200].decode("utf-8", "replace"), None)
        elif b"drop half data" in line:
            self.halved += 1
        elif b"'optim_conf': {" in line:
            self._configured(line)

    def _configured(self, line: bytes) -> None:
        """The settings, as releases print them at their start."""
        if match := _CONFIGURED_RATE.search(line):
            self.rate_configured = _number(match[1])
        if match := _CONFIGURED_WARM_UP.search(line):
            self.warm_up = int(match[1])

    def _version(self, line: bytes) -> None:
        text = line.partition(b"funasr version: ")[2][:30].decode("ascii", "replace").strip().rstrip(".")
        if re.fullmatch(r"\d+(\.\d+)+\w*", text):
            self.versions[text] += 1

    def _checkpoint(self, line: bytes) -> None:
        if b"does not exist" in line and (b"init_param" in line or b"init randomly" in line):
            name = line.rpartition(b": ")[2].decode("utf-8", "replace").strip()
            if len(self.missing_start) < 10:
                self.missing_start.append(name)
        elif b"dst: (" in line and (match := _SHAPES.search(line)):
            if len(self.reshaped) < _MOST_NAMES:
                self.reshaped[match["name"].decode()] = (match["own"].decode(), match["theirs"].decode())
        elif match := _TENSOR.search(line):
            if len(self.missing) < _MOST_NAMES:
                self.missing[match["name"].decode()] = None
        elif b"Checkpoint saved to" in line:
            self.saved += 1
        elif b"average_checkpoints" in line:
            self.averaged = True
        elif b"Checkpoint loaded successfully from" in line:
            self.resumed = line.partition(b"from ")[2].decode("utf-8", "replace").strip(" '")
        elif b"no validation" in line or b"excluded from best" in line:
            self.unvalidated += 1


def whole_step(line: bytes) -> re.Match[bytes] | None:
    """The parts of a line that is a step's and nothing else."""
    return _WHOLE_STEP.fullmatch(line)


def _between(line: bytes, start: bytes, end: bytes, at: int) -> float | None:
    """The number between two marks; None where there is none."""
    first = line.find(start, at)
    if first < 0:
        return None
    first += len(start)
    last = line.find(end, first, first + 40)
    return _number(line[first:last]) if last >= 0 else None


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
