"""Records all calls of modules and of the release's functions, in the order in which they began.

Module calls are hooked in `torch.nn.Module.__call__`, the release's own functions by Python's profiling hook. Neither
changes what is computed: tensors are only read, and no random number is drawn.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import CodeType, FrameType, TracebackType
from typing import Any

from harness.worker.record.tracing import summaries as networks
from harness.worker.record.tracing.summaries import SourceLocations, bind_arguments, summary

MOST_OF_A_FUNCTION = 12
"""Recorded calls of one function per pass; further calls in a loop add nothing."""
MOST_BUILT = 600
MOST_CALLS = 6000


@dataclass
class RecordedPass:
    """One call of the model."""

    number: int
    """Index among the training forward passes, from 0."""
    whole: bool
    """Whether values are recorded, and not only shapes."""
    training: bool
    calls: list[dict[str, Any]] = field(default_factory=list)
    raised: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    gradients: dict[str, Any] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    """The calls that have begun and not ended, outermost first."""
    frames: dict[int, tuple[CodeType, int]] = field(default_factory=dict)
    """The record of each frame, by the frame's identity."""
    times: Counter[CodeType] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the recording."""
        names = ("number", "whole", "training", "raised", "calls", "weights", "gradients")
        return {name: getattr(self, name) for name in names}


class CallRecorder:
    """Records this process from `start` on; `to_dict` returns plain data at any time."""

    def __init__(self, install_dir: str, model_class: str, passes_wanted: Collection[int]) -> None:
        self._places = SourceLocations(install_dir)
        self._model_class = model_class
        self._wanted = frozenset(passes_wanted)
        self._executed: Counter[CodeType] = Counter()
        self._modules: list[dict[str, Any]] = []
        self._built: list[dict[str, Any]] = []
        self._building: list[tuple[FrameType, int]] = []
        self._passes: list[RecordedPass] = []
        self._current: RecordedPass | None = None
        self._expected: Any = None
        """The module whose forward is about to begin."""
        self._names: dict[int, str] = {}
        self._count = 0
        self._busy = False
        self.network: Any = None
        self._original: Callable[..., Any] | None = None

    def start(self) -> None:
        """Install the hooks."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        recorder, original = self, torch.nn.Module.__call__
        self._original = original

        def called(module: Any, *args: Any, **kwargs: Any) -> Any:
            return recorder._called(original, module, args, kwargs)

        torch.nn.Module.__call__ = called
        register_optimizer_step_pre_hook(self._stepping)
        sys.setprofile(self._profile)

    def stop(self) -> None:
        """Remove the hooks."""
        import torch

        sys.setprofile(None)
        if self._original is not None:
            torch.nn.Module.__call__ = self._original

    def to_dict(self) -> dict[str, Any]:
        """Everything that was recorded so far."""
        self.note_gradients()
        return {
            "schema": 1,
            "model": self._model_class,
            "modules": self._modules,
            "built": self._built,
            "passes": [recorded.to_dict() for recorded in self._passes],
            "functions": [
                {**place, "times": times}
                for code, times in self._executed.items()
                if (place := self._places.function(code)) is not None
            ],
        }

    def note_structure(self, network: Any) -> None:
        """Record the structure of the first model."""
        if self.network is None:
            self.network, self._modules = network, networks.modules(network, self._places)

    def note_gradients(self) -> None:
        """Record the gradients of the last recorded pass, once, if there are any."""
        complete = [recorded for recorded in self._passes if recorded.whole and recorded.training]
        if self.network is None or not complete or complete[-1].gradients or complete[-1].raised:
            return
        if any(parameter.grad is not None for parameter in self.network.parameters()):
            complete[-1].gradients = networks.gradients(self.network)

    def _stepping(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self._count - 1 in self._wanted:
            self.note_gradients()

    # --- modules ------------------------------------------------------------------------------------------------

    def _called(self, original: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._current is None:
            if type(module).__name__ != self._model_class:
                return original(module, *args, **kwargs)
            return self._whole_pass(original, module, args, kwargs)
        index = self._begin_module(self._current, module, args, kwargs)
        if index is None:
            return original(module, *args, **kwargs)
        try:
            output = original(module, *args, **kwargs)
        except BaseException as error:
            self._end(self._current, index, raised=type(error).__name__)
            raise
        self._end(self._current, index, output=output)
        return output

    def _whole_pass(self, original: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        training = bool(module.training and torch.is_grad_enabled())
        number = self._count if training else -1
        recorded = RecordedPass(number=number, whole=training and number in self._wanted, training=training)
        self._busy = True
        self.note_structure(module)
        self._names = {id(submodule): name for name, submodule in module.named_modules()}
        if recorded.whole:
            recorded.weights = networks.weights(module)
        self._busy = False
        self._count += training
        self._current = recorded
        index = self._begin_module(recorded, module, args, kwargs)
        try:
            output = original(module, *args, **kwargs)
        except BaseException as error:
            recorded.raised = type(error).__name__
            if index is not None:
                self._end(recorded, index, raised=recorded.raised)
            self._mark(recorded, error.__traceback__)
            self._passes.append(recorded)
            raise
        else:
            if index is not None:
                self._end(recorded, index, output=output)
            if recorded.whole:
                self._passes.append(recorded)
            return output
        finally:
            self._current = None

    def _begin_module(
        self, recorded: RecordedPass, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int | None:
        if len(recorded.calls) >= MOST_CALLS:
            return None
        self._busy = True
        try:
            arguments, problem = bind_arguments(module.forward, args, kwargs)
            kind = type(module)
            record = {
                "kind": "module",
                "name": self._names.get(id(module), f"<{kind.__name__}>"),
                "class": kind.__name__,
                **(self._places.of_class(kind) or {"file": "", "line": 0, "function": f"{kind.__name__}.forward"}),
                "caller": self._places.call(sys._getframe(1)),
                "arguments": self._arguments(arguments, with_values=recorded.whole),
                "binding_error": problem,
                "drawn": _drawn() if recorded.whole else "",
            }
            self._expected = module
            return self._add(recorded, record)
        finally:
            self._busy = False

    def _arguments(self, arguments: list[tuple[str, str, Any]], *, with_values: bool) -> list[dict[str, Any]]:
        return [
            {"parameter": parameter, "how": passed_as, "value": summary(value, with_values=with_values)}
            for parameter, passed_as, value in arguments
        ]

    def _add(self, recorded: RecordedPass, record: dict[str, Any]) -> int:
        record |= {
            "parent": recorded.open[-1] if recorded.open else None,
            "ended": False,
            "raised": None,
            "output": None,
        }
        recorded.calls.append(record)
        recorded.open.append(len(recorded.calls) - 1)
        return len(recorded.calls) - 1

    def _end(self, recorded: RecordedPass, index: int, *, output: Any = None, raised: str | None = None) -> None:
        while recorded.open and recorded.open[-1] >= index:
            recorded.open.pop()
        record = recorded.calls[index]
        if raised:
            record["raised"] = raised
            return
        self._busy = True
        record["ended"], record["output"] = True, summary(output, with_values=recorded.whole)
        self._busy = False

    # --- functions ----------------------------------------------------------------------------------------------

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if self._busy or event not in ("call", "return"):
            return
        code = frame.f_code
        place = self._places.function(code)
        if place is None:
            return
        if event == "call":
            self._executed[code] += 1
            if self._current is not None:
                self._begin_function(self._current, frame, place)
            elif code.co_name == "__init__" and len(self._built) < MOST_BUILT:
                self._building_begins(frame, place)
        elif self._current is not None:
            self._function_ends(self._current, frame, argument)

    def _begin_function(self, recorded: RecordedPass, frame: FrameType, place: dict[str, Any]) -> None:
        code, expected = frame.f_code, self._expected
        if expected is not None and code.co_name == "forward":
            self._expected = None
            if frame.f_locals.get(code.co_varnames[0] if code.co_varnames else "") is expected:
                return
        recorded.times[code] += 1
        if recorded.times[code] > MOST_OF_A_FUNCTION or len(recorded.calls) >= MOST_CALLS:
            return
        self._busy = True
        record = {
            "kind": "function",
            "name": place["function"],
            "class": "",
            **{key: place[key] for key in ("file", "line", "function")},
            "caller": self._places.call(frame.f_back),
            "arguments": self._arguments(_locals(frame), with_values=recorded.whole),
            "binding_error": "",
            "drawn": _drawn() if recorded.whole else "",
        }
        recorded.frames[id(frame)] = (code, self._add(recorded, record))
        self._busy = False

    def _function_ends(self, recorded: RecordedPass, frame: FrameType, result: Any) -> None:
        code, index = recorded.frames.get(id(frame), (None, -1))
        if code is frame.f_code and index in recorded.open:
            self._end(recorded, index, output=result)

    def _mark(self, recorded: RecordedPass, trace: TracebackType | None) -> None:
        """Mark calls that an exception passed through: the profiling hook sees them return None."""
        while trace is not None:
            code, index = recorded.frames.get(id(trace.tb_frame), (None, -1))
            if code is trace.tb_frame.f_code:
                recorded.calls[index] |= {"ended": False, "output": None, "raised": recorded.raised}
            trace = trace.tb_next

    def _building_begins(self, frame: FrameType, place: dict[str, Any]) -> None:
        """Record the construction of an object of the release, with its arguments."""
        self._busy = True
        owner = frame.f_locals.get(frame.f_code.co_varnames[0] if frame.f_code.co_varnames else "")
        self._built.append(
            {
                "class": type(owner).__name__,
                **{key: place[key] for key in ("file", "line", "function")},
                "caller": self._places.call(frame.f_back),
                "arguments": self._arguments(_locals(frame), with_values=False),
            }
        )
        self._busy = False


def _locals(frame: FrameType) -> list[tuple[str, str, Any]]:
    """The arguments of a function that has just begun; how they were passed is unknown."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[:count])
    values = frame.f_locals
    arguments = [(name, "", values[name]) for name in names if name in values and name not in ("self", "cls")]
    further_names = list(code.co_varnames[count:])
    if code.co_flags & 0x04 and further_names:
        name = further_names.pop(0)
        arguments += [(f"*{name}[{place}]", "", value) for place, value in enumerate(values.get(name, ()))]
    if code.co_flags & 0x08 and further_names:
        arguments += [(key, f"**{further_names[0]}", value) for key, value in values.get(further_names[0], {}).items()]
    return arguments


def _drawn() -> str:
    """The state of torch's generator: equal in two runs that have drawn the same."""
    import torch

    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:8]
