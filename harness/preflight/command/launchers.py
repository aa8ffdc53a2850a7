"""Which trainer a command starts, through which launcher, and with which words."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.preflight.command.words import Word
from harness.preflight.command.wrappers import unwrapped

TRAINER_FILE = re.compile(r"(?:^|/)(train|train_ds)\.py$")
TRAINER_MODULE = re.compile(r"^funasr\.bin\.(train|train_ds)$")
TRAINER_PROGRAM = re.compile(r"(?:^|/)funasr-(train|train-ds)$")
_OTHER_PROGRAM = re.compile(r"(compute_audio_cmvn|scp2jsonl|jsonl2scp|inference|export|average)\w*(\.py)?$")
_PYTHON = re.compile(r"^python[\d.]*$")

_FLAGS: Mapping[str, frozenset[str]] = {
    "torchrun": frozenset(
        ["standalone", "no-python", "run-path", "use-env", "virtual-local-rank", "quiet", "duplicate-stdout-filters"]
    ),
    "deepspeed": frozenset(["no-python", "no-local-rank", "save-pid", "enable-each-rank-log", "no-ssh", "force-multi"]),
    "accelerate": frozenset(
        [
            "multi-gpu",
            "cpu",
            "use-deepspeed",
            "use-fsdp",
            "tpu",
            "quiet",
            "no-python",
            "same-network",
            "debug",
            "use-megatron-lm",
        ]
    ),
}
"""Options without a value; all other ones of a launcher take one."""
_SHORT_WITH_VALUE = {"torchrun": "rt", "deepspeed": "Hie", "accelerate": ""}
PROCESSES = {"torchrun": "nproc-per-node", "deepspeed": "num-gpus", "accelerate": "num-processes"}
NODES = {"torchrun": "nnodes", "deepspeed": "num-nodes", "accelerate": "num-machines"}


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A trainer's call, taken apart."""

    launcher: str
    """`torchrun`, `deepspeed`, `accelerate`, `python`; empty where the trainer's program is called itself."""
    adds_local_rank: bool = False
    """Whether the launcher gives each process a `--local-rank=N`."""
    options: Mapping[str, Word] = field(default_factory=dict)
    """The launcher's, by their long names with dashes; of a flag the flag itself."""
    trainer: Word | None = None
    """What the launcher takes for the trainer; None where no word is left for it."""
    module: bool = False
    entry: str | None = None
    """`train` or `train_ds`; None for another trainer."""
    words: tuple[Word, ...] = ()
    """What the trainer receives."""
    unknown_options: tuple[Word, ...] = ()


def launch_of(words: Sequence[Word]) -> Launch | None:
    """The trainer's call in a command's words; None where this is no training."""
    remaining = unwrapped(words)
    if not remaining:
        return None
    name = posixpath.basename(remaining[0].text)
    if match := TRAINER_PROGRAM.search(remaining[0].text):
        return Launch(launcher="", trainer=remaining[0], entry=_entry(match), words=remaining[1:])
    if TRAINER_FILE.search(remaining[0].text):
        return _if_training(_trained(Launch(launcher=""), remaining))
    if name in ("torchrun", "deepspeed"):
        return _if_training(_through(name, remaining[1:], adds=name == "deepspeed"))
    if name == "accelerate" and len(remaining) > 1 and remaining[1].text == "launch":
        return _if_training(_through(name, remaining[2:]))
    if _PYTHON.match(name):
        return _if_training(_of_python(remaining[1:]))
    return _by_another_program(remaining)


_READS_FILES = frozenset(
    {
        *("echo", "printf", "cat", "ls", "cp", "mv", "rm", "ln", "vim", "vi", "nano", "which", "type", "grep", "head"),
        *("tail", "sed", "awk", "chmod", "git", "test", "[", "[[", "wc", "dirname", "basename", "realpath", "readlink"),
        *("diff", "find", "touch", "mkdir", "cd", "pip", "pip3", "export", "set", "ps", "pgrep", "pkill", "kill"),
    }
)
"""Programs that may name a trainer's file and start none."""


def mentions_trainer(words: Sequence[Word]) -> int | None:
    """The place of a trainer in the words of a program that starts none as far as is known here; None without one."""
    remaining = unwrapped(words)
    if len(remaining) < 2 or posixpath.basename(remaining[0].text) in _READS_FILES:
        return None
    for place, word in enumerate(remaining[1:], 1):
        text = word.text
        if TRAINER_FILE.search(text) or TRAINER_MODULE.search(text) or TRAINER_PROGRAM.search(text):
            return place
    return None


