"""How much the benchmarks measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    releases: int | None = None
    """So many, spread over all that are published; None for all."""
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((8404, 8501), (320, 512))
    """Vocabulary sizes and hidden sizes."""
    sample: int = 8
    """Cells that are run the naive way."""
    repetitions: int = 5
    """Of what is short."""
    pairs: int = 5
    """Trainings with and without the observer."""
    epoch: int = 24
    """Optimizer steps of an epoch."""
    rounds: int = 30
    """Of what takes milliseconds."""
    contract_cells: tuple[str, ...] = ("*/construct/*", "*/loss_contract/*")
    """The contract checks of all variants, as `--only` has them after the release."""
    atlas_cells: tuple[str, ...] = ("*",)
    """Of the atlas, in the same way."""
    releases_before: int = 3
    """Of which a kept cache holds outcomes when a new release comes."""
    cells_before: tuple[str, ...] = (
        "*/construct/*", "*/loss_contract/*", "paraformer/v8404-h320/reduced/finetune@train/*"
    )  # fmt: skip
    """Of these releases. With one training a release is entered as in a run of everything; the others teach nothing."""
    gate_cells: tuple[str, ...] = ()
    """Of `gate`, as `--only` has them; all if there are none."""
    recorded_pairs: int = 40
    """Cells with and without recording."""


_ONE_CELL = "paraformer/v8404-h320/reduced/construct/*"

SIZES = {
    "full": Size(),
    "tiny": Size(
        releases=2,
        shapes=((8404,), (320,)),
        sample=2,
        repetitions=1,
        pairs=1,
        epoch=4,
        rounds=3,
        contract_cells=("sanm/*/construct/*",),
        atlas_cells=(_ONE_CELL,),
        releases_before=1,
        cells_before=(_ONE_CELL,),
        gate_cells=("*/paraformer/*/construct/*",),
        recorded_pairs=2,
    ),
}
