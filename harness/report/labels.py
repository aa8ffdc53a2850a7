"""What each level, status, verdict, check and compatibility shim is called and means."""

from __future__ import annotations

from harness.core.cells import Status, Verdict
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome

INTRODUCTION = (
    "FunASR is a toolkit for speech recognition, and people fine-tune its Paraformer models with the trainer that "
    "comes with each release. For each release this report says whether a model builds at a given vocabulary and "
    "hidden size, whether its loss fits the output of the model, and whether the release's own trainer reduces that "
    "loss. All of it was run and measured; nothing is taken from release notes."
)

STATUS_SIGN: dict[Status, str] = {
    Status.PASSED: "✓",
    Status.FAILED: "✗",
    Status.BLOCKED: "∙",
    Status.SKIPPED: "–",
    Status.TIMED_OUT: "T",
    Status.CRASHED: "!",
    Status.OUT_OF_MEMORY: "M",
    Status.ERRORED: "?",
}

STATUS_NAME: dict[Status, str] = {status: status.replace("_", " ") for status in Status}

STATUS_MEANING: dict[Status, str] = {
    Status.PASSED: "the check found nothing wrong",
    Status.FAILED: "the release did something wrong",
    Status.BLOCKED: "not run, because an earlier check did not pass",
    Status.SKIPPED: "not run, because the question does not arise here",
    Status.TIMED_OUT: "stopped by the harness at its time limit",
    Status.CRASHED: "the process died without an answer",
    Status.OUT_OF_MEMORY: "the memory limit was reached",
    Status.ERRORED: "the harness or the machine failed; this says nothing about the release",
}

VERDICT_NAME: dict[Verdict, str] = {
    Verdict.AS_EXPECTED: "as expected",
    Verdict.KNOWN: "known",
    Verdict.REGRESSION: "not yet explained",
    Verdict.UNEXPECTED_PASS: "unexpected pass",
    Verdict.FOLLOWS: "follows",
    Verdict.YOURS: "your input",
    Verdict.UNDECIDED: "not decided",
    Verdict.FAULT: "fault of the machine",
}

VERDICT_MEANING: dict[Verdict, str] = {
    Verdict.AS_EXPECTED: "passed or skipped, and no known issue says otherwise",
    Verdict.KNOWN: "failed exactly as the list of known issues says, or depends on a cell that did",
    Verdict.REGRESSION: "failed, and no known issue has this signature: a regression until someone finds the cause",
    Verdict.UNEXPECTED_PASS: "passed although a known issue says that it fails: the list is out of date",
    Verdict.FOLLOWS: "blocked by a cell that is itself not yet explained, not decided or a fault",
    Verdict.YOURS: "failed because of a key, a value or a file of yours: this says nothing about the release",
    Verdict.UNDECIDED: (
        "failed with input of yours, and the same check of stock input did not run or ended otherwise: this says "
        "nothing about the release"
    ),
    Verdict.FAULT: "the harness or the machine failed: this says nothing about the release",
}

SHIM_MEANING: dict[str, str] = {
    "cuda-calls-stay-on-cpu": (
        "The release calls .cuda() whether or not there is a GPU. On the CPU the harness returns the tensor or module "
        "unchanged. On a GPU nothing is changed."
    ),
    "cuda-devices-mean-cpu": (
        "The release's trainer sets its device to a number, which torch reads as a GPU, or sends the model to a GPU "
        "whatever device the settings name. On the CPU the harness reads that as the CPU. On a GPU nothing is changed."
    ),
    "soundfile-reads-audio": (
        "torchaudio.load needs torchcodec from torchaudio 2.9 on. Where that is not installed, the harness reads "
        "audio files through soundfile; the samples are the same."
    ),
    "forced-alignment-in-python": (
        "torchaudio's forced alignment needs a native library. Where that is missing, the harness finds the same path "
        "in Python."
    ),
    "import-what-is-needed": (
        "Checks of the model alone import the modules that register its components, and do not run "
        "funasr/__init__.py, which imports every module of the release. Where several modules register one component, "
        "they are imported in the order in which a full import comes to them, so that the same class is left."
    ),
    "processes-without-gpus": (
        "The release's trainers give each process a GPU. On the CPU the harness lets torch.cuda.set_device do nothing, "
        "and DistributedDataParallel gets no device ids. On GPUs nothing is changed."
    ),
    "torchaudio-without-native-libraries": (
        "torchaudio's native libraries are built for CUDA and do not load with a CPU build of torch. The harness "
        "imports torchaudio from a copy without them, which its loader allows for."
    ),
}

NATIVE: dict[bool | None, str] = {
    True: "native",
    False: "not native",
    None: "",
}
"""Whether the trainer is the one that the release's own `finetune.sh` calls."""


def shim_meaning(name: str) -> str:
    """What a compatibility shim does, in words."""
    return SHIM_MEANING.get(name, "This report has no description of this compatibility shim.")


LEVEL_SIGN: dict[Level, str] = {
    Level.BROKEN: "✗",
    Level.FAULT: "?",
    Level.YOURS: "Y",
    Level.NOT_RUN: "∙",
    Level.WRONG: "≠",
    Level.MINOR: "≈",
    Level.PASSED: "✓",
}
"""Legible without colour."""

LEVEL_NAME: dict[Level, str] = {level: level.value.replace("_", " ") for level in Level} | {
    Level.FAULT: "fault of the machine",
    Level.YOURS: "your input",
}

LEVEL_MEANING: dict[Level, str] = {
    Level.BROKEN: "the model cannot be trained, or the result is not the model",
    Level.FAULT: "the harness or the machine failed; this says nothing about the release",
    Level.YOURS: "a key, a value or a file of the user's is the cause; this says nothing about the release",
    Level.NOT_RUN: "not selected, or a check that it depends on did not pass, or it does not apply here",
    Level.WRONG: "it trains something other than configured",
    Level.MINOR: "a deviation that does not change what is learned",
    Level.PASSED: "the check found nothing wrong",
}

_OWN_SIGN = (Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY, Status.SKIPPED)


def cell_sign(item: JudgedOutcome) -> str:
    """The sign of one cell: its level's, or of its status where that says more."""
    status = item.outcome.status
    return STATUS_SIGN[status] if status in _OWN_SIGN else LEVEL_SIGN[Level.of(item)]
