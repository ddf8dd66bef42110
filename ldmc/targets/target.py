"""What a target is: one device, and how models are compiled for it. Read from TOML by `ldmc.targets.reader`.

The fields here are the schema of the files: a field without a default is a key that must be there, a field that is
a dataclass is a table, and `Literal` says which values are allowed. What goes beyond that is in `checks`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MIB = 2**20
# The package that each engine runs in, as `requirements` names it.
ENGINE_PACKAGES = {"onnxruntime-cpu": "onnxruntime", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
# What the `fp16` pass can keep by kind; a `COMPONENT/module.path` may stand beside these.
ISLANDS = ("norm", "softmax", "quantiser", "timestep")


@dataclass(frozen=True)
class Gpu:
    """The GPU. compute_capability: NVIDIA's, such as `5.3`; empty for others, and for any of NVIDIA's.

    source: where the figures are from.
    """

    name: str
    compute_capability: str = ""
    source: str = ""


@dataclass(frozen=True)
class Memory:
    """Memory that models are built and run in, in MiB, and where the figures are from.

    total_mib: what the system shows (shared) or what the card has (discrete). system_mib: what the system itself
    holds there. shared: whether CPU and GPU use the same memory. libraries_mib: what each library of the engine takes
    once it is loaded, by name; an upper bound where sources differ. source: where total and system are from.
    libraries_source: where the libraries' figures are from.
    """

    total_mib: int
    system_mib: int
    shared: bool
    source: str
    libraries_mib: dict[str, int] = field(default_factory=dict)
    libraries_source: str = ""

    @property
    def budget_bytes(self) -> int:
        """What a build or a run may take in all, its libraries included."""
        return (self.total_mib - self.system_mib) * MIB

    @property
    def libraries_bytes(self) -> int:
        """What the engine's libraries take before any model is there."""
        return sum(self.libraries_mib.values()) * MIB

    @property
    def models_bytes(self) -> int:
        """What is left for models: weights, activations and workspace."""
        return self.budget_bytes - self.libraries_bytes


@dataclass(frozen=True)
class Compute:
    """Peak arithmetic by precision, GFLOPS, and memory bandwidth, GB/s."""

    peak_gflops: dict[str, float]
    bandwidth_gb_s: float
    source: str


@dataclass(frozen=True)
class Target:
    """One device.

    name, summary, arch: who it is (`arch` as `uname -m` says it).
    engine: the inference engine of the bundle's runtime.
    opset: highest ONNX opset its engine reads. operators: version of the operator table its parser is held to
        (`ldmc/targets/operators/`); empty for none.
    groupnorm: the form of GroupNorm its engine takes (see the pass `groupnorm`).
    precisions: dtypes it computes in. fp32_islands: what the `fp16` pass keeps in fp32 there, unless told otherwise.
    load: whether its runtime holds all components at once, or one at a time.
    power: where its power is read from; empty where it cannot be. power_modes_w: limits it can be set to, watts.
    requirements: package -> version constraint the runtime needs on the device, Python under `python`.
    toolchain: what the device has: name -> version. toolchain_source: where that is from.
    device_passes: passes that only the device can run.
    pipelines: component -> default pass spec.
    gpu, memory, compute: None where they are not known (any CPU).
    """

    name: str
    summary: str
    arch: str
    engine: Literal["onnxruntime-cpu", "tensorrt", "tensorrt-rtx"]
    opset: int
    precisions: tuple[Literal["float32", "float16", "int8"], ...]
    fp32_islands: tuple[str, ...]
    requirements: dict[str, str]
    pipelines: dict[str, str]
    operators: str = ""
    groupnorm: Literal["instance", "primitive", "group"] = "instance"
    load: Literal["together", "one-at-a-time"] = "together"
    power: Literal["", "tegrastats", "nvml", "battery", "rapl"] = ""
    power_modes_w: tuple[float, ...] = ()
    toolchain: dict[str, str] = field(default_factory=dict)
    toolchain_source: str = ""
    device_passes: tuple[Literal["trt", "embed"], ...] = ()
    gpu: Gpu | None = None
    memory: Memory | None = None
    compute: Compute | None = None

    def to_json(self) -> dict[str, Any]:
        """As printed by `ldmc targets --json`."""
        return asdict(self)
