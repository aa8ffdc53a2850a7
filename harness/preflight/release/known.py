"""The release's known issues that these files, this command and this model meet: `matrices/known_issues.toml`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.built_in import KNOWN_ISSUES_NAME, LOCK_NAME, shipped_file
from harness.core.cells import Check, Entry, Release, Severity
from harness.core.versions import version_of
from harness.preflight.code.release_code import ReleaseCode
from harness.preflight.findings import Place, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.settings import SettingsInForce
from harness.releases import load_lock
from harness.rules.code_that_ran import CodeThatRan
from harness.rules.issue_conditions import DEFAULTS, Condition
from harness.rules.known_issues import KnownIssue, load_known_issues
from harness.variants.catalogue import available, load_variant

_AFTER_TRAINING = (Check.CHECKPOINT, Check.DECODE)
_LONGEST_LINE = 1 << 16
_MOST_ROWS = 200_000
_WITHIN_EPOCH = re.compile(r"model\.pt\.ep\d+\.\d+")
_TABLES = ("encoder", "decoder", "predictor", "specaug", "normalize", "frontend", "tokenizer")


def check(inputs: Inputs) -> PreflightPart:
    """The issues that apply: one by one what the user's settings or files cause, at once what every training has."""
    issues = list(applying(inputs))
    alone = [issue for issue in issues if issue.by_setting or issue.severity is Severity.BROKEN]
    alone.sort(key=lambda issue: any(check in _AFTER_TRAINING for check in issue.checks))
    released = _that_train(inputs)
    findings = [_finding(inputs, issue, released) for issue in alone if issue.severity is not Severity.MINOR]
    others = [issue for issue in issues if issue not in alone or issue.severity is Severity.MINOR]
    if others:
        findings.append(_of_every_training(inputs, others, released))
    return PreflightPart(findings=tuple(findings))


def applying(inputs: Inputs) -> Iterator[KnownIssue]:
    """The issues that this training meets, in the file's order."""
    code = inputs.code
    model = inputs.config.get("model")
    if not isinstance(model, str) or (code.registered and code.definition("model_classes", model) is None):
        # That there is no model, or that this release cannot train it at all, is said elsewhere.
        return
    ran = _code_that_runs(inputs, code)
    facts = Facts(inputs)
    for issue in _issues():
        if issue.reported_elsewhere or not issue.concerns(inputs.release.version) or not issue.runs_in(ran):
            continue
        if concerns_training(issue, settings=inputs.config, entry=entry_of(inputs)) and all(
            condition.holds(facts.value(condition)) for condition in issue.applies_when
        ):
            yield issue


def concerns_training(issue: KnownIssue, *, settings: SettingsInForce, entry: str) -> bool:
    """Whether an issue is about a training of this model with this entry point, whatever its settings are."""
    if set(issue.checks) <= {Check.IMPORT} or (issue.entry and issue.entry != entry):
        return False
    return not issue.variants or bool(set(issue.variants) & set(variants_of(settings)))


def ends_training(inputs: Inputs) -> bool:
    """Whether by a known issue every training of this model ends in this release."""
    return any(issue.severity is Severity.BROKEN and issue.expects_failure for issue in applying(inputs))


def variants_of(settings: SettingsInForce) -> tuple[str, ...]:
    """The built-in variants of the model's class."""
    model = settings.get("model")
    return tuple(name for name, model_class in _models().items() if model_class == model)


def entry_of(inputs: Inputs) -> str:
    """The entry point of the command; where it names none, the one that the release's `finetune.sh` calls."""
    newer = (inputs.install_dir / "funasr/bin/train_ds.py").is_file()
    return inputs.command.entry or (Entry.TRAIN_DS if newer else Entry.TRAIN)


def nearest_without(issue: KnownIssue, release: str, released: Sequence[Release]) -> tuple[str, str]:
    """The first later release without the issue, and the last earlier one; empty where there is none."""
    own_version = version_of(release)
    without = [(version_of(other.version), other.version) for other in released if not issue.concerns(other.version)]
    later = [name for version, name in without if own_version and version and version > own_version]
    earlier = [name for version, name in without if own_version and version and version < own_version]
    return next(iter(later), ""), next(reversed(earlier), "")


