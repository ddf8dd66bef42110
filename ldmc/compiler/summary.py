"""What is known of a graph without its weights: what reports keep, and what counting and diffing read.

    GraphSummary
      inputs, outputs     TensorSpec(name, dtype, shape); -1 stands for a dimension that is not static
      nodes               NodeSummary("conv_0", "Conv", inputs, outputs, {"group": "1"}, types)
      initializers        {"w": Initializer("float16", (4, 3, 3, 3), 216)}
      opsets, ir_version  {"": 18}, 10
      stats               ldmc.ir.Stats

Plain data: no onnx and no torch here, so that reading a report costs nothing.
`ldmc.compiler.graph` makes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ldmc.artifacts.kinds import Anything, Items, Kind, Maybe, Record, Table, Text, Whole, first_fault, shown
from ldmc.ir import Stats, TensorSpec

UNKNOWN_DIM = -1
VIEW_OPS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


def dtype_bits(dtype: str | None) -> int | None:
    """Bits of one element: 16 for `float16`, 4 for `uint4`, 8 for `bool`; None for strings and unknown."""
    if dtype == "bool":
        return 8
    digits = re.search(r"\d+", dtype or "")
    return int(digits.group()) if digits else None


class TensorType(NamedTuple):
    """Dtype (numpy's name) and shape of a value. None: not known, as a whole or in one dimension."""

    dtype: str | None
    shape: tuple[int | None, ...] | None

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape where every dimension is known, else None."""
        if self.shape is None or any(dim is None for dim in self.shape):
            return None
        return tuple(dim for dim in self.shape if dim is not None)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the dense tensor; None where dtype or shape is not known."""
        shape, bits = self.static_shape, dtype_bits(self.dtype)
        if shape is None or bits is None:
            return None
        return (math.prod(shape) * bits + 7) // 8

    def agrees(self, other: TensorType) -> bool:
        """True where nothing that both know differs."""
        if self.dtype and other.dtype and self.dtype != other.dtype:
            return False
        if self.shape is None or other.shape is None:
            return True
        dims = zip(self.shape, other.shape)
        return len(self.shape) == len(other.shape) and all(a == b or a is None or b is None for a, b in dims)

    def __str__(self) -> str:
        """`float16[1,224,64,64]`; `?` for what is not known; no brackets where not even the rank is."""
        dims = (
            ""
            if self.shape is None
            else f"[{','.join('?' if dim is None else str(dim) for dim in self.shape)}]"
        )
        return f"{self.dtype or '?'}{dims}"

    @classmethod
    def parse(cls, text: str) -> TensorType:
        """The inverse of `str()`."""
        dtype, bracket, dims = text.rstrip("]").partition("[")
        shape = tuple(None if dim == "?" else int(dim) for dim in dims.split(",")) if dims else ()
        return cls(None if dtype == "?" else dtype, shape if bracket else None)

    @classmethod
    def of(cls, spec: TensorSpec) -> TensorType:
        """The type of a graph input or output."""
        return cls(spec.dtype, tuple(None if dim == UNKNOWN_DIM else dim for dim in spec.shape))


class Initializer(NamedTuple):
    """Dtype, shape and stored size of one weight; its values are never looked at."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)


@dataclass(frozen=True)
class NodeSummary:
    """One operator.

    op: operator type, `domain::Type` outside ONNX's own domain.
    inputs, outputs: value names; "" for an optional one that is left out.
    attributes: name -> short canonical text.
    types: of the outputs, in order.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    types: tuple[TensorType, ...] = ()

    @property
    def key(self) -> str:
        """The name of the first output that has one: what a node is known by across passes."""
        return next((name for name in self.outputs if name), self.name)

    def to_json(self) -> dict[str, Any]:
        """Short keys, and nothing that is empty: a graph has thousands of these."""
        record = {"name": self.name, "op": self.op, "in": list(self.inputs), "out": list(self.outputs)}
        attributes = dict(sorted(self.attributes.items()))
        return (
            record
            | ({"attr": attributes} if attributes else {})
            | {"type": [str(kind) for kind in self.types]}
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> NodeSummary:
        """The inverse of `to_json`."""
        types = tuple(TensorType.parse(text) for text in record["type"])
        inputs, outputs = tuple(record["in"]), tuple(record["out"])
        return cls(record["name"], record["op"], inputs, outputs, dict(record.get("attr", {})), types)


@dataclass(frozen=True)
class GraphSummary:
    """A graph without its weights; nodes in running order, a subgraph's before the node that runs it."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    nodes: tuple[NodeSummary, ...] = ()
    initializers: Mapping[str, Initializer] = field(default_factory=dict)
    opsets: Mapping[str, int] = field(default_factory=dict)
    ir_version: int | None = None
    stats: Stats = field(default_factory=lambda: Stats(0, {}, 0, 0))

    @property
    def opset(self) -> int | None:
        """Version of ONNX's own operator set."""
        return self.opsets.get("")

    def types(self) -> dict[str, TensorType]:
        """Every named value's type: inputs, initializers, node outputs."""
        return dict(self._typed_values())

    def _typed_values(self) -> Iterator[tuple[str, TensorType]]:
        yield from ((spec.name, TensorType.of(spec)) for spec in self.inputs)
        yield from ((name, weight.type) for name, weight in self.initializers.items())
        for node in self.nodes:
            yield from ((name, kind) for name, kind in zip(node.outputs, node.types) if name)

    def to_json(self) -> dict[str, Any]:
        """Deterministic; weights as `name: [type, bytes]`. Write it without indentation: it is for tools."""
        return {
            "ir_version": self.ir_version,
            "opsets": dict(sorted(self.opsets.items())),
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "stats": self.stats.to_json(),
            "initializers": {name: [str(w.type), w.bytes] for name, w in sorted(self.initializers.items())},
            "nodes": [node.to_json() for node in self.nodes],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> GraphSummary:
        """The inverse of `to_json`. Raises ValueError, with the place, where the record is not one."""
        fault = first_fault(_GRAPH, record)
        if fault is not None:
            raise ValueError(str(fault))
        weights = {}
        for name, (text, size_bytes) in record["initializers"].items():
            if not isinstance(text, str) or type(size_bytes) is not int:
                raise ValueError(f"initializer {shown(name)} is not [type, bytes]")
            kind = TensorType.parse(text)
            weights[name] = Initializer(kind.dtype or "?", kind.static_shape or (), size_bytes)
        return cls(
            inputs=tuple(_spec(spec) for spec in record["inputs"]),
            outputs=tuple(_spec(spec) for spec in record["outputs"]),
            nodes=tuple(NodeSummary.from_json(node) for node in record["nodes"]),
            initializers=weights,
            opsets=dict(record["opsets"]),
            ir_version=record["ir_version"],
            stats=_stats(record["stats"]),
        )


_TEXT, _COUNT, _NAMES = Text(), Whole(0), Items(Text())
_SPECS = Items(Record({"name": _TEXT, "dtype": _TEXT, "shape": Items(Whole(UNKNOWN_DIM, 2**63))}))
_NODE = Record({"name": _TEXT, "op": _TEXT, "in": _NAMES, "out": _NAMES, "type": _NAMES}, {"attr": Table(_TEXT)})
_STATS: dict[str, Kind] = {"nodes": _COUNT, "ops": Table(_COUNT), "params": _COUNT, "bytes": _COUNT}
_GRAPH = Record(
    {
        "inputs": _SPECS, "outputs": _SPECS, "nodes": Items(_NODE), "initializers": Table(Items(Anything(), 2, 2)),
        "opsets": Table(Whole()), "ir_version": Maybe(Whole()),
        "stats": Record({**_STATS, "macs": Maybe(_COUNT)}, {"peak_activation_bytes": Maybe(_COUNT)}),
    }
)  # fmt: skip


def _spec(record: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(record["name"], record["dtype"], tuple(record["shape"]))


def _stats(record: Mapping[str, Any]) -> Stats:
    """What a newer ldmc counts besides is left out."""
    return Stats(**{key: record[key] for key in (*_STATS, "macs", "peak_activation_bytes") if key in record})
