"""What the dry run does not try: models and settings of which the release's trainer cannot take steps here, and why."""

from __future__ import annotations

from harness.preflight.dry_run.dry_run_request import checkpoint_of
from harness.preflight.inputs import Inputs
from harness.preflight.release.libraries import missing_for_the_model
from harness.text.units import memory
from harness.variants.from_folder import code_in

_COPIES_IN_TRAINING = 4
"""Of all parameters: weights, gradients and the optimizer's two numbers for each."""
CHECKED_INSTEAD = (
    "checked instead: the model and its weights by the release's own constructor and loader, the rows by its index, "
    "data set and sampler, the keys by its code"
)


def not_tried(inputs: Inputs) -> str:
    """Why no step can be taken with these inputs here; empty where one can."""
    model = inputs.config.get("model")
    if not isinstance(model, str):
        return "the config names no model"
    if runs := code_in(inputs.settings.section("")):
        return f"this release would run the text of `{runs}` as code, and it is yours; {CHECKED_INSTEAD}"
    if language_model(inputs):
        return f"{model} holds a language model, of which no block can be left out here{_size(inputs)}; " + (
            CHECKED_INSTEAD
        )
    if missing_module := missing_for_the_model(inputs):
        return (
            f"the code of {model} needs {missing_module}, which is not installed here (pip install "
            f"{missing_module}): no step can be "
            f"taken; {CHECKED_INSTEAD}"
        )
    return ""


def language_model(inputs: Inputs) -> bool:
    """Whether the model's decoder is a language model of the transformers library."""
    return isinstance(inputs.settings.get("llm"), str) or bool(inputs.settings.section("llm_conf"))


def _size(inputs: Inputs) -> str:
    start = checkpoint_of(inputs).path
    if start is None:
        return ""
    needed = memory(_COPIES_IN_TRAINING * start.stat().st_size)
    return f", and a training of the whole takes about {needed} (predicted: {_COPIES_IN_TRAINING} times {start.name})"
