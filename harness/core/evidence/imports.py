"""What the `import` check records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.evidence.common import CellEvidence


@dataclass(frozen=True, kw_only=True)
class ImportMetrics:
    """Figures of an import."""

    peak_resident_bytes: int | None = None
    """Of the cell's processes."""
    import_seconds: float | None = None
    """Of `import funasr` and all submodules."""
    modules_imported: int | None = None
    modules_failed: int | None = None
    """Submodules that raise when imported."""


@dataclass(frozen=True, kw_only=True)
class SubmoduleError:
    """A submodule that raises when imported."""

    module: str
    error: str
    """Type and message."""


@dataclass(frozen=True, kw_only=True)
class UnmetRequirement:
    """A requirement of the release that the environment does not meet."""

    requirement: str
    """As the release's metadata states it."""
    stack: str
    """The version that is installed, or `not installed`."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The classes that the release registers."""

    registrations: tuple[tuple[str, ...], ...] = ()
    """Table, name and class of each call of `register`, in order."""
    winners: Mapping[str, str] = field(default_factory=dict)
    """Key, such as `encoder_classes/SANMEncoder`, to the class that it stands for after a full import."""


@dataclass(frozen=True, kw_only=True)
class ImportEvidence(CellEvidence):
    """What an import showed."""

    declared: tuple[str, ...] = ()
    """Distributions that the release requires, normalised."""
    undeclared: tuple[str, ...] = ()
    """Modules that `import funasr` needs and the release does not require."""
    hidden_and_asked_for: tuple[str, ...] = ()
    """Further modules that submodules tried to import."""
    submodule_errors: tuple[SubmoduleError, ...] = ()
    unmet: tuple[UnmetRequirement, ...] = ()
    registry: Registry | None = None
