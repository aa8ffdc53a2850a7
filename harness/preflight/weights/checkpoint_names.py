"""Names and shapes of a checkpoint's tensors, read without torch: nothing in the file is imported, called or loaded."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_BYTES = 32 << 20
"""Of the pickle, which holds the names and not the numbers; 220 million parameters have some 200 kB."""
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys below which trainers keep the weights."""


@dataclass(frozen=True, kw_only=True)
class CheckpointNames:
    """What a checkpoint contains."""

    keys: tuple[str, ...] = ()
    """At its top."""
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes by name, at its top."""
    within: Mapping[str, CheckpointNames] = field(default_factory=dict)
    """By key, the dictionaries at its top that hold tensors."""

    def unwrapped(self, keys: tuple[str, ...]) -> CheckpointNames:
        """What a loader finds that looks for these keys one after the other."""
        names = self
        for key in keys:
            names = names.within.get(key, names)
        return names


def checkpoint_names(path: Path) -> CheckpointNames | None:
    """The names in a file of `torch.save`; None where it is another file, or cannot be read so."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(
                (entry for entry in archive.infolist() if entry.filename.partition("/")[2] == "data.pkl"), None
            )
            if member is None or member.file_size > MOST_BYTES:
                return None
            content = archive.read(member)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return None
    try:
        unpickled = _Names(io.BytesIO(content)).load()
    except Exception:
        return None
    return _names_of(unpickled, depth=0) if isinstance(unpickled, dict) else None


def _names_of(content: Mapping[Any, Any], depth: int) -> CheckpointNames:
    tensors = {str(key): value.shape for key, value in content.items() if isinstance(value, _Tensor)}
    inner = {
        str(key): _names_of(value, depth + 1) for key, value in content.items() if isinstance(value, dict) and depth < 3
    }
    within = {key: inner_names for key, inner_names in inner.items() if inner_names.tensors or inner_names.within}
    return CheckpointNames(keys=tuple(map(str, content)), tensors=tensors, within=within)


class _Object:
    """Stands in for whatever the pickle names or makes; it does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Dict(dict[Any, Any]):
    """An `OrderedDict` of the pickle, whatever attributes it sets."""

    def __setstate__(self, _: Any) -> None:
        pass


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]

    def __setstate__(self, _: Any) -> None:
        pass


def _tensor(_storage: Any, _offset: Any, size: Any, *_: Any) -> _Tensor:
    """In the place of `torch._utils._rebuild_tensor_v2`."""
    return _Tensor(
        tuple(dimension for dimension in size if isinstance(dimension, int)) if isinstance(size, tuple) else ()
    )


def _parameter(data: Any, *_: Any) -> Any:
    return data


_TAKEN = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Names(pickle.Unpickler):
    """Puts objects of its own in the place of everything that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        return _TAKEN.get((module, name), _Object)

    def persistent_load(self, _: Any) -> None:
        return None
