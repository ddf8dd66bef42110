"""Copies of a network's module that can run: with its weights, or hollow.

    weight: fake float16[896,896,3,3]   ->   with_weights   the checkpoint's values, cast        15 MiB
                                        ->   hollow         one element, read over and over      2 bytes

A hollow module runs and is traced like any other; what it computes means nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from ldmc.errors import PassError
from ldmc.ir import Network

_FILL = 0.01  # of a hollow module: any number that overflows nowhere


def copied(module: Any) -> Any:
    """All of `module` copied but its parameters, which are replaced and never changed."""
    return copy.deepcopy(module, {id(p): p for p in module.parameters()})


def with_weights(network: Network, component: str) -> Any:
    """A copy of the network's module with its weights in memory, each once, in the dtype the module declares.

    Raises:
        PassError: a weight cannot be represented, or a buffer has no values anywhere.
    """
    import onnx_ir as ir

    from ldmc.passes.lazy import values

    def read(name: str, tensor: torch.Tensor) -> torch.Tensor:
        dtype = ir.DataType.from_numpy(torch.empty(0, dtype=tensor.dtype).numpy().dtype)
        key = name.removeprefix("net.")
        return torch.from_numpy(values(network.weights, key, component, dtype, list(tensor.shape)))

    return _filled(network.module, component, read)


def hollow(network: Network, component: str) -> Any:
    """A copy of the network's module whose weights take no memory.

    Raises:
        PassError: a buffer has no values anywhere.
    """

    def expanded(_: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.full((1,) * tensor.dim(), _FILL).to(tensor.dtype).expand(tensor.shape)

    return _filled(network.module, component, expanded)


def require_all_read(module: Any, read: Collection[str], component: str) -> None:
    """Hold what was traced to use every weight of the network: one that is read by nothing would be dropped silently.

    read: names of the module's parameters and buffers that the trace uses. Parts that are left out on purpose, such as
    a decoder's encoder, are not in the module any more.

    Raises:
        PassError: some are not used.
    """
    tensors = module.state_dict(keep_vars=True)  # a parameter that two modules share is in it twice
    used = {id(tensors[name]) for name in read if name in tensors}
    unread = [name.removeprefix("net.") for name, tensor in tensors.items() if id(tensor) not in used]
    if unread:
        raise PassError(
            f"{component}: {len(unread)} of {len(tensors)} weights of the checkpoint are used by nothing that the "
            f"network computes: {', '.join(unread[:3])}{', ...' if len(unread) > 3 else ''}",
            fix="they belong to an input or option of config.json that ldmc does not give the network",
        )


def _filled(module: Any, component: str, value: Callable[[str, torch.Tensor], torch.Tensor]) -> Any:
    """A copy of `module` in which `value(name, fake)` stands for each fake tensor; shared ones stay shared."""
    filled = copied(module).eval()
    made: dict[int, torch.Tensor] = {}
    for path, owner in filled.named_modules():
        for kind in (owner._parameters, owner._buffers):
            for leaf, fake in kind.items():
                if not isinstance(fake, FakeTensor):
                    continue
                name = f"{path}.{leaf}" if path else leaf
                if leaf in owner._non_persistent_buffers_set:
                    raise PassError(
                        f"{component}: {name} is neither in the checkpoint nor computed by the network",
                        fix="build it in the network's forward, or register it as a buffer that is saved",
                    )
                if id(fake) not in made:
                    tensor = value(name, fake)
                    parameter = kind is owner._parameters
                    made[id(fake)] = torch.nn.Parameter(tensor, requires_grad=False) if parameter else tensor
                kind[leaf] = made[id(fake)]
    return filled