class Facts:
    """The values that conditions need, each looked up when it is needed."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def value(self, condition: Condition) -> Any:
        """Of a setting in force, with FunASR's default where it is not set; or of the user's files."""
        if condition.of_a_setting:
            return self._inputs.settings.get(condition.name, DEFAULTS.get(condition.name))
        match condition.name:
            case "processes":
                return self._inputs.processes
            case "device":
                return str(self._inputs.settings.get("device", "cuda")).partition(":")[0]
            case "one_character_rows":
                return _one_character_rows(self._inputs.train)
            case "configuration.json":
                return (self._inputs.model / "configuration.json").is_file()
            case "resumes_within_epoch":
                return self._resumes_within_epoch()
        return None

    def _resumes_within_epoch(self) -> bool:
        settings = self._inputs.settings
        output_dir = settings.get("output_dir")
        resumes = settings.get("train_conf.resume", settings.get("resume", True))
        if not resumes or not isinstance(output_dir, str):
            return False
        folder = Path(output_dir) if Path(output_dir).is_absolute() else self._inputs.root / output_dir
        try:
            saved = [path for path in folder.iterdir() if path.name.startswith("model.pt.ep") and path.is_file()]
            newest = max(saved, key=lambda path: path.stat().st_mtime, default=None)
        except (OSError, ValueError):
            return False
        return newest is not None and bool(_WITHIN_EPOCH.fullmatch(newest.name)) and (folder / "model.pt").is_file()


def _one_character_rows(path: Path | None) -> int:
    count = 0
    if path is None or not path.is_file():
        return 0
    with path.open("rb") as file:
        for _ in range(_MOST_ROWS):
            line = file.readline(_LONGEST_LINE)
            if not line:
                break
            try:
                text = json.loads(line).get("target")
            except (ValueError, AttributeError, RecursionError):
                continue
            count += isinstance(text, str) and len(text) == 1
    return count


def _code_that_runs(inputs: Inputs, code: ReleaseCode) -> CodeThatRan:
    """The classes that the config names, with their bases."""
    named, classes = set(), set()
    for key in ("model", *_TABLES):
        name = inputs.config.get(key) if key == "model" else inputs.settings.get(key)
        if not isinstance(name, str):
            continue
        named.add(name.lower())
        definition = code.definition(f"{key}_classes", name)
        for owner, _ in code.lineage(definition) if definition else ():
            classes.add(f"{owner.file.relative_to(code.root.parent).as_posix()}:{owner.name}")
            named.add(owner.name.lower())
    if any(setting.path.startswith("ctc_conf") for setting in inputs.settings):
        named.add("ctc")
    return CodeThatRan(entry=Entry(entry_of(inputs)), whole=False, named=frozenset(named), classes=frozenset(classes))


def _that_train(inputs: Inputs) -> tuple[Release, ...]:
    """The published releases in which no known issue ends every training of this model."""
    ran = _code_that_runs(inputs, inputs.code)
    ending = [
        issue
        for issue in _issues()
        if issue.severity is Severity.BROKEN
        and not issue.applies_when
        and issue.runs_in(ran)
        and concerns_training(issue, settings=inputs.config, entry=entry_of(inputs))
    ]
    return tuple(release for release in _released() if not any(issue.concerns(release.version) for issue in ending))


def _finding(inputs: Inputs, issue: KnownIssue, released: Sequence[Release]) -> PreflightFinding:
    setting = next((condition for condition in issue.applies_when if condition.of_a_setting), None)
    later, earlier = nearest_without(issue, inputs.release.version, released)
    place = inputs.settings.place(setting.name) if setting else Place(key="model")
    if setting is None and inputs.config.by_path:
        place = inputs.config.place("model")
    return PreflightFinding(
        severity=issue.severity,
        rule=f"known-{issue.id}",
        message=f"known issue of FunASR {inputs.release.label}: {issue.title}",
        place=place,
        evidence=(issue.cause, *issue.upstream, _without(later, earlier)),
        remedy=issue.remedy or (f"pip install funasr=={later}" if later else ""),
    )


def _without(later: str, earlier: str) -> str:
    if later:
        return f"the nearest later release without it is {later}"
    if earlier:
        return f"no later release is without it; the last before it is {earlier}"
    return "every release that trains this model has it"


def _of_every_training(inputs: Inputs, issues: Sequence[KnownIssue], released: Sequence[Release]) -> PreflightFinding:
    without = [nearest_without(issue, inputs.release.version, released) for issue in issues]
    lines = [
        f"{issue.title} ({f'not in {later}' if later else _without(later, earlier)})"
        for issue, (later, earlier) in zip(issues, without, strict=True)
    ]
    counted = f"{len(issues)} known faults" if len(issues) > 1 else "one known fault"
    fixed = [version for version in (version_of(later) for later, _ in without) if version]
    return PreflightFinding(
        severity=Severity.MINOR,
        rule="known-in-every-training",
        message=f"FunASR {inputs.release.label} has {counted} that every training of this kind meets, whatever its "
        "files and settings are",
        place=Place(key=f"funasr {inputs.release.label}"),
        evidence=tuple(lines),
        remedy=f"{len(fixed)} of them fixed: pip install 'funasr>={max(fixed)}'" if fixed else "",
        count=len(issues),
    )


@cache
def _issues() -> tuple[KnownIssue, ...]:
    return load_known_issues(shipped_file(KNOWN_ISSUES_NAME), variants=available()).issues


@cache
def _released() -> tuple[Release, ...]:
    return load_lock(shipped_file(LOCK_NAME))


@cache
def _models() -> Mapping[str, str]:
    return {name: str(load_variant(name).config["model"]) for name in available()}
