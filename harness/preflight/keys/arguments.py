"""The arguments of a call in a release's code."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.preflight.keys.denoted import NOTHING, Value, all_within, united


@dataclass
class Arguments:
    """The arguments of a call, by what they denote."""

    positional: list[Value] = field(default_factory=list)
    named: dict[str, Value] = field(default_factory=dict)
    spread: Value = NOTHING
    """Of `**x`."""
    explicit: set[str] = field(default_factory=set)
    """Names that the call itself gives."""
    certain: bool = True

    @property
    def everything(self) -> Value:
        """All settings in them."""
        return all_within(united([*self.positional, *self.named.values(), self.spread]))
