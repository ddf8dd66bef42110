"""`aoti`: export the module and compile it to machine code with AOTInductor: one `.pt2` package, weights inside.

    unet, TORCH, 274 M parameters   ->   model.pt2   a shared library: fused kernels for one kind of machine, weights

    cuda     Triton kernels for the GPU of this machine, which the runtime captures as a CUDA graph
    cpu      C++ kernels for CPUs with the vector instructions of this one

The package runs through the PyTorch it was compiled with, without Python code of the model. Attention stays PyTorch's
fused operator, and what `fp16` keeps in fp32 stays so. PyTorch compiles for the machine it runs on, so this pass
serves the targets that are this machine: `cpu` and `cuda`.
The paths of a build's temporary folder go into the package (names of sources, C++ comments), so that two builds of
one model differ in these bytes, and compute the same.
Source: https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import platform
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ldmc.ir import Component, Form, Network, Package
from ldmc.passes.base import Context, Pass
from ldmc.passes.torch_archive import rewrite
from ldmc.targets import nvidia
from ldmc.targets.target import Target

# x86-64's levels by what PyTorch calls the vector instructions of a CPU. PyTorch would have the compiler use all that
# this very CPU has; a level is the same on every CPU that has it.
_X86_LEVELS = {"AVX2": "x86-64-v3", "AVX512": "x86-64-v4"}
# Of PyTorch's loggers, those that warn of what is meant so here.
_LOGGERS = ("torch._inductor", "torch._dynamo", "torch.export")


@dataclass(frozen=True)
class Aoti(Pass):
    """Compile with AOTInductor.

    freeze: fold what is computed from weights alone, and store weights as kernels want them. On a CPU the full UNet
        takes 3.1 s for 3.4 a call on one core, and compiling it 1.2 GiB more.
    max_autotune: time more kernels for each operator while compiling, and take the fastest.
    """

    freeze: bool = True
    max_autotune: bool = False

    name: ClassVar[str] = "aoti"
    summary: ClassVar[str] = "compile to machine code for this machine's CPU or NVIDIA GPU with AOTInductor"
    requires: ClassVar[tuple[Form, ...]] = (Form.TORCH,)
    produces: ClassVar[Form] = Form.AOTI
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    def objection(self, target: Target) -> str:
        # What is known of a target's memory is known of one device.
        if target.memory is None and not target.device_passes:
            return ""
        return (
            f"compiles for the machine it runs on, and target {target.name!r} is a device of its own; "
            "on that device, give --target cpu, or cuda for its NVIDIA GPU"
        )

    def lacks(self, target: Target) -> str:
        return (_lacks_gpu(target) if device_of(target) == "cuda" else "") or _lacks_compiler()

    def run(self, component: Component, context: Context) -> Component:
        assert context.scratch is not None
        network: Network = component.payload
        device = device_of(context.target)
        file = context.scratch / "model.pt2"
        with _quiet():
            ops = self._compile(component, device, file)
        gc.collect()  # the weights, which the exported program held in a ring
        if device == "cpu":  # a GPU's package finds its kernels by names in the library
            rewrite(file, partial(_without_paths, roots=(str(file.parent.resolve()), _torch_folder(), sys.prefix)))
        compiled = compiled_for(device)
        context.remark(
            f"runs where PyTorch {compiled['torch']} finds {_kind(compiled)}: it is machine code for that"
        )
        if component.inputs[0].dtype == "float16" and device == "cpu":
            context.remark("PyTorch has no fast float16 on most CPUs: expect minutes a call without a GPU")
        return component.evolve(form=Form.AOTI, payload=Package(file, network, ops, compiled))

    def _compile(self, component: Component, device: str, file: Path) -> Mapping[str, int]:
        """Write the package; the operators it was compiled from."""
        import torch
        from torch._inductor import aoti_compile_and_package
        from torch._inductor.async_compile import shutdown_compile_workers
        from torch._inductor.utils import fresh_cache

        from ldmc.passes.modules import require_all_read, with_weights

        module = with_weights(component.payload, component.name).to(device)
        examples = tuple(
            torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device=device) for spec in component.inputs
        )
        # The cache is for one build: PyTorch takes its place from the environment, which this sets and puts back.
        with torch.no_grad(), fresh_cache(dir=str(file.parent)):
            exported = torch.export.export(module, examples, strict=False)
            ops = _operators(exported)
            require_all_read(module, _parameters_read(exported), component.name)
            try:
                aoti_compile_and_package(exported, package_path=str(file), inductor_configs=self._settings(device))
            finally:
                shutdown_compile_workers()
        if device == "cuda":
            del module, exported, examples
            torch.cuda.empty_cache()
        return ops

    def _settings(self, device: str) -> dict[str, Any]:
        """Inductor's configuration: see `torch/_inductor/config.py`."""
        import torch

        settings: dict[str, Any] = {
            "freezing": self.freeze,
            "max_autotune": self.max_autotune,
            # It would be told on stderr, a table for each operator.
            "max_autotune_report_choices_stats": False,
            "autotune_num_choices_displayed": 0,
            # It would be kept outside the cache, in a folder for all builds.
            "aot_inductor.precompile_headers": False,
            "aot_inductor.enable_line_tables": False,
        }
        if device == "cpu":
            level = _X86_LEVELS.get(torch.backends.cpu.get_cpu_capability())
            # Else the number of threads here and now would be compiled in.
            settings |= {"cpp.dynamic_threads": True} | ({"cpp.march": level} if level else {})
        return settings


