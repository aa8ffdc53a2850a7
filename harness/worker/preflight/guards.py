"""Nothing that a user's folder brings is executed while the release builds its model: no code, no pip, no network."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
from typing import Any, NoReturn

_NUMBERS = re.compile(r"[\d\s()\[\],+*.-]*")


class BlockedCall(Exception):
    """The release would have executed something of the user's, or gone to the network."""


noted: list[str] = []
"""What was prevented without ending the measurement."""


def install(install_dir: str) -> None:
    """Put the guards in place, for the rest of this process."""
    noted.clear()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    socket.socket.connect = _refuse("opens a connection")  # type: ignore[method-assign]
    subprocess.Popen = _refuse("starts a program")  # type: ignore[misc]
    os.system = _refuse("starts a program")
    _guard_eval(install_dir)
    _guard_release()
    _guard_loaders()


def _refuse(deed: str) -> Any:
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise BlockedCall(f"the release {deed}, which preflight does not let it")

    return refuse


def _guard_eval(install_dir: str) -> None:
    original = builtins.eval

    def guarded(code: Any, *scopes: Any) -> Any:
        frame = sys._getframe(1)
        if not frame.f_code.co_filename.startswith(install_dir):
            return original(code, *scopes)
        if not (isinstance(code, str) and len(code) < 2000 and _NUMBERS.fullmatch(code) and "**" not in code):
            raise BlockedCall("the release runs a text of the config as Python")
        return original(code, {"__builtins__": {}})

    builtins.eval = guarded


def _guard_release() -> None:
    for name, function, deed in (
        ("funasr.utils.install_model_requirements", "install_requirements", "would run pip install on the folder's"),
        ("funasr.utils.dynamic_import", "import_module_from_path", "would import the folder's code:"),
    ):
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            spec = None
        if spec is not None:
            setattr(importlib.import_module(name), function, _note(deed))


def _note(deed: str) -> Any:
    def note(path: Any = "", *_args: Any, **_kwargs: Any) -> None:
        noted.append(f"{deed} {os.path.basename(str(path))}")  # noqa: PTH119 - a text of the config

    return note


def _guard_loaders() -> None:
    import numpy
    import torch

    torch.jit.load = _refuse("runs a TorchScript program")
    load = numpy.load

    def without_pickles(*args: Any, **kwargs: Any) -> Any:
        return load(*args[:2], **{**kwargs, "allow_pickle": False})

    numpy.load = without_pickles
    if "transformers" in sys.modules:
        dynamic = importlib.import_module("transformers.dynamic_module_utils")
        for function in ("get_class_from_dynamic_module", "get_class_in_module"):
            setattr(dynamic, function, _refuse("runs a model's own code"))
    else:
        sys.modules["transformers"] = None  # type: ignore[assignment]
