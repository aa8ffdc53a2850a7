"""Of which release a log is: what FunASR printed, and the lines, code and classes that only some releases have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from harness.core.cells import Frame
from harness.explain.reading import LogRecord
from harness.explain.release_index import ReleaseIndex

_MOST_FRAMES = 200


@dataclass(frozen=True, kw_only=True)
class LogRelease:
    """The releases that a log can be of."""

    bits: int
    """Of the index; 0 where none fits what the log shows."""
    versions: tuple[str, ...]
    """The same, oldest first."""
    how: str
    """Whence it is known, as a clause: `by the option --release`; empty where nothing says it."""
    edited: tuple[str, ...] = ()
    """Places whose line and code are of no release: `funasr/bin/train.py:3`."""
    contradicts: str = ""
    """What else the log says of its release, where that does not fit."""

    @property
    def known(self) -> bool:
        """Whether anything says which it is."""
        return bool(self.how and self.versions)

    @property
    def only(self) -> str:
        """The version, if it is known to be this one."""
        return self.versions[0] if self.known and len(self.versions) == 1 else ""


def find_release(record: LogRecord, index: ReleaseIndex, named: str | None) -> LogRelease:
    """The releases that fit all that the log shows; what the user names comes before what the log says.

    Args:
        record: The log.
        index: Of the releases' code.
        named: The version that the user gave.
    """
    shown, edited = _by_code(record, index)
    if named:
        return _named(named, index, shown, edited)
    printed = max(record.training.versions, key=lambda version: record.training.versions[version], default="")
    if printed:
        exact = index.bit(printed)
        fits = not exact or bool(exact & shown) or shown == index.all_bits
        return LogRelease(
            bits=exact,
            versions=(printed,),
            how="FunASR printed it",
            edited=tuple(edited),
            contradicts=""
            if fits or not shown
            else f"its lines of code are those of {spans(index.versions(shown), index.releases)}",
        )
    if shown in (0, index.all_bits):
        return LogRelease(bits=index.all_bits, versions=index.releases, how="", edited=tuple(edited))
    return LogRelease(bits=shown, versions=index.versions(shown), how="by its lines and code", edited=tuple(edited))


def _named(named: str, index: ReleaseIndex, shown: int, edited: list[str]) -> LogRelease:
    exact = index.bit(named)
    fits = not exact or shown in (0, index.all_bits) or bool(exact & shown)
    return LogRelease(
        bits=exact,
        versions=(named,),
        how="as you say",
        edited=tuple(edited),
        contradicts=""
        if fits
        else f"the lines and code in it are those of {spans(index.versions(shown), index.releases)}",
    )


def _by_code(record: LogRecord, index: ReleaseIndex) -> tuple[int, list[str]]:
    """Releases that have every frame and class of the log, and frames that no release has."""
    bits, edited = index.all_bits, []
    for frame in frames_of(record):
        if not index.has(frame.file):
            continue
        fitting = index.showing(frame)
        if not fitting and frame.code:
            # A last line that was cut, or a file that was edited: the function may still say something.
            edited.append(f"{frame.file}:{frame.line}")
        elif fitting & bits:
            bits &= fitting
    if record.classes:
        bits = _narrowed(bits, (index.with_class(file, name, line) for (file, line), name in record.classes.items()))
    return bits, edited


def _narrowed(bits: int, sets: Iterable[int]) -> int:
    for release_set in sets:
        bits = bits & release_set or bits
    return bits


def frames_of(record: LogRecord) -> Iterator[Frame]:
    """The frames of FunASR's own in all errors, each once."""
    known = set()
    for error in record.errors:
        for link in (*error.chain, error):
            for frame in link.frames:
                if frame.file.startswith("funasr/") and frame.line and frame not in known:
                    known.add(frame)
                    yield frame
                    if len(known) >= _MOST_FRAMES:
                        return


def spans(versions: Sequence[str], all_versions: Sequence[str]) -> str:
    """`1.0.12 – 1.0.17, 1.1.0`: versions that follow one another as one span.

    Args:
        versions: Some of them, oldest first.
        every: All, oldest first.
    """
    runs: list[list[str]] = []
    places = {version: place for place, version in enumerate(all_versions)}
    for version in versions:
        if runs and places.get(version, -9) == places.get(runs[-1][-1], -9) + 1:
            runs[-1].append(version)
        else:
            runs.append([version])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} – {run[-1]}" for run in runs) or "no release"


def version_named(text: str) -> str:
    """A version as the user wrote it: `v1.0.14` is 1.0.14; empty for none.

    Raises:
        ValueError: it is no version.
    """
    bare = re.sub(r"(?i)^(funasr)?[=\s]*v?", "", text.strip())
    try:
        return str(Version(bare))
    except InvalidVersion:
        raise ValueError(f'"{text}" is no version such as 1.2.7') from None
