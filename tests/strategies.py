"""Hypothesis strategies for the records that pass between the parts of the harness."""

from __future__ import annotations

import string

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.config.expansion import import_cell
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Failure, Frame, Outcome, Precision, Status

# How long an example takes says something about the machine, not about the code.
settings.register_profile("harness", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("harness")

sizes = st.integers(min_value=1, max_value=200_000)
shapes = st.builds(Dimensions, vocab_size=sizes, hidden_size=sizes)
numbers = st.integers(min_value=0, max_value=40)
releases = st.one_of(
    st.builds("1.{}.{}".format, numbers, numbers),
    st.builds("1.{}.{}+local.{:08x}".format, numbers, numbers, st.integers(min_value=0, max_value=2**32 - 1)),
)
variants = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """A cell that a matrix can have."""
    check = draw(st.sampled_from(Check))
    release = draw(releases)
    if check is Check.IMPORT:
        return import_cell(release)
    return Cell(
        release=release,
        variant=draw(variants),
        dimensions=draw(shapes),
        depth=draw(st.sampled_from(Depth)),
        check=check,
        entry=draw(st.sampled_from(Entry)) if check is Check.FINETUNE else None,
        device=draw(st.sampled_from(Device)),
        precision=draw(st.sampled_from(Precision)),
    )


finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
records = st.dictionaries(st.text(max_size=12), json_values, max_size=5)
frames = st.builds(
    Frame,
    file=st.text(max_size=30),
    line=st.integers(min_value=1),
    function=st.text(max_size=12),
    code=st.text(max_size=40),
)
failures = st.builds(
    Failure,
    type=st.text(max_size=12),
    message=st.text(),
    frames=st.lists(frames, max_size=3).map(tuple),
    signature=st.text(max_size=30),
)
outcomes = st.builds(
    Outcome,
    cell=cells(),
    status=st.sampled_from(Status),
    reason=st.text(),
    failure=st.none() | failures,
    metrics=records,
    evidence=records,
    shims=st.lists(st.text(max_size=12), max_size=3).map(tuple),
    seconds=st.floats(min_value=0, max_value=1e6),
    started=st.text(max_size=20),
)
