"""`fp16`: cast weights, inputs and outputs to half precision, and keep what must not be in fp32.

    Conv2d(float32)                        Conv2d(float16)
    GroupNorm(float32)         ->          float16 -> [GroupNorm(float32)] -> float16
    input_0 float32[1,3,64,64]             input_0 float16[1,3,64,64]

What stays fp32 is an *island*: a module whose inputs are cast up on the way in and whose outputs are
cast down on the way out. Inside an island nothing is cast, so values beyond 65504 may pass there.
`keep` selects islands by kind (`norm`, `softmax`, `quantiser`, `timestep`) or by module path
(`unet/up_blocks.3.resnets.1`). Integer inputs, such as the timestep, stay as they are.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ldmc.errors import PassError, UsageError
from ldmc.ir import COMPONENTS, Component, Form, Network, TensorSpec
from ldmc.passes.base import Context, Pass
from ldmc.targets.target import Target

KINDS = ("norm", "softmax", "quantiser", "timestep")
_NORMS = ("GroupNorm", "LayerNorm", "RMSNorm", "BatchNorm2d", "InstanceNorm2d")
_QUANTISERS = ("NearestCode", "VectorQuantizer")
_TIMESTEPS = ("Timesteps", "GaussianFourierProjection")


@dataclass(frozen=True)
class Fp16(Pass):
    """Half-precision weights and I/O.

    keep: kinds and `COMPONENT/module.path`s that stay fp32; empty means what the target asks for and what the
        checkpoint says of itself (`force_upcast`), and `keep=none` keeps nothing.
    """

    keep: tuple[str, ...] = ()

    name: ClassVar[str] = "fp16"
    summary: ClassVar[str] = "cast weights and I/O to half precision, keeping fp32 where it matters"
    requires: ClassVar[tuple[Form, ...]] = (Form.TORCH,)
    produces: ClassVar[Form] = Form.TORCH
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    def __post_init__(self) -> None:
        for item in self.keep:
            owner, _, path = item.partition("/")
            if item not in (*KINDS, "none") and not (owner in COMPONENTS and path):
                raise ValueError(
                    f"keep={item}: expected none, one of {', '.join(KINDS)}, or COMPONENT/module.path "
                    f"with COMPONENT {' or '.join(COMPONENTS)}"
                )

    def objection(self, target: Target) -> str:
        if "float16" not in target.precisions:
            return f"target {target.name!r} computes in {', '.join(target.precisions)}, not in float16"
        return ""

    def kept(self, component: Component, target: Target) -> tuple[str, ...]:
        """What stays fp32 of `component` (in TORCH form): as asked for, or as target and checkpoint have it."""
        own = (f"{component.name}/{path}" for path in component.payload.fp32_modules)
        return self.keep or (*target.fp32_islands, *own)

    def run(self, component: Component, context: Context) -> Component:
        from ldmc.passes.modules import copied

        network: Network = component.payload
        keep = self.kept(component, context.target)
        module = copied(network.module)
        roots = _island_roots(module.net, keep, component.name)
        with network.mode:
            _cast(module.net, roots)
            if "timestep" not in keep:
                _timestep_in_fp16(module.net, roots)
            if "softmax" in keep:
                _softmax_in_fp32(module.net)
        context.remark(f"{len(roots)} fp32 islands: {', '.join(keep)}")
        if network.fp32_modules and not self.keep:
            context.remark("its configuration says force_upcast: it overflows in fp16, so its layers stay in fp32")
        return component.evolve(
            payload=replace(network, module=module),
            inputs=tuple(map(_half, component.inputs)),
            outputs=tuple(map(_half, component.outputs)),
        )


def _half(spec: TensorSpec) -> TensorSpec:
    return replace(spec, dtype="float16") if spec.dtype == "float32" else spec


def _island_roots(net: Any, keep: tuple[str, ...], component: str) -> dict[str, Any]:
    """The outermost modules that `keep` selects, by path."""
    modules = dict(net.named_modules())
    paths = set()
    for item in keep:
        owner, _, path = item.partition("/")
        if owner == component and path not in modules:
            near = difflib.get_close_matches(path, modules, n=1)
            hint = f"; did you mean {owner}/{near[0]}?" if near else ""
            raise UsageError(
                f"keep={item}: {component} has no module {path!r}", fix=f"name a module path{hint}"
            )
        if owner == component:
            paths.update(_called(path, modules))
    kinds = {"norm": _NORMS, "quantiser": _QUANTISERS, "timestep": _TIMESTEPS}
    names = {name for kind in keep for name in kinds.get(kind, ())}
    paths |= {path for path, module in modules.items() if type(module).__name__ in names}
    outermost = {path for path in paths if not any(path.startswith(f"{other}.") for other in paths)}
    return {path: modules[path] for path in sorted(outermost)}


def _called(path: str, modules: dict[str, Any]) -> list[str]:
    """`path` itself; or, where it is a list of modules, which is never called, the modules in it."""
    if type(modules[path]).__name__ != "ModuleList":
        return [path]
    return [called for name in modules[path]._modules for called in _called(f"{path}.{name}", modules)]


def _cast(net: Any, roots: dict[str, Any]) -> None:
    """Halve every parameter outside the islands, and cast tensors where they enter and leave."""
    import torch

    inside = tuple(f"{root}." for root in roots)
    halves: dict[int, Any] = {}  # a parameter that two modules share stays shared
    for path, module in net.named_modules():
        if path in roots:
            module.register_forward_pre_hook(_caster(torch.float32), with_kwargs=True)
            module.register_forward_hook(lambda _module, _args, output: _to(output, torch.float16))
        if path in roots or path.startswith(inside):
            continue
        own = list(module.named_parameters(recurse=False))
        for name, parameter in own:
            if id(parameter) not in halves:
                half = torch.empty(parameter.shape, dtype=torch.float16)
                halves[id(parameter)] = torch.nn.Parameter(half, requires_grad=False)
            setattr(module, name, halves[id(parameter)])
        if own:
            module.register_forward_pre_hook(_caster(torch.float16), with_kwargs=True)


def _caster(dtype: Any) -> Any:
    def hook(_module: Any, args: Any, kwargs: Any) -> Any:
        return _to(args, dtype), _to(kwargs, dtype)

    return hook


def _to(value: Any, dtype: Any) -> Any:
    """`value` with every floating-point tensor in it cast to `dtype`."""
    import torch

    if isinstance(value, torch.Tensor):
        # A cast to the same type would be written into a trace.
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    if isinstance(value, (list, tuple)):
        return type(value)(_to(item, dtype) for item in value)
    if isinstance(value, dict):
        return {key: _to(item, dtype) for key, item in value.items()}
    return value


def _softmax_in_fp32(net: Any) -> None:
    from ldmc.passes.attention import Fp32SoftmaxAttention, is_plain

    for path, module in net.named_modules():
        if not hasattr(module, "set_processor"):
            continue
        if not is_plain(module):
            raise PassError(
                f"{path}: its kind of attention ({type(module.processor).__name__}) cannot keep its softmax in fp32",
                fix="drop softmax from keep=, and keep the modules that need it by path",
            )
        module.set_processor(Fp32SoftmaxAttention())


def _timestep_in_fp16(net: Any, roots: dict[str, Any]) -> None:
    """diffusers computes sin and cos in fp32 whatever the dtype; replace what does so outside the islands."""
    from ldmc.passes.timesteps import HalfTimesteps

    for path, module in list(net.named_modules()):
        inside = any(path == root or path.startswith(f"{root}.") for root in roots)
        if type(module).__name__ == "Timesteps" and not inside:
            net.set_submodule(path, HalfTimesteps(module))
