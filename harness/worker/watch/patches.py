"""Where the observers stand: around functions of torch that every trainer calls.

Classes and modules of torch get wrappers with the same signature; no object of the training is changed, so that what
is copied, pickled or saved is the same. The optimizers have hooks of their own for this. In each function `observer` is
the `observer.TrainingObserver`.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Callable

from . import configuration, phases
from .network import unwrapped

_OBSERVED = "_funasr_harness_observed"


def observe_torch(observer: Any) -> None:
    """Observe modes, loaders, clipping, optimizers, gradient scalers and saving; each on its own."""
    guard = observer.guard
    for name, observe in (
        ("forward", observe_modes),
        ("batches", observe_loaders),
        ("clipping", observe_clipping),
        ("steps", observe_optimizers),
        ("scaler", observe_scalers),
        ("checkpoints", observe_saving),
    ):
        guard(name, observe, observer)


def put_back(observer: Any) -> None:
    """Take the observers out of torch again."""
    while observer.undo:
        observer.guard("end", observer.undo.pop())


def _replace(observer: Any, holder: Any, name: str, replacement: Any) -> None:
    """Put a wrapper into a class or module of torch; what others put around it later stays."""
    original = holder.__dict__.get(name)
    setattr(holder, name, replacement)

    def undo() -> None:
        if holder.__dict__.get(name) is not replacement:
            return
        if original is None:
            delattr(holder, name)
        else:
            setattr(holder, name, original)

    observer.undo.append(undo)


def observe_modes(observer: Any) -> None:
    """`Module.train` and `Module.eval`, with which a trainer begins its batches and its validation."""
    import torch

    original, guard = torch.nn.Module.train, observer.guard
    switching = [False]

    @functools.wraps(original)
    def train(self: Any, mode: bool = True) -> Any:
        # A module switches each of its parts, too.
        if switching[0] or observer.inside:
            return original(self, mode)
        switching[0] = True
        try:
            result = original(self, mode)
        finally:
            switching[0] = False
        if observer.own_loop:
            guard("epochs", _own_mode_set, observer, self, mode)
        else:
            frame = configuration.trainer_frame()
            if frame is not None:
                guard("epochs", _mode_set, observer, self, mode, frame)
        return result

    _replace(observer, torch.nn.Module, "train", train)


def _own_mode_set(observer: Any, module: Any, mode: bool) -> None:
    if unwrapped(module)[0] is not observer.network or mode is observer.training:
        return
    if mode:
        observer.validation_ends()
    else:
        observer.evaluation_begins()


def _mode_set(observer: Any, module: Any, mode: bool, frame: Any) -> None:
    name = frame.f_code.co_name
    if "epoch" not in name or (observer.network is not None and unwrapped(module)[0] is not observer.network):
        return
    if not mode:
        if observer.network is not None:
            observer.validation_begins(frame)
    elif "valid" in name:
        observer.validation_ends()
    else:
        observer.epoch_begins(module, frame)


def observe_forward(model_class: Any, observer: Any) -> None:
    """The forward passes of the observed model, by its class."""
    import torch

    forward, guard = model_class.forward, observer.guard
    if getattr(forward, _OBSERVED, False):
        return

    @functools.wraps(forward)
    def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
        if network is not observer.network or observer.inside:
            return forward(network, *args, **kwargs)
        training = network.training and torch.is_grad_enabled()
        guard("forward", observer.forward_begins, training, args, kwargs)
        try:
            output = forward(network, *args, **kwargs)
        except BaseException as error:
            guard("end", observer.endings.failed, error)
            observer.forward_failed()
            raise
        observer.inside = False
        guard("forward", observer.forward_ends, training, output)
        return output

    setattr(watched, _OBSERVED, True)
    _replace(observer, model_class, "forward", watched)


def observe_criterion(criterion_class: Any, observer: Any) -> None:
    """The padded length of the targets that a loss is given."""
    forward, guard = criterion_class.forward, observer.guard
    if getattr(forward, _OBSERVED, False):
        return

    @functools.wraps(forward)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        if observer.inside:
            guard("unigram", _target_of, observer, args, kwargs)
        return forward(self, *args, **kwargs)

    setattr(watched, _OBSERVED, True)
    _replace(observer, criterion_class, "forward", watched)


def _target_of(observer: Any, args: Any, kwargs: Any) -> None:
    observer.target_seen(kwargs["target"] if "target" in kwargs else args[1])


def observe_loaders(observer: Any) -> None:
    """The waiting for a batch, what the batch holds and which rows it has."""
    from torch.utils.data import dataloader

    iterator: Any = dataloader._BaseDataLoaderIter
    following, drawing, guard = iterator.__next__, iterator._next_index, observer.guard

    @functools.wraps(following)
    def __next__(self: Any) -> Any:
        if not observer.training:
            return following(self)
        guard("phases", observer.phases.enter, phases.DATA)
        try:
            batch = following(self)
        except StopIteration:
            guard("batches", observer.loader_ended)
            guard("phases", observer.phases.enter, phases.OTHER)
            raise
        guard("phases", observer.phases.enter, phases.OBSERVERS)
        guard("batches", observer.batches.arrived, self, batch)
        guard("phases", observer.phases.enter, phases.OTHER)
        return batch

    @functools.wraps(drawing)
    def _next_index(self: Any) -> Any:
        indices = drawing(self)
        if observer.training:
            guard("batches", observer.batches.drawn, self, indices)
        return indices

    _replace(observer, iterator, "__next__", __next__)
    _replace(observer, iterator, "_next_index", _next_index)


def observe_clipping(observer: Any) -> None:
    """The norm that `clip_grad_norm_` returns, and its bound."""
    import torch

    original, guard = torch.nn.utils.clip_grad_norm_, observer.guard

    @functools.wraps(original)
    def clip_grad_norm_(*args: Any, **kwargs: Any) -> Any:
        guard("phases", observer.clipping_begins)
        norm = original(*args, **kwargs)
        bound = kwargs["max_norm"] if "max_norm" in kwargs else args[1]
        guard("clipping", observer.clipped, norm, bound)
        return norm

    rebind(observer, original, clip_grad_norm_)


def rebind(observer: Any, original: Callable[..., Any], replacement: Callable[..., Any]) -> None:
    """Replace a function of torch wherever torch or FunASR has bound it."""
    for name, module in list(sys.modules.items()):
        package, attributes = name.partition(".")[0], getattr(module, "__dict__", None) or {}
        if package not in ("torch", "funasr"):
            continue
        names = (
            [original.__name__]
            if package == "torch"
            else [key for key, attribute in attributes.items() if attribute is original]
        )
        for key in names:
            if attributes.get(key) is original:
                _replace(observer, module, key, replacement)


def observe_optimizers(observer: Any) -> None:
    """The steps of all optimizers; those of other models are left out later."""
    from torch.optim import optimizer

    guard = observer.guard

    def stepping(stepping_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        guard("steps", observer.stepping, stepping_optimizer)

    def stepped(stepped_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        guard("steps", observer.stepped, stepped_optimizer)

    if not hasattr(optimizer, "register_optimizer_step_post_hook"):
        _observe_old_optimizers(observer)
        return
    observer.undo.append(optimizer.register_optimizer_step_pre_hook(stepping).remove)
    observer.undo.append(optimizer.register_optimizer_step_post_hook(stepped).remove)


def _observe_old_optimizers(observer: Any) -> None:
    """In torch before 2.0: the steps of each class, before a scheduler binds the step of an optimizer."""
    import torch

    original = torch.optim.Optimizer.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        observer.guard("steps", _observe_steps_of, observer, type(self))
        original(self, *args, **kwargs)

    _replace(observer, torch.optim.Optimizer, "__init__", __init__)


def _observe_steps_of(observer: Any, optimizer_class: Any) -> None:
    step, guard = optimizer_class.step, observer.guard
    if getattr(step, _OBSERVED, False):
        return

    @functools.wraps(step)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard("steps", observer.stepping, self)
        result = step(self, *args, **kwargs)
        guard("steps", observer.stepped, self)
        return result

    setattr(watched, _OBSERVED, True)
    _replace(observer, optimizer_class, "step", watched)


def observe_scalers(observer: Any) -> None:
    """The scale of mixed precision, and the steps that it leaves out."""
    import torch

    scaler: Any = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
    original, guard = scaler.step, observer.guard

    @functools.wraps(original)
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        before = observer.steps
        guard("scaler", observer.scaling, self)
        result = original(self, optimizer, *args, **kwargs)
        guard("scaler", observer.scaled, self, before)
        return result

    _replace(observer, scaler, "step", step)


def observe_saving(observer: Any) -> None:
    """What `torch.save` writes."""
    import torch

    original, guard = torch.save, observer.guard

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        if observer.network is None:
            return original(obj, f, *args, **kwargs)
        guard("validation", observer.end_validation)
        began = guard("phases", observer.saving.begins)
        result = original(obj, f, *args, **kwargs)
        guard("checkpoints", observer.saving.saved, obj, f, began)
        return result

    rebind(observer, original, save)
