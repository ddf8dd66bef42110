"""Half precision on CPUs that have no arithmetic for it: the heavy operators compute in float and round.

    _convolution(x half, w half) half    ->    half(_convolution(float(x), float(w)))

PyTorch's own half kernels take minutes for one call of a UNet there. Products are summed in float here,
as GPUs do; the operators themselves, and so what is traced, stay those of half precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_aten = torch.ops.aten
_HEAVY = frozenset(
    (
        _aten.convolution.default,
        _aten._convolution.default,
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
    )
)
# Arguments of _convolution after those of convolution: benchmark, deterministic, cudnn_enabled, allow_tf32.
_CONVOLUTION_FLAGS = (False, False, True, True)


def computing(module: Any) -> AbstractContextManager[Any]:
    """A context in which `module`, its trace and its script run as fast as in float."""
    halves = any(parameter.dtype == torch.float16 for parameter in module.parameters())
    return _HalfInFloat() if halves else nullcontext()


class _HalfInFloat(TorchDispatchMode):
    """Sees every operator below the tracer."""

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if operator is _aten.convolution.default and torch._C._get_tracing_state() is not None:
            # The tracer leaves `convolution` out and records the `_convolution` that it calls.
            with self, _recorded():
                return _aten._convolution.default(*args, *_CONVOLUTION_FLAGS, **named)
        if operator not in _HEAVY or not any(_is(arg, torch.float16) for arg in args):
            return operator(*args, **named)
        result = operator(*tree_map(_caster(torch.float16, torch.float32), args), **named)
        return tree_map(_caster(torch.float32, torch.float16), result)


@contextlib.contextmanager
def _recorded() -> Iterator[None]:
    """Let the tracer see what is called, which it does not below an operator."""
    hidden = torch._C._dispatch_tls_is_dispatch_key_excluded("Tracer")
    torch._C._dispatch_tls_set_dispatch_key_excluded("Tracer", False)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded("Tracer", hidden)


def _is(value: Any, dtype: torch.dtype) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == dtype


def _caster(source: torch.dtype, to: torch.dtype) -> Callable[[Any], Any]:
    return lambda value: value.to(to) if _is(value, source) else value