def device_of(target: Target) -> str:
    """What a target's packages run on, as PyTorch calls it."""
    return "cuda" if target.engine.startswith("tensorrt") else "cpu"


def compiled_for(device: str) -> dict[str, str]:
    """What a package compiled here now needs to run: the manifest's `compiled`."""
    import torch

    if device == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
    else:
        capability = torch.backends.cpu.get_cpu_capability()
    return {
        "torch": torch.__version__.partition("+")[0],
        "device": device,
        "machine": platform.machine(),
        "capability": capability,
    }


def _kind(compiled: Mapping[str, str]) -> str:
    if compiled["device"] == "cuda":
        return f"an NVIDIA GPU of compute capability {compiled['capability']}"
    return f"a CPU ({compiled['machine']}) with {compiled['capability']}"


def _lacks_gpu(target: Target) -> str:
    """What this machine lacks to compile for its NVIDIA GPU."""
    if nvidia.compute_capability() is None:
        return (
            f"target {target.name!r} is compiled on the GPU it runs on, and no NVIDIA GPU answers here: "
            "build on a machine with one, or for this CPU with --target cpu"
        )
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPU"
        return (
            f"PyTorch {torch.__version__} ({built}) finds no GPU, though the driver has one: "
            "install PyTorch for the driver's CUDA, see https://pytorch.org/get-started"
        )
    from torch.utils.cpp_extension import CUDA_HOME

    if importlib.util.find_spec("triton") is None:
        return "Triton (triton), which makes the GPU's kernels, is not installed: pip install triton"
    if CUDA_HOME is None:
        return f"the CUDA toolkit is not installed, or CUDA_HOME does not say where: install CUDA {torch.version.cuda}"
    return ""


def _lacks_compiler() -> str:
    """The C++ compiler that PyTorch would call."""
    from torch._inductor import config

    named = [name for name in config.cpp.cxx if name]
    if any(map(shutil.which, named)):
        return ""
    return f"AOTInductor needs a C++ compiler, and there is no {named[0]} here: install g++, or name another in CXX"


def _operators(exported: Any) -> dict[str, int]:
    """Operators of an exported program by kind, such as `aten.conv2d`."""
    nodes = (node for node in exported.graph.nodes if node.op == "call_function")
    return dict(sorted(Counter(_kind_of(node.target) for node in nodes).items()))


def _parameters_read(exported: Any) -> set[str]:
    """Names of the parameters and buffers that the outputs of an exported program depend on."""
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    needed = {node for node in exported.graph.nodes if node.op == "output"}
    for node in reversed(exported.graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return {names[node.name] for node in needed if node.name in names}


def _torch_folder() -> str:
    """Where PyTorch is installed: its headers' paths get into what is compiled."""
    import torch

    return str(Path(torch.__file__).parent)


def _without_paths(name: str, content: bytes, roots: tuple[str, ...]) -> bytes | None:
    """An entry of a package without the source it was compiled from, and without paths below `roots`.

    They stand in messages of checks that fail; a path in a library can change, its length cannot.
    """
    if name.endswith(".cpp"):
        return None
    for root in sorted(map(os.fsencode, roots), key=len, reverse=True):
        content = content.replace(root + b"/", b"/" * (len(root) + 1))
    return content


def _kind_of(operator: Any) -> str:
    return str(operator).removesuffix(".default")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word: PyTorch warns about its own internals."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
