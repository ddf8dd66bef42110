"""`torchscript`: trace the module with its weights, freeze it, and hold it to what PyTorch computes eagerly.

    def forward(latent, t): ...    ->    graph(%latent : Half(1, 3, 64, 64), %t : Long(1)):
                                           %w = prim::Constant[value=<Tensor>]()
                                           %h = aten::_convolution(%latent, %w, ...)  ...

The script runs through torch alone: no diffusers, no Python code of the model. Attention is written out unless
`fused` is asked for, so that PyTorch before 2.0 can run it and the TorchScript exporter can write any opset.
The weights are in memory once: trace and script share them with the module.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Form, Network, Script, TensorSpec
from ldmc.passes.base import Context, Pass
from ldmc.passes.torch_archive import rewrite

if TYPE_CHECKING:
    import torch

_TIMESTEPS = 1000  # integer inputs are drawn below this
# What a script must reach against its own module in eager mode. They are equal as a rule.
_NEEDED_SNR_DB = {"float32": 100.0, "float16": 50.0}


@dataclass(frozen=True)
class TorchScript(Pass):
    """Trace to TorchScript.

    fused: leave PyTorch 2's fused attention in, for devices that have it.
    """

    fused: bool = False

    name: ClassVar[str] = "torchscript"
    summary: ClassVar[str] = "trace the module to a frozen TorchScript that runs through torch alone"
    requires: ClassVar[tuple[Form, ...]] = (Form.TORCH,)
    produces: ClassVar[Form] = Form.TORCHSCRIPT
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    def run(self, component: Component, context: Context) -> Component:
        from ldmc.passes.attention import unfuse
        from ldmc.passes.modules import copied

        network: Network = component.payload
        if not self.fused:
            module = copied(network.module)
            unfuse(module.net)
            network = replace(network, module=module)
        script, difference = _traced(network, component)
        context.remark(f"largest difference from eager PyTorch on noise: {difference:.2g}")
        if component.inputs[0].dtype == "float16" and context.target.gpu is None:
            context.remark("PyTorch has no fast float16 on most CPUs: expect minutes a call without a GPU")
        return component.evolve(form=Form.TORCHSCRIPT, payload=Script(script, network))


def save(script: Any, file: Path) -> None:
    """Write a script without the source line of each operator: they are paths of the machine that traced it.

    Needs twice the file's size on its disk meanwhile.
    """
    script.save(str(file))
    rewrite(file, lambda name, content: None if name.endswith(".debug_pkl") else content)


def _traced(network: Network, component: Component) -> tuple[Any, float]:
    """The frozen script of `network` with its weights, and by how much it differs from eager on other noise.

    Raises:
        PassError: by too much: the network decides or draws something while it runs.
    """
    import torch

    from ldmc.passes.half import computing
    from ldmc.passes.modules import require_all_read, with_weights

    module = with_weights(network, component.name)
    tensors, others = (_noise(component.inputs, seed) for seed in (0, 1))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that are static here
        with computing(module):
            traced = torch.jit.trace(module, tensors, check_trace=False)
            wanted = module(*others)
        require_all_read(module, _parameters_read(traced.inlined_graph), component.name)
        script = torch.jit.freeze(traced)
        # The executor's own passes do not go with a context that looks into operators.
        unoptimised = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
        with computing(module), unoptimised:
            given = script(*others)
    return script, _agreement(wanted, given, component)


def _parameters_read(graph: Any) -> set[str]:
    """Names of the parameters that some operator of a trace takes."""

    def path(node: Any) -> str:
        owner = node.inputsAt(0).node()
        return f"{path(owner)}.{node.s('name')}" if owner.kind() == "prim::GetAttr" else str(node.s("name"))

    return {path(node) for node in graph.findAllNodes("prim::GetAttr") if node.output().uses()}


def _noise(inputs: tuple[TensorSpec, ...], seed: int) -> tuple[torch.Tensor, ...]:
    """Gaussian noise for floating-point inputs, a timestep for integer ones."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(spec: TensorSpec) -> torch.Tensor:
        dtype = getattr(torch, spec.dtype)
        if not dtype.is_floating_point:
            return torch.randint(_TIMESTEPS, spec.shape, generator=generator, dtype=dtype)
        return torch.randn(spec.shape, generator=generator).to(dtype)

    return tuple(map(draw, inputs))


def _agreement(wanted: Any, given: Any, component: Component) -> float:
    """The largest difference, where it is small enough."""
    wanted, given = wanted.double(), given.double()
    error = (given - wanted).square().sum().item()
    worst = (given - wanted).abs().max().item()
    signal = wanted.square().sum().item()
    snr_db = math.inf if error == 0 else 10 * math.log10(signal / error) if signal / error > 0 else -math.inf
    needed_db = _NEEDED_SNR_DB[component.outputs[0].dtype]
    if not snr_db >= needed_db:
        raise PassError(
            f"{component.name}: the trace differs from eager PyTorch by up to {worst:.3g} "
            f"(SNR {snr_db:.1f} dB, needed {needed_db:.0f} dB)",
            fix="its forward decides by values or draws random numbers, which a trace cannot follow; use onnx instead",
        )
    return float(worst)
