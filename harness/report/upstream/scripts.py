"""Stand-alone scripts from the templates: each value that a template prints becomes a Python literal.

So nothing that a release, a user's file or a known issue says can become code.
"""

from __future__ import annotations

import json
import pprint
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.text.plain import plain

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 10
"""Exit status of a script that shows its fault; 0 when it does not. Python itself exits with 1 and 2."""

PROPERTY_ENDINGS = frozenset(
    {
        "predictor_ends_where_the_utterance_ends",
        "predictor_fires_for_every_token",
        "every_token_sees_frames",
        "evaluation_gives_the_loss_of_training",
        "evaluation_draws_nothing",
        "ctc_in_evaluation_draws_nothing",
    }
)
"""Properties that `property.py.j2` has a function for."""

DATA_ENDINGS = frozenset({"path_aishell", "long", "long_allowed"})
"""Questions of `data` that `data.py.j2` has a function for, besides those about a text."""

EXPECTED: Mapping[str, str] = {
    "predictor_ends_where_the_utterance_ends": "How many tokens are predicted for an utterance should not depend on"
    " the other utterances of its batch.",
    "predictor_fires_for_every_token": "Every target should be given an embedding from the frames: the weights are"
    " scaled so that they add up to the number of targets.",
    "every_token_sees_frames": "The mask should let every target attend to at least one frame.",
    "evaluation_gives_the_loss_of_training": "Without dropout, without the sampler and with one chunk configuration,"
    " the loss in evaluation should be that of training.",
    "evaluation_draws_nothing": "In evaluation, one batch should give one loss.",
    "ctc_in_evaluation_draws_nothing": "In evaluation, one batch should give one loss.",
    "one_target_is_enough": "An utterance of one target should give a finite loss.",
    "path_aishell": "The text of a row should not depend on the name of the folder that contains its audio.",
    "long": "A row that is left out should be reported.",
    "long_allowed": "With max_token_length raised, the row should arrive, or its being left out be reported.",
}
"""What should happen, in a sentence, by property or question."""

_DOTTED = re.compile(r"[A-Za-z0-9_.]*")
_TEMPLATES = Path(__file__).parent / "templates"


class PythonSource(Markup):
    """Text that a template prints as it is, because a filter made it safe."""

    __slots__ = ()


def render_script(template: str, /, **values: Any) -> str:
    """The text of a script from a template, with values as Python literals."""
    return plain(_environment().get_template(template).render(**values))


def property_script(name: str, message: str, example: str, *, title: str, release: str, shims: tuple[str, ...]) -> str:
    """The text of a script for one saved counterexample; empty when none can be made for this property.

    Args:
        name: The property.
        message: What happened; `TypeError in funasr/models/x.py:forward` for an exception.
        example: The counterexample as the outcome's evidence has it: YAML.
        title: First line of the script's docstring.
        release: Its label.
        shims: Compatibility shims of the cell.
    """
    import yaml

    raised, _, place = message.partition(" in ")
    ending, function = name, ""
    if place.startswith("funasr/") and raised.isidentifier():
        ending, function = "raises", place.partition(":")[2].partition(":")[0]
    elif name not in PROPERTY_ENDINGS:
        return ""
    config: dict[str, Any] = yaml.safe_load(example)
    drawn = config.pop("example")
    return render_script(
        "property.py.j2",
        title=title,
        release=release,
        shims=shims,
        ending=ending,
        type=raised,
        function=function,
        config=config,
        frames=drawn["frames"],
        tokens=drawn["tokens"],
        seed=drawn["seed"],
    )


def data_script(question: Mapping[str, Any], *, title: str, release: str) -> str:
    """The text of a script for one failed question of `data`; empty when none can be made."""
    name = str(question["name"])
    text = question.get("example", {}).get("file")
    if name.startswith("text_") and "<unk>" in str(question["message"]) and isinstance(text, str):
        return render_script("data.py.j2", title=title, release=release, ending="text", text=text)
    if name not in DATA_ENDINGS:
        return ""
    return render_script("data.py.j2", title=title, release=release, ending=name)


def python_literal(value: Any) -> PythonSource:
    """A value as Python spells it, in the order in which it was given."""
    return PythonSource(pprint.pformat(value, width=110, sort_dicts=False))


def quoted(text: str) -> PythonSource:
    """A string literal, in double quotes where that needs no escapes of its own."""
    return PythonSource(json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text))


def docstring(text: str) -> PythonSource:
    """One line that can stand in a docstring."""
    return PythonSource(" ".join(text.replace("\\", "/").replace('"""', "'''").split()))


def is_dotted(text: str) -> bool:
    """Whether a text is a module's path such as `decoder.output_layer`, which can stand within any string."""
    return _DOTTED.fullmatch(text) is not None


def _dotted(text: str) -> PythonSource:
    if not is_dotted(text):
        raise ValueError(f"not the path of a module: {text!r}")
    return PythonSource(text)


def _printed(value: Any) -> PythonSource:
    return value if isinstance(value, PythonSource) else python_literal(value)


@cache
def _environment() -> Environment:
    # Imported here: the command line answers `--help` without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_printed,
    )
    environment.filters.update(quoted=quoted, docstring=docstring, dotted=_dotted)
    environment.globals.update(shown=SHOWN)
    return environment
