"""The part of preflight about keys: which are read, which are refused, and what their values mean."""

from __future__ import annotations

from collections.abc import Iterator

from harness.preflight.findings import PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.keys.follow import read_keys
from harness.preflight.keys.freezing import frozen
from harness.preflight.keys.meanings import other_meanings
from harness.preflight.keys.reading import Reading
from harness.preflight.keys.unread import unread_keys
from harness.preflight.keys.values import unfit_values
from harness.worker.trainer.options import trainer_options

MOST_NAMED = 6
"""Keys that nothing reads, in one line."""


def entry_of(inputs: Inputs) -> str:
    """The entry point that the command calls, else the one that the release's own script calls."""
    native = trainer_options(str(inputs.install_dir), inputs.release.version, "train").native_entry
    return inputs.command.entry or native


def check(inputs: Inputs) -> PreflightPart:
    """Findings about the keys of the config and the command, for this release."""
    entry = entry_of(inputs)
    if not (inputs.install_dir / "funasr" / "bin" / f"{entry}.py").is_file():
        return PreflightPart(skipped=f"keys: FunASR {inputs.release.version} has no funasr/bin/{entry}.py")
    reading = read_keys(inputs.code, entry, inputs.settings, inputs.config, cache=inputs.cache)
    if not reading.read:
        return PreflightPart(skipped=f"keys: funasr/bin/{entry}.py of {inputs.release.label} could not be followed")
    findings = tuple(_all(inputs, reading, entry))
    total = len(list(inputs.settings))
    return PreflightPart(
        findings=findings,
        facts=(
            PreflightFact(
                section="settings",
                label=f"keys that {entry} reads",
                value=_of(inputs, reading, total),
                detail=True,
            ),
        ),
    )


def _all(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    for part in (unread_keys, unfit_values, frozen, other_meanings):
        yield from part(inputs, reading, entry)


def _of(inputs: Inputs, reading: Reading, total: int) -> str:
    """How many, and the others by name: a config's own that resemble no key are no finding."""
    unread = [setting.path for setting in inputs.settings if not reading.is_read(setting.path)]
    more = f" and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
    named = f"; nothing reads {', '.join(unread[:MOST_NAMED])}{more}" if unread else ""
    return f"{total - len(unread)} of {total}{named}"
