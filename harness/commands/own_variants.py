"""A variant that an option names: a built-in one, a variant's file, or a model folder of the user's own."""

from __future__ import annotations

from pathlib import Path

from harness.config.matrix import VariantSource
from harness.core.cells import Dimensions
from harness.core.errors import InputError, VariantError
from harness.variants.catalogue import available
from harness.variants.from_folder import dimensions_of
from harness.variants.variant import Variant, dimension_problems


def source_of(variant: Variant, name_or_path: str) -> VariantSource:
    """The variant as a matrix names it.

    Args:
        name_or_path: As the option has it.
    """
    return VariantSource(name=variant.name, path=None if name_or_path in available() else Path(name_or_path))


def chosen_dimensions(text: str | None, variant: Variant) -> Dimensions | None:
    """Those of `--dimensions`, or the model folder's own; None where there are none.

    Raises:
        InputError: the text is wrong, or a folder has other dimensions.
        VariantError: the variant cannot be had at these dimensions.
    """
    try:
        chosen = Dimensions.parse(text) if text else None
    except ValueError as error:
        raise InputError(str(error), next_step="write them as in --dimensions v8404-h512") from None
    if variant.folder is not None:
        folder_dimensions = dimensions_of(variant)
        if chosen not in (None, folder_dimensions):
            raise InputError(
                f"--dimensions {text}, and the folder {variant.folder.name} has {folder_dimensions}",
                next_step="leave out --dimensions: a model folder has its own",
            )
        return folder_dimensions
    if chosen and (problems := dimension_problems(variant, chosen)):
        raise VariantError(f"{variant.name} cannot be had at {chosen}: {'; '.join(problems)}")
    return chosen
