"""Values that a release cannot take: another type, out of range, or a component that it does not have."""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.keys.reading import Lookup, Reading
from harness.preflight.rows.data_files import named
from harness.preflight.settings import Setting
from harness.worker.trainer.options import trainer_file

_SWITCH_TEXT = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
SETTINGS_OF_ROWS = frozenset({"dataset", "dataset_conf.index_ds", "dataset_conf.batch_sampler"})
"""The rows' part names these where there are rows: without these classes it cannot read them."""

NAMED_WITH_THE_MODEL = frozenset(
    {"model", "optim", "scheduler", "tokenizer", "frontend", "specaug", "normalize", "encoder", "decoder", "predictor"}
)
"""`harness.preflight.release.combinations` names what the trainer cannot do without, with the release that has it."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """What a key takes, and what becomes of a training with something else."""

    whole: bool
    least: float
    below: str
    """What follows from a smaller number."""
    guard: str = ""
    """A condition in the trainer's code that makes smaller numbers harmless."""
    severity: Severity = Severity.BROKEN
    above_least: bool = False
    """Whether the least itself is too small."""


_NEGATED = "the trainer divides the loss by it, and every step goes the wrong way"
_AS_POSITIVE = (
    "the trainer takes the remainder of the step's number by it, so it counts like the number without its sign"
)
NUMBERS = {
    "train_conf.max_epoch": Number(whole=True, least=1, below="no epoch is trained"),
    "train_conf.accum_grad": Number(whole=True, least=1, below=_NEGATED),
    "train_conf.log_interval": Number(whole=True, least=1, below=_AS_POSITIVE, severity=Severity.MINOR),
    "train_conf.validate_interval": Number(
        whole=True, least=1, below=_AS_POSITIVE, severity=Severity.MINOR, guard=r"self\.validate_interval\s*[<>]"
    ),
    "train_conf.save_checkpoint_interval": Number(
        whole=True,
        least=1,
        below=_AS_POSITIVE,
        severity=Severity.MINOR,
        guard=r"self\.save_checkpoint_interval\s*>\s*0",
    ),
    "train_conf.avg_nbest_model": Number(
        whole=True, least=1, below="the model is averaged over no checkpoint", severity=Severity.WRONG
    ),
    "train_conf.grad_clip": Number(
        whole=False,
        least=0,
        above_least=True,
        below="every gradient is scaled to nothing or turned round",
        guard=r"grad_clip\s*>\s*0",
    ),
    "dataset_conf.batch_size": Number(whole=True, least=1, below="no batch can be made"),
    "dataset_conf.num_workers": Number(whole=True, least=0, below="DataLoader raises a ValueError"),
    "dataset_conf.data_split_num": Number(whole=True, least=1, below="no part of the data is trained"),
    "optim_conf.lr": Number(
        whole=False, least=0, above_least=True, below="the optimizer refuses it, or no weight ever changes"
    ),
    "optim_conf.weight_decay": Number(whole=False, least=0, below="torch's optimizers raise a ValueError"),
    "scheduler_conf.warmup_steps": Number(whole=False, least=0, below="the learning rate is no real number"),
}


