"""What each tensor of a checkpoint becomes in the model that the release's own trainer builds from a user's config.

The release's `main` runs with the user's settings until its trainer would be made. Its loader gets the checkpoint's
tensors without their numbers (on torch's meta device), each marked with its name: what the loader hands to the model is
read off the marks. Nothing is modelled: scopes, exclusions and mismatches are the release's own.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.preflight import guards
from harness.worker.process import failures
from harness.worker.release import model as models

_MARK = "_preflight_source"
_MOST_NAMED = 5000


class _Reached(BaseException):
    """The model stands, with what the checkpoint gave it."""


class Unloadable(Exception):
    """The checkpoint cannot be read without executing it, or not at all."""


@dataclass
class _Observed:
    """What was seen on the way."""

    stage: str = "files"
    network: Any = None
    random_start: bool = False
    shapes: dict[str, list[int]] = field(default_factory=dict)
    fates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By tensor of the model the mark of the checkpoint's: the file's number and the keys, as `("0", "state_dict",
    "encoder.…")`."""
    loads: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    """Of the checkpoints, by mark."""
    facts: dict[str, Any] = field(default_factory=dict)


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement `preflight.tensors`.

    Args:
        request: `model`, `overrides` (pairs of a dotted key and its value), `entry`, `root`, `config` (a path where the
            command gives the whole config itself, else empty).
    """
    install_dir = request["release"]["install_dir"]
    module = importlib.import_module(f"funasr.bin.{request['entry']}")
    guards.install(install_dir)
    observed, failure = _Observed(), None
    with tempfile.TemporaryDirectory() as out, contextlib.chdir(request["root"]):
        _watch(module, observed)
        try:
            _run(module, request, out, observed)
        except (_Reached, SystemExit):
            pass
        except Exception as error:
            failure = {**failures.describe(error, install_dir), "stage": observed.stage, "ours": type(error).__name__}
        saved = _saved(Path(out))
    answer = {**_answer(observed), "failure": failure, "saved": saved, "prevented": guards.noted}
    return {"status": "passed", "reason": "", "evidence": {"preflight": answer}}


def _run(module: Any, request: Mapping[str, Any], out: str, observed: _Observed) -> None:
    """`main_hydra` without hydra, up to the trainer."""
    from omegaconf import OmegaConf

    kwargs: Any
    overrides = OmegaConf.create({})
    for path, value in request["overrides"]:
        OmegaConf.update(overrides, path, value, force_add=True)
    if request["config"]:
        kwargs = OmegaConf.merge(OmegaConf.load(request["config"]), overrides)
    else:
        kwargs = OmegaConf.merge({"model": request["model"]}, overrides)
        kwargs["model"] = request["model"]
    kwargs = {**kwargs, "output_dir": out}
    if "model_conf" not in kwargs:
        kwargs = module.download_model(is_training=kwargs.get("is_training", True), **kwargs)
    observed.stage = "model"
    observed.facts["files"] = {path: _get(kwargs, path) for path in request["files"]}
    # Several processes, and 1.0.6 to 1.3.1 run the text of freeze_param.
    kwargs = {name: value for name, value in dict(kwargs).items() if name not in _NOT_PASSED}
    module.main(**{**kwargs, "device": "cpu", "disable_update": True, "output_dir": out})


_NOT_PASSED = ("freeze_param", "lora_only", "use_ddp", "use_fsdp", "use_deepspeed", "debug", "trust_remote_code")


def _get(tree: Any, path: str) -> Any:
    for part in path.split("."):
        if not hasattr(tree, "get"):
            return None
        tree = tree.get(part)
    return parts_of(tree) if isinstance(tree, str) else None if tree is None else [str(tree)[:500]]


def parts_of(path: str) -> list[str]:
    """A path's parts: an outcome's texts name no path of this machine."""
    return path.split("/")


def _watch(module: Any, observed: _Observed) -> None:
    import torch

    load = torch.load
    loader = sys.modules.get("funasr.train_utils.load_pretrained_model")
    original = getattr(loader, "load_pretrained_model", None)

    def reached(*_args: Any, **_kwargs: Any) -> None:
        raise _Reached

    class Stops:
        __contains__ = __getitem__ = get = reached

    def checked_load(path: Any, *args: Any, **kwargs: Any) -> Any:
        if observed.stage != "weights":
            return load(path, *args, **{**kwargs, "weights_only": True})
        bare = _without_numbers(load, str(path))
        observed.facts["not_finite"] = _not_finite(load, str(path))
        return _marked(bare, str(len(observed.loads) - 1), observed)

    def watched(*args: Any, **kwargs: Any) -> None:
        assert original is not None
        _load_into(original, args, kwargs, observed)

    # An argument that is given twice is an error of the call, whose message names the function.
    reached.__module__ = getattr(getattr(module, "Trainer", None), "__module__", "funasr")
    reached.__qualname__ = "Trainer"
    module.Trainer, module.optim_classes = reached, Stops()
    module.model_summary = lambda _model: ""
    if hasattr(module, "initialize"):
        module.initialize = lambda network, *_: _keep(network, observed)
    for name, loaded in list(sys.modules.items()):
        if name.startswith("funasr.") and original and vars(loaded).get("load_pretrained_model") is original:
            loaded.load_pretrained_model = watched  # type: ignore[attr-defined]
    torch.load = checked_load
    _skip_initialisation()
    _watch_models(observed)


def _skip_initialisation() -> None:
    """Numbers that nobody looks at are not drawn: a model of 220 million parameters stands in two seconds."""
    import torch

    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_"):
            setattr(torch.nn.init, name, lambda tensor, *_args, **_kwargs: tensor)


def _watch_models(observed: _Observed) -> None:
    """Keep the model whatever comes of its weights: the class's constructor is the release's."""
    from funasr.register import tables

    def keeping(kind: Any) -> Callable[..., Any]:
        def construct(*args: Any, **kwargs: Any) -> Any:
            observed.facts.setdefault("vocabulary", _size(kwargs.get("vocab_size")))
            observed.facts.setdefault("features", _size(kwargs.get("input_size")))
            network = kind(*args, **kwargs)
            _keep(network, observed)
            observed.stage = "start"
            return network

        return construct

    original_classes = tables.model_classes

    class Watched(dict):  # type: ignore[type-arg]
        def get(self, key: Any, default: Any = None) -> Any:
            kind = super().get(key, default)
            return keeping(kind) if isinstance(kind, type) and observed.network is None else kind

    tables.model_classes = Watched(original_classes)


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _keep(network: Any, observed: _Observed) -> None:
    observed.network = network


def _load_into(original: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], observed: _Observed) -> None:
    network = kwargs.get("model", args[1] if len(args) > 1 else None)
    path = str(kwargs.get("path", args[0] if args else ""))
    observed.stage = "weights"
    _prepare(network, observed)
    observed.loads.append(
        {"path": parts_of(path), **{name: _plain(kwargs.get(name)) for name in ("scope_map", "excludes")}}
    )
    observed.loads[-1]["ignore_init_mismatch"] = kwargs.get("ignore_init_mismatch", True)
    take = type(network).load_state_dict

    def watched(state: Mapping[str, Any], *more: Any, **named: Any) -> Any:
        answer = take(network, state, *more, **named)
        for name, tensor in state.items():
            if mark := getattr(tensor, _MARK, None):
                observed.fates[name] = mark
        return answer

    network.load_state_dict = watched
    try:
        original(*args, **kwargs)
    finally:
        del network.load_state_dict
    observed.stage = "loaded"


def _prepare(network: Any, observed: _Observed) -> None:
    """To the meta device, where it takes no memory; and nothing sends it elsewhere."""
    if not observed.shapes:
        observed.facts["shared"] = _shared(network)
        observed.facts.update(_described(network))
        type(network).to(network, "meta")
        observed.shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        network.to = lambda *_args, **_kwargs: network


def _plain(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list | tuple) else None if value is None else str(value)


def _without_numbers(load: Callable[..., Any], path: str) -> Any:
    descriptor = os.stat(path)  # noqa: PTH116 - a text of the config
    if not stat.S_ISREG(descriptor.st_mode):
        raise Unloadable("no regular file")
    return _loaded(load, path, "meta")


def _loaded(load: Callable[..., Any], path: str, device: str) -> Any:
    """Mapped where its form allows it.

    Raises:
        Unloadable: it cannot be loaded.
    """
    import torch

    try:
        try:
            return load(path, map_location=device, weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return load(path, map_location=torch.device(device), weights_only=True)
    except Exception as error:
        raise Unloadable(f"{type(error).__name__}: {' '.join(str(error).split())[:1500]}") from error


_MOST_READ = 3 << 30


def _not_finite(load: Callable[..., Any], path: str) -> list[str]:
    """The tensors with a number that is none; of files that are too large nothing is read.

    Raises:
        Unloadable: a part of the file is missing, which shows where numbers are read.
    """
    import torch

    if os.stat(path).st_size > _MOST_READ:  # noqa: PTH116 - a text of the config
        return []
    return [
        name
        for name, tensor in _tensors(_loaded(load, path, "cpu"))
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float32))
    ]


def _tensors(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(content, torch.Tensor):
        yield above, content.detach()
    elif isinstance(content, dict) and above.count("/") < 3:
        for key, value in content.items():
            if not (isinstance(value, dict) and "optim" in str(key)):
                yield from _tensors(value, f"{above}/{key}" if above else str(key))


def _marked(content: Any, file: str, observed: _Observed, above: tuple[str, ...] = ()) -> Any:
    """The same with each tensor marked with where it came from."""
    import torch

    if isinstance(content, torch.Tensor):
        plain = content.detach()
        mark = (file, *above)
        setattr(plain, _MARK, mark)
        observed.tensors[mark] = {"shape": list(plain.shape), "type": str(plain.dtype).removeprefix("torch.")}
        return plain
    if isinstance(content, dict) and len(above) < 3:
        if not above and any(isinstance(value, dict) for value in content.values()):
            observed.facts["keys"] = sorted(str(key) for key in content)[:40]
        for key in list(content):
            content[key] = _marked(content[key], file, observed, (*above, str(key)))
    return content


def _shared(network: Any) -> list[list[str]]:
    """Names of tensors that are one, such as tied embeddings."""
    by_place: dict[int, list[str]] = {}
    for name, tensor in network.state_dict().items():
        if tensor.numel():
            by_place.setdefault(tensor.data_ptr(), []).append(name)
    return [names for names in by_place.values() if len(names) > 1]


def _described(network: Any) -> dict[str, Any]:
    import torch

    return {
        "class": type(network).__name__,
        "outputs": {name: layer.out_features for name, layer in models.projections(network)},
        "losses": {name: loss.size for name, loss in models.losses(network)},
        "embeddings": {
            name: module.num_embeddings
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.Embedding)
        },
        "parameters": [name for name, _ in network.named_parameters()],
        "unused": _unused(network),
        "attributes": {
            name: getattr(network, name)
            for name in ("vocab_size", "blank_id", "sos", "eos", "ignore_id", "NO_BIAS")
            if isinstance(getattr(network, name, None), int)
        },
    }


def _unused(network: Any) -> list[str]:
    """The model's parts that its classes set and never read: SeACo's `bias_embed` of 1.0.6 is one."""
    code = ""
    for kind in type(network).__mro__:
        if kind.__module__.startswith("funasr."):
            with contextlib.suppress(OSError, TypeError):
                code += inspect.getsource(kind)
    return [
        name
        for name, _ in network.named_children()
        if re.search(rf"self\.{name}\s*=[^=]", code) and not re.search(rf"self\.{name}\b(?!\s*=[^=])", code)
    ]


def _saved(out: Path) -> dict[str, Any]:
    """What the trainer has put into its output folder before its first step."""
    import yaml

    names = sorted(path.name for path in out.iterdir())
    config: Any = {}
    with contextlib.suppress(Exception):
        config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8")) or {}
    keys = ("init_param", "tokenizer_conf.token_list", "tokenizer_conf.seg_dict", "tokenizer_conf.bpemodel")
    return {"files": names, "paths": {key: _get(config, key) for key in (*keys, "frontend_conf.cmvn_file")}}


def _answer(observed: _Observed) -> dict[str, Any]:
    if observed.network is not None and not observed.shapes:
        _prepare(observed.network, observed)
    marks_loaded = set(observed.fates.values())
    return {
        "stage": observed.stage,
        "facts": observed.facts,
        "loads": observed.loads,
        "model": [
            {"name": name, "shape": shape, "source": list(observed.fates.get(name, ()))}
            for name, shape in observed.shapes.items()
        ],
        "checkpoint": [
            {"mark": list(mark), **content, "taken": mark in marks_loaded} for mark, content in _few(observed.tensors)
        ],
    }


def _few(tensors: Mapping[tuple[str, ...], dict[str, Any]]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield from list(tensors.items())[: 4 * _MOST_NAMED]