def _by_another_program(words: Sequence[Word]) -> Launch | None:
    """A trainer that a program starts which is not known here, such as `mpirun`."""
    place = mentions_trainer(words)
    name = posixpath.basename(words[0].text)
    looks_like = difflib.get_close_matches(name, ("torchrun", "python", "python3", "deepspeed", "accelerate"), 1, 0.75)
    if place is None or looks_like or not re.match(r"[A-Za-z_./~$]", words[0].text):
        return None
    return _trained(Launch(launcher=name, module=words[place - 1].text == "-m"), words[place:])


def _of_python(words: Sequence[Word]) -> Launch:
    remaining = list(words)
    while remaining and re.match(r"-[uBOsSEIWX]", remaining[0].text):
        remaining = remaining[2 if remaining[0].text in ("-W", "-X") else 1 :]
    if len(remaining) > 1 and remaining[0].text == "-m":
        launcher = {"torch.distributed.launch": "torchrun", "torch.distributed.run": "torchrun"}.get(remaining[1].text)
        if remaining[1].text == "accelerate.commands.launch":
            launcher = "accelerate"
        if launcher:
            return _through(launcher, remaining[2:], adds=remaining[1].text.endswith("distributed.launch"))
        return _trained(Launch(launcher="python", module=True), remaining[1:])
    if remaining and remaining[0].text.endswith("torch/distributed/launch.py"):
        return _through("torchrun", remaining[1:], adds=True)
    return _trained(Launch(launcher="python"), remaining)


def _through(launcher: str, words: Sequence[Word], *, adds: bool = False) -> Launch:
    """The launcher's options, then the trainer."""
    options: dict[str, Word] = {}
    remaining, module = list(words), False
    while remaining and remaining[0].text.startswith("-"):
        word = remaining.pop(0)
        if word.text == "--":
            break
        name, equals, text = word.text.lstrip("-").partition("=")
        name = name.replace("_", "-")
        if name in ("m", "module"):
            module = True
        elif equals:
            options[name] = Word(text=text, line=word.line, unknown=word.unknown, unset=word.unset)
        elif name in _FLAGS[launcher] or (len(name) == 1 and name not in _SHORT_WITH_VALUE[launcher]):
            options[name] = word
        elif not remaining or remaining[0].text.startswith("--"):
            # The value is missing; a variable that is not set leaves its name at the word that follows.
            options[name] = Word(text="", line=word.line, unset=remaining[0].unset if remaining else ())
        else:
            options[name] = remaining.pop(0)
    adds = adds and not {"use-env", "no-local-rank"} & set(options)
    return _trained(Launch(launcher=launcher, options=options, module=module, adds_local_rank=adds), remaining)


def _trained(launch: Launch, words: Sequence[Word]) -> Launch:
    from dataclasses import replace

    if not words:
        return launch
    text = words[0].text
    match = TRAINER_MODULE.search(text) if launch.module else TRAINER_FILE.search(text) or TRAINER_PROGRAM.search(text)
    return replace(launch, trainer=words[0], entry=_entry(match), words=tuple(words[1:]))


def _entry(match: re.Match[str] | None) -> str | None:
    return match[1].replace("-", "_") if match else None


def _if_training(launch: Launch) -> Launch | None:
    """The call if it is of FunASR's trainer, or of one that is given words as FunASR's is."""
    if launch.entry is not None or (launch.words and TRAINER_FILE.search(launch.words[0].text)):
        return launch
    keys = {word.text.lstrip("+").partition("=")[0] for word in launch.words}
    if launch.trainer is not None and launch.trainer.text.startswith("+"):
        keys.add(launch.trainer.text.lstrip("+").partition("=")[0])
    if {"scp_file_list", "input"} & keys or (launch.trainer is not None and _OTHER_PROGRAM.search(launch.trainer.text)):
        return None
    trainings = {"train_data_set_list", "train_conf", "dataset_conf", "optim_conf", "valid_data_set_list"}
    if keys & trainings or {key.partition(".")[0] for key in keys} & trainings:
        return launch
    if launch.trainer is None or launch.trainer.unknown or not launch.trainer.text.endswith(".py"):
        return launch if launch.launcher in ("torchrun", "deepspeed", "accelerate") else None
    return None
