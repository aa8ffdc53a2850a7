"""CUDA-equivalence mode: makes a CPU step keep the tensors that a GPU step would keep.

Each difference is a rule of torch itself, read in its documentation and source:

- dropout: on CUDA it is `native_dropout`, which keeps a mask of one byte per value; on the CPU the mask is as large as
  the values (aten/src/ATen/native/Dropout.cpp).
- autocast: on CUDA softmax, norms, losses and sums are computed in float32; on the CPU most of them are not
  (torch's documentation of `torch.amp`, "Autocast Op Reference"). bfloat16 stands in for float16: they have one size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_IN_FLOAT32 = frozenset((
    "acos", "asin", "cosh", "cosine_embedding_loss", "cdist", "cosine_similarity", "cross_entropy", "cumprod",
    "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm", "hinge_embedding_loss", "kl_div", "l1_loss",
    "layer_norm", "log", "log10", "log_softmax", "log1p", "log2", "margin_ranking_loss", "mse_loss",
    "multilabel_margin_loss", "multi_margin_loss", "nll_loss", "norm", "normalize", "pdist", "poisson_nll_loss",
    "pow", "__pow__", "prod", "reciprocal", "rsqrt", "sinh", "smooth_l1_loss", "soft_margin_loss", "softmax",
    "softmin", "softplus", "sum", "renorm", "tan", "triplet_margin_loss", "binary_cross_entropy_with_logits",
    "logsumexp", "ctc_loss",
))  # fmt: skip
"""The functions that CUDA's autocast runs in float32, by their Python names."""
_HALVES = ("torch.float16", "torch.bfloat16")


def _mode() -> Any:
    """The hook that torch calls for each of its functions."""
    import torch
    from torch.overrides import TorchFunctionMode

    class AsOnCuda(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name == "dropout":
                return _dropout(func, args, kwargs)
            if name in _IN_FLOAT32 and torch.is_autocast_cpu_enabled():
                args = tuple(map(_widened, args))
                kwargs = {key: _widened(value) for key, value in kwargs.items()}
            return func(*args, **kwargs)

    return AsOnCuda()


def _dropout(func: Any, args: Any, kwargs: Any) -> Any:
    import torch

    def bound(values: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **other: Any) -> Any:
        # torch.dropout has `train`, torch.nn.functional.dropout has `training`
        if other.get("train", training) and 0.0 < p < 1.0 and not inplace and values.numel():
            return torch.native_dropout(values, p, True)[0]
        return func(*args, **kwargs)

    renamed = {("values" if key == "input" else key): value for key, value in kwargs.items()}
    return bound(*args, **renamed)


def _widened(value: Any) -> Any:
    return value.float() if str(getattr(value, "dtype", "")) in _HALVES else value


@contextlib.contextmanager
def as_on_cuda() -> Iterator[None]:
    """Within it a forward pass keeps the tensors that it would keep on a GPU; CUDA's autocast is the CPU's."""
    import torch

    kind = torch.amp.autocast_mode.autocast
    original = kind.__init__

    def begin(
        self: Any,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", torch.bfloat16
        original(self, device_type, dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)

    kind.__init__ = begin
    try:
        with _mode():
            yield
    finally:
        kind.__init__ = original
