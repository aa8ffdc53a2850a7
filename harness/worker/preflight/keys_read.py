"""Which settings a release reads while it builds model, data and trainer: recorded by dictionaries that note it.

`**` makes a plain dictionary of any other, so a trace function puts a recording one in its place at each call; it
knows the section by a mark among its keys. Up to Python 3.12 what a trace function changes among a function's
variables is in force.
"""

from __future__ import annotations

import copy
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from harness.worker.release import importer
from harness.worker.trainer import launch

_MARK = "__section__"
_STOPS = frozenset({"train_epoch", "_train_epoch"})
_ROW = {
    "key": "row",
    "source": "none.wav",
    "source_len": 100,
    "target": "一",
    "target_len": 1,
    "prompt": "<ASR>",
    "text_language": "<|zh|>",
    "emo_target": "<|NEUTRAL|>",
    "event_target": "<|Speech|>",
    "with_or_wo_itn": "<|woitn|>",
}


class _Stop(BaseException):
    """The first step would come now."""


class _Recording(dict[str, Any]):
    """A section of the settings, or several in one, that records the keys that are read."""

    def __init__(self, values: Mapping[str, Any], paths: frozenset[str], read: set[str]) -> None:
        super().__init__(values)
        self.paths, self.read = paths, read

    def _note(self, key: object) -> None:
        if isinstance(key, str) and not key.startswith(_MARK):
            self.read.update(f"{path}.{key}" if path else key for path in self.paths)

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Note the key."""
        self._note(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Note the key."""
        self._note(key)
        return super().pop(key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Note the key."""
        self._note(key)
        return super().setdefault(key, default)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def copy(self) -> _Recording:
        """Another of the same sections."""
        return _Recording(self, self.paths, self.read)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Recording:
        return _Recording({key: copy.deepcopy(value, memo) for key, value in self.items()}, self.paths, self.read)


class _Tracer:
    """Puts recording dictionaries in the place of plain ones, and ends before the first step."""

    def __init__(self, install_dir: str, entry: str, plain: frozenset[str]) -> None:
        self.package, self.plain = f"{install_dir}/funasr/", plain
        self.main = f"{self.package}bin/{entry}.py"
        self.read: set[str] = set()

    def marked(self, values: Mapping[str, Any], path: str) -> _Recording:
        """A section with its sections as recording dictionaries."""
        sections = {
            key: self.marked(value, f"{path}.{key}" if path else key)
            if isinstance(value, Mapping) and (f"{path}.{key}" if path else key) not in self.plain
            else value
            for key, value in values.items()
        }
        return _Recording({**sections, f"{_MARK}{path}": True}, frozenset([path]), self.read)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self.package):
            return
        if code.co_name in _STOPS and "/train_utils/" in code.co_filename:
            raise _Stop
        if not code.co_flags & inspect.CO_VARKEYWORDS:
            return
        named = code.co_argcount + code.co_kwonlyargcount
        kwargs_name = code.co_varnames[named + bool(code.co_flags & inspect.CO_VARARGS)]
        kwargs = frame.f_locals.get(kwargs_name)
        if not isinstance(kwargs, dict) or isinstance(kwargs, _Recording):
            return
        if code.co_name == "main" and code.co_filename == self.main:
            frame.f_locals[kwargs_name] = self.marked(kwargs, "")
            return
        paths = frozenset(key[len(_MARK) :] for key in dict.keys(kwargs) if key.startswith(_MARK))
        if paths:
            parameters = code.co_varnames[:named]
            self.read.update(f"{path}.{name}" if path else name for path in paths for name in parameters)
            frame.f_locals[kwargs_name] = _Recording(kwargs, paths, self.read)


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted keys that were read up to the first step, and how it ended: `stopped` where all was built."""
    install_dir = request["release"]["install_dir"]
    settings = json.loads(request["settings"])
    launch.import_model_class(install_dir, settings["class"])
    from omegaconf import OmegaConf

    work_folder = Path.cwd()
    rows = launch.write_rows([_ROW] * 4, work_folder / "rows.jsonl")
    (work_folder / "start.pt").touch()
    setattr(OmegaConf, "save", lambda *_, **__: None)  # noqa: B010 - mypy refuses to replace a method
    for name in ("load_pretrained_model",):
        original = getattr(sys.modules[f"funasr.train_utils.{name}"], name)
        importer.rebind(original, lambda *_, **__: None)
    overrides = {
        **settings["overrides"],
        **{f"{name}_data_set_list": str(rows) for name in ("train", "valid")},
        **{"init_param": str(work_folder / "start.pt"), "output_dir": str(work_folder / "exp"), "device": "cpu"},
    }
    tracer = _Tracer(install_dir, request["entry"], frozenset(settings["plain"]))
    ended = _ended(tracer, request["entry"], overrides)
    return {
        "status": "passed",
        "reason": "",
        "evidence": {"preflight": {"read": sorted(tracer.read), "ended": ended}},
    }


def _ended(tracer: _Tracer, entry: str, overrides: Mapping[str, Any]) -> str:
    sys.settrace(tracer)
    try:
        launch.run_trainer(entry, overrides)
    except _Stop:
        return "stopped"
    except BaseException as error:
        # hydra ends the process where a training raises.
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        sys.settrace(None)
    return "finished"
