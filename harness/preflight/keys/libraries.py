"""What functions of other libraries do with settings: torch's optimizers take fixed parameters, logging reads none."""

from __future__ import annotations

import ast
from operator import itemgetter

from harness.preflight.keys.denoted import (
    NOTHING,
    Arguments,
    ConstantDict,
    Scope,
    Several,
    Value,
    all_within,
    confs,
    united,
)
from harness.preflight.keys.reader import Reader
from harness.preflight.keys.reading import Fixed

_SAME = frozenset(
    {
        *("dict", "list", "tuple", "str", "sorted", "set", "copy.copy", "copy.deepcopy", "copy", "deepcopy"),
        *("omegaconf.OmegaConf.merge", "omegaconf.OmegaConf.to_container", "omegaconf.OmegaConf.create"),
        *("omegaconf.DictConfig", "argparse.Namespace", "types.SimpleNamespace", "os.path.join", "eval"),
    }
)
"""They return what they are given, as far as settings are concerned."""

_READ_NOTHING = frozenset(
    {
        *("print", "len", "isinstance", "type", "int", "float", "bool", "range", "max", "min", "super", "id", "abs"),
        *("hasattr", "repr", "open", "issubclass", "round", "any", "all", "sum", "enumerate", "zip", "setattr"),
        *("omegaconf.OmegaConf.save", "omegaconf.OmegaConf.load", "json.dump", "json.dumps", "yaml.dump"),
    }
)
_QUIET = ("logging.", "os.", "wandb.", "torch.distributed.", "torch.cuda.", "shutil.", "time.", "re.", "warnings.")

_COMMON = ("foreach", "maximize", "capturable", "differentiable")
OPTIMIZERS = {
    "Adam": ("lr", "betas", "eps", "weight_decay", "amsgrad", "fused", "decoupled_weight_decay", *_COMMON),
    "AdamW": ("lr", "betas", "eps", "weight_decay", "amsgrad", "fused", *_COMMON),
    "SGD": (
        "lr",
        "momentum",
        "dampening",
        "weight_decay",
        "nesterov",
        "fused",
        "foreach",
        "maximize",
        "differentiable",
    ),
    "Adadelta": ("lr", "rho", "eps", "weight_decay", *_COMMON),
    "Adagrad": ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "fused", *_COMMON),
    "Adamax": ("lr", "betas", "eps", "weight_decay", *_COMMON),
    "ASGD": ("lr", "lambd", "alpha", "t0", "weight_decay", *_COMMON),
    "LBFGS": ("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size", "line_search_fn"),
    "RMSprop": ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", *_COMMON),
    "Rprop": ("lr", "etas", "step_sizes", *_COMMON),
}
"""Parameters of torch's optimizers, of any version since 2.0."""


def apply(
    reader: Reader,
    name: str,
    call_arguments: Arguments,
    node: ast.Call,
    scope: Scope,
    signatures: list[Fixed | None],
) -> Value:
    """What a function of another library returns, and which sections it may read."""
    everything = united([*call_arguments.positional, *call_arguments.named.values(), call_arguments.spread])
    kind = name.rpartition(".")[2]
    if name.startswith("torch.optim.") and kind in OPTIMIZERS:
        takes = OPTIMIZERS[kind]
        for conf in confs(call_arguments.spread):
            for key in takes:
                reader.read_key(conf, key, module=scope.module, node=node)
        signatures.append(Fixed(callee=name, takes=takes, where=reader.where(scope.module, node)))
        return NOTHING
    signatures.append(None)
    if name in _SAME or f"omegaconf.{name}" in _SAME:
        return _joined(call_arguments)
    if name not in _READ_NOTHING and not name.startswith(_QUIET):
        reader.goes_on(all_within(everything), scope.module, node)
    return NOTHING


def _joined(call_arguments: Arguments) -> Value:
    """All mappings that were given as one; what was given by name is an item of it."""
    listed = united(call_arguments.positional)
    joined: Value = frozenset(atom for atom in listed | call_arguments.spread if not isinstance(atom, Several))
    joined |= united(item for atom in listed if isinstance(atom, Several) for item in atom.items)
    items = tuple(sorted(((name, value) for name, value in call_arguments.named.items() if value), key=itemgetter(0)))
    return joined | (frozenset([ConstantDict(items)]) if items else NOTHING)