def unfit_values(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    """Findings about values that this release cannot take."""
    has_rows = bool(named(inputs, "train") or named(inputs, "valid"))
    met = {lookup.path for lookup in reading.lookups if lookup.found}
    for path, lookup in {lookup_of_path.path: lookup_of_path for lookup_of_path in reading.lookups}.items():
        if path in NAMED_WITH_THE_MODEL or (path in SETTINGS_OF_ROWS and has_rows):
            continue
        if path not in met and (absent := _absent(inputs, lookup)):
            yield absent
    for setting in inputs.settings:
        if not reading.is_read(setting.path) or _refers(setting.value):
            continue
        if setting.path in NUMBERS:
            finding = _number(inputs, setting, NUMBERS[setting.path], entry)
        elif _is_switch(reading, setting.path):
            finding = _switch(setting)
        else:
            finding = _text_for_number(reading, setting)
        if finding:
            yield finding


def _refers(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _absent(inputs: Inputs, lookup: Lookup) -> PreflightFinding | None:
    """A component that the release does not have."""
    if lookup.found or lookup.name is None or lookup.name in {"None", ""}:
        return None
    setting = inputs.settings.by_path.get(lookup.path)
    if setting is None or inputs.settings.get("trust_remote_code") or _refers(setting.value):
        return None
    if "/" in lookup.name:
        # A folder, or a name on a hub.
        return None
    near = _closest(lookup.name, lookup.known)
    kind = lookup.table.removesuffix("_classes").replace("_", " ")
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="component-unknown",
        message=f"FunASR {inputs.release.version} has no {kind} `{lookup.name}`: the training ends there",
        place=setting.place,
        evidence=(
            f"looked up at {lookup.where}",
            f"it has {', '.join(lookup.known[:12])}{' …' if len(lookup.known) > 12 else ''}",
        ),
        remedy=f"write `{'++' if setting.from_command else ''}{lookup.path}={near}`" if near else "use one that it has",
    )


def _closest(name: str, known: tuple[str, ...]) -> str:
    for candidate in known:
        if candidate.lower() == name.lower():
            return candidate
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")


def _number(inputs: Inputs, setting: Setting, rule: Number, entry: str) -> PreflightFinding | None:
    value = setting.value
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _no_number(setting, "a whole number" if rule.whole else "a number")
    if not math.isfinite(value):
        return _out_of_range(setting, "it is no finite number", Severity.BROKEN)
    if rule.whole and isinstance(value, float):
        if setting.path.startswith("train_conf") and setting.path != "train_conf.max_epoch" and value.is_integer():
            return None
        return _no_number(setting, "a whole number")
    if value == 0 and rule.below in (_NEGATED, _AS_POSITIVE):
        # Named with the line that divides, in `harness.preflight.release.combinations`.
        return None
    if value < rule.least or (rule.above_least and value == rule.least):
        path = trainer_file(str(inputs.install_dir), entry)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if rule.guard and re.search(rule.guard, text) and not (value == 0 and "interval" in setting.path):
            return None
        return _out_of_range(setting, rule.below, rule.severity)
    return None


def _no_number(setting: Setting, expected: str) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="value-type",
        message=f"`{setting.path}` is {_described(setting.value)} where FunASR takes {expected}: "
        "the training ends with a TypeError",
        place=setting.place,
        evidence=_as_typed(setting),
        remedy=f"write {expected}{_suggested(setting)}",
    )


def _suggested(setting: Setting) -> str:
    """The line where the text is a number in quotes."""
    value = setting.value
    text = value.strip().strip("\"'") if isinstance(value, str) else value
    try:
        number = float(text) if not isinstance(text, bool | list | dict) else None
    except (TypeError, ValueError):
        number = None
    must_be_integer = setting.path in NUMBERS and NUMBERS[setting.path].whole
    if number is None or not math.isfinite(number) or (must_be_integer and not number.is_integer()):
        return ""
    written = int(number) if must_be_integer else text
    return f": `{'++' if setting.from_command else ''}{setting.path}={written}`, without quotes"


def _described(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, float):
        return f"{value!r}"
    return "a list" if isinstance(value, list) else "a mapping"


def _out_of_range(setting: Setting, follows: str, severity: Severity) -> PreflightFinding:
    return PreflightFinding(
        severity=severity,
        rule="value-range",
        message=f"`{setting.path}` is {setting.value}: {follows}",
        place=setting.place,
        evidence=_as_typed(setting),
        remedy="write a number above it" if setting.value != 0 else "write a number above 0",
    )


def _is_switch(reading: Reading, path: str) -> bool:
    read_at = reading.read.get(path)
    return read_at is not None and (read_at.default in {"True", "False"} or read_at.annotation == "bool")


def _switch(setting: Setting) -> PreflightFinding | None:
    """A text where the code expects true or false: every text but the empty one is true."""
    if not isinstance(setting.value, str):
        return None
    means = _SWITCH_TEXT.get(setting.value.strip().strip("\"'").lower())
    if means is True or not setting.value:
        return None
    consequence = "and that counts as true" if means is False else "and it is a switch: any text counts as true"
    return PreflightFinding(
        severity=Severity.WRONG,
        rule="text-for-switch",
        message=f"`{setting.path}` is the text {setting.value[:60]!r}, {consequence}",
        place=setting.place,
        evidence=_as_typed(setting),
        remedy=f"write `{'++' if setting.from_command else ''}{setting.path}=false`, or `true`, without quotes",
    )


def _text_for_number(reading: Reading, setting: Setting) -> PreflightFinding | None:
    """A text where the code's default is a number; only of the command, where the user has just typed it."""
    read_at = reading.read.get(setting.path)
    if read_at is None or not setting.from_command or not isinstance(setting.value, str) or not read_at.default:
        return None
    try:
        default = ast.literal_eval(read_at.default)
    except (ValueError, SyntaxError):
        return None
    if isinstance(default, bool) or not isinstance(default, int | float) or "str" in read_at.annotation:
        return None
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="value-type",
        message=f"`{setting.path}` is the text {setting.value[:60]!r} where FunASR takes a number, as "
        f"{read_at.default}",
        place=setting.place,
        evidence=(f"read at {read_at.where}", *_as_typed(setting)),
        remedy=f"write a number{_suggested(setting)}",
    )


def _as_typed(setting: Setting) -> tuple[str, ...]:
    return (f"typed: {setting.text[:200]}",) if setting.text else ()
