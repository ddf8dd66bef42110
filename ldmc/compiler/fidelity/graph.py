"""A component's ONNX graph, be it in one file or in parts, and the pieces of it that can be run alone.

    unet/0.onnx  unet/1.onnx   ->   one graph: values that cross are joined by name
    mid_block.resnets.0/Add    ->   the nodes between it and the nearest values that are given

Weights stay in their file: a piece reads those of its own nodes, and no other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from onnx import helper

from ldmc.runtime.onnx_runtime import import_onnxruntime


@dataclass(frozen=True)
class Piece:
    """Nodes that run alone. reads: values that must be given, in order. gives: the value that comes out."""

    proto: onnx.ModelProto
    reads: tuple[str, ...]
    gives: str
    folder: Path

    def open(self) -> Any:
        """An ONNX Runtime session that computes the nodes as they stand, one after the other."""
        return open_session(self.proto.SerializeToString(), self.folder)


def open_session(model: bytes | str, folder: Path) -> Any:
    """An ONNX Runtime session, on the CPU, that computes the nodes of a graph as they stand.

    model: the graph, or its file. folder: where its weights are; they are mapped from there.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    # What is compared is the graph: nothing may fuse nodes, or move an error from one to another.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # fatal: an error is raised, and told once, without the colours of its log
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    if isinstance(model, bytes):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class JoinedGraph:
    """One graph made of the files of a component, in running order.

    nodes: in running order. inputs, outputs: names of the component's. A value that two parts make has a name of
    its own in each; nodes keep theirs, which say the module they come from.
    """

    def __init__(self, files: Sequence[Path], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.nodes: list[onnx.NodeProto] = []
        self._folder = files[0].parent
        self._weights: dict[str, onnx.TensorProto] = {}
        self._types: dict[str, onnx.ValueInfoProto] = {}
        self._now = {name: name for name in inputs}  # a value's name between parts -> its name here
        for number, file in enumerate(files):
            self._join(_load(file), number)
        self.outputs = tuple(self._now[name] for name in outputs)
        self._maker = {name: k for k, node in enumerate(self.nodes) for name in node.output if name}
        self._readers: dict[str, list[int]] = {}
        for k, node in enumerate(self.nodes):
            for name in node.input:
                self._readers.setdefault(name, []).append(k)

    def _join(self, model: onnx.ModelProto, number: int) -> None:
        """Take the nodes of one more part."""
        self._model = model
        graph = model.graph
        known = {value.name: self._now[value.name] for value in graph.input if value.name in self._now}
        made = [*(tensor.name for tensor in graph.initializer), *(n for node in graph.node for n in node.output)]
        own = known | {name: f"{name}#{number}" if number else name for name in made if name}
        for tensor in graph.initializer:
            name, tensor.name = tensor.name, own[tensor.name]
            self._weights[own[name]] = tensor
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.name in own:
                value.name = own[value.name]
                self._types[value.name] = value
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [own.get(name, name) for name in names]
            self.nodes.append(node)
        self._now |= {name: own[name] for name in made if name in own and name not in self._weights}

    def position(self, value: str) -> int:
        """Number of the node that makes `value`."""
        return self._maker[value]

    def shape(self, value: str) -> tuple[int, ...]:
        """Sides of `value`; () where the graph does not say."""
        known = self._types.get(value)
        return tuple(dim.dim_value for dim in known.type.tensor_type.shape.dim) if known else ()

    def dtype(self, value: str) -> Any:
        """numpy's dtype of `value`."""
        return helper.tensor_dtype_to_np_dtype(self._types[value].type.tensor_type.elem_type)

    def narrowest(self, piece: Piece) -> str:
        """`float16` where any value of `piece` is in half precision, else `float32`."""
        names = [*piece.reads, *(name for node in piece.proto.graph.node for name in node.output if name)]
        kinds = {self._types[name].type.tensor_type.elem_type for name in names if name in self._types}
        return "float16" if onnx.TensorProto.FLOAT16 in kinds else "float32"

    def given_by(self, path: str) -> list[str]:
        """Values that nodes of the module at `path` make and others read, or nothing but the caller, in order."""
        within = {k for k, node in enumerate(self.nodes) if is_within(node.name, path)}
        return [
            name
            for k in sorted(within)
            for name in self.nodes[k].output
            if name in self.outputs or any(reader not in within for reader in self._readers.get(name, ()))
        ]

    def piece(self, value: str, given: Collection[str]) -> Piece:
        """The nodes between `value` and the nearest values that are `given` or the component's inputs."""
        stops = {*given, *self.inputs} - {value}
        needed: set[int] = set()
        reads: set[str] = set()
        weights: set[str] = set()
        pending = [value]
        while pending:
            name = pending.pop()
            if name in stops:
                reads.add(name)
            elif name in self._weights:
                weights.add(name)
            elif name and self._maker[name] not in needed:
                needed.add(self._maker[name])
                pending.extend(self.nodes[self._maker[name]].input)
        return self._piece(value, sorted(needed), sorted(reads), sorted(weights))

    def _piece(self, value: str, nodes: list[int], reads: list[str], weights: list[str]) -> Piece:
        graph = helper.make_graph(
            [_named_once(self.nodes[k]) for k in nodes],
            "piece",
            [self._types[name] for name in reads],
            [self._types[value]],
            [self._weights[name] for name in weights],
        )
        proto = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        return Piece(proto, tuple(reads), value, self._folder)


def _named_once(node: onnx.NodeProto) -> onnx.NodeProto:
    """A copy named after its value: what is made again behind a cut has one name in both parts, which no graph may."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = next(name for name in node.output if name)
    return copy


def is_within(node: str, path: str) -> bool:
    """Whether a node's name says that it comes from the module at `path` or from one inside."""
    module = node.rpartition("/")[0]
    return module == path or module.startswith(f"{path}.")


def _load(file: Path) -> onnx.ModelProto:
    """The graph alone, every value of it with its type."""
    model = onnx.load(str(file), load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    if any(name and name not in known for node in model.graph.node for name in node.output):
        model = onnx.shape_inference.infer_shapes(model)
    return model
