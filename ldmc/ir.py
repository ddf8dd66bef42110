"""The types every other room works on: forms, tensors, components, programs and their statistics.

    Program(unet, decoder) --pass--> Program(unet', decoder')

A *component* is one network of the model in one *form*. A pass takes a component in the form it
requires and gives a new one in the form it produces; nothing is changed in place from outside.
This module imports nothing heavy: payloads are opaque here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol


# The networks of a model, in the order they are built.
COMPONENTS = ("unet", "decoder")


class Form(enum.Enum):
    """What a component's payload is.

    TORCH: `Network`, a diffusers module without weights, and where they come from.
    TORCHSCRIPT: `Script`, a traced and frozen module with its weights inside.
    ONNX: `onnx_ir.Model` whose large initializers are lazy: read, cast and folded only when written.
    PARTS: `Chain` of ONNX components that run one after the other.
    ENGINE: `Engines`, built here or described for the device to build.
    AOTI: `Package`, compiled by AOTInductor with its weights inside.
    """

    TORCH = "torch"
    TORCHSCRIPT = "torchscript"
    ONNX = "onnx"
    PARTS = "onnx-parts"
    ENGINE = "engine"
    AOTI = "aoti"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype (numpy's name, e.g. `float16`) and static shape of one input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As written into the manifest."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Stats:
    """What can be counted of a component without running it.

    nodes: operators of the graph (ONNX) or leaf modules (TORCH).
    ops: operator type -> count; sums to `nodes`.
    params: elements of all weights. bytes: their size as they would be stored.
    macs: multiply-accumulates of one call in Conv, ConvTranspose, MatMul and Gemm; None where not known.
    peak_activation_bytes: most bytes of live intermediate tensors while the nodes run in order; None where not known.
    """

    nodes: int
    ops: Mapping[str, int]
    params: int
    bytes: int
    macs: int | None = None
    peak_activation_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As written into reports and `--json` output."""
        return {
            "nodes": self.nodes,
            "ops": dict(sorted(self.ops.items())),
            "params": self.params,
            "bytes": self.bytes,
            "macs": self.macs,
            "peak_activation_bytes": self.peak_activation_bytes,
        }


@dataclass(frozen=True)
class Component:
    """One network of the model in one form. `inputs` and `outputs` are frozen in name and order for good."""

    name: str
    form: Form
    payload: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def evolve(self, **changes: Any) -> Component:
        """A copy with `changes`."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Program:
    """A whole model: its components in build order, scheduler configuration, and where it came from.

    scheduler: the manifest's scheduler section (see `ldmc.compiler.scheduler`).
    source: the manifest's source section: model, config hash, weights.
    """

    name: str
    components: tuple[Component, ...]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


# Weights are read, made and cast in pieces of this size, so that a tensor is in memory once, in its final dtype.
CHUNK_ELEMENTS = 2**20


class WeightSource(Protocol):
    """Where a component's parameters come from, one tensor at a time."""

    def chunks(self, key: str) -> Iterator[Any]:
        """The parameter `key`, flattened, as numpy arrays of at most `CHUNK_ELEMENTS`, in order.

        In the stored dtype; bfloat16 and float8 are given as float32. All values are finite, and in float32's range.
        """
        ...


@dataclass(frozen=True)
class Network:
    """Payload of a TORCH component: a module without weights, and where its weights come from.

    module: `torch.nn.Module` whose parameters are fake: they have shape and dtype, and no storage.
        The network proper is its child `net`, so that `net.` + key is the name of parameter `key`.
    mode: the `FakeTensorMode` the module was built under, and must be traced under.
    weights: source of the parameters, by the checkpoint's key.
    fp32_modules: paths in `net` of what leaves fp16's range by the checkpoint's own word (`force_upcast`).
    """

    module: Any
    mode: Any
    weights: WeightSource
    fp32_modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """Payload of a TORCHSCRIPT component: `module`, a frozen `torch.jit.ScriptModule`, and the `network` it is of."""

    module: Any
    network: Network


@dataclass(frozen=True)
class Package:
    """Payload of an AOTI component.

    file: the package, a `.pt2` archive. network: what it is of. ops: operators it was compiled from, type -> count.
    compiled: what it needs where it runs: `torch` (version), `device` (cpu, cuda), `machine` (as `uname -m` says it)
        and `capability` (vector instructions, or compute capability).
    """

    file: Path
    network: Network
    ops: Mapping[str, int]
    compiled: Mapping[str, str]


@dataclass(frozen=True)
class Chain:
    """Payload of a PARTS component: one network cut into graphs that run in order.

    parts: ONNX components `unet.0`, `unet.1`, ...; each reads the component's inputs and what parts before it give.
        A value has one name in all of them. The component's outputs are outputs of some part.
    finer: for each part, the smaller parts it can be replaced by (`unet.0.0`, ...), over the same weights; a part
        that has none has an empty tuple, and no finer cut at all is ().
    """

    parts: tuple[Component, ...]
    finer: tuple[tuple[Component, ...], ...] = ()


@dataclass(frozen=True)
class Engines:
    """Payload of an ENGINE component.

    source: the ONNX or PARTS component that engines are made from, one for each part.
    files: the engines built here, one for each part; () where the device has to build them.
    recipe: how to build each part on the device, by the part's name: the manifest's `ladder` (see
        `ldmc.runtime.finish`); empty where `files` are there.
    reports: what TensorRT said of each engine: layers, weights and activation bytes, seconds; in order of `files`.
    embed: whether each engine is to be embedded in TorchScript, too.
    """

    source: Component
    files: tuple[Path, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reports: tuple[Mapping[str, Any], ...] = ()
    embed: bool = False
