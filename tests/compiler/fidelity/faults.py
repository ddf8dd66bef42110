"""Faults put into a bundle on purpose: one weight scaled, one node swapped; hashes are made to agree again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def copied(bundle: Path, copy: Path) -> Path:
    """A copy of `bundle` that may be broken."""
    shutil.copytree(bundle, copy)
    return copy


def scale_weight(bundle: Path, component: str, weight: str, factor: float) -> None:
    """Multiply one initializer by `factor` where it is stored: in the data file, or in each graph that holds it."""
    for file in graphs(bundle, component):
        model = onnx.load(str(file), load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.name != weight:
                continue
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _scale_stored(file.parent, tensor, factor)
                rehash(bundle)
                return
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), weight))
            file.write_bytes(model.SerializeToString())
            rehash(bundle)
            return
    raise KeyError(weight)


def _scale_stored(folder: Path, tensor: onnx.TensorProto, factor: float) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    with (folder / place["location"]).open("r+b") as stream:
        stream.seek(int(place["offset"]))
        values = np.frombuffer(stream.read(int(place["length"])), dtype)
        stream.seek(int(place["offset"]))
        stream.write((values * factor).astype(dtype).tobytes())


def change_node(bundle: Path, component: str, node: str, change: Callable[[onnx.NodeProto], None]) -> None:
    """Change the node of that name, in the graph that has it."""
    for file in graphs(bundle, component):
        model = onnx.load(str(file), load_external_data=False)
        for found in model.graph.node:
            if found.name == node:
                change(found)
                file.write_bytes(model.SerializeToString())
                rehash(bundle)
                return
    raise KeyError(node)


def swap_node(bundle: Path, component: str, node: str, operator: str) -> None:
    """Make the node of that name another operator on the same inputs."""

    def change(found: onnx.NodeProto) -> None:
        found.op_type = operator
        del found.attribute[:]

    change_node(bundle, component, node, change)


def swap_inputs(bundle: Path, component: str, node: str) -> None:
    """Exchange the first two inputs of the node of that name."""

    def change(found: onnx.NodeProto) -> None:
        found.input[0], found.input[1] = found.input[1], found.input[0]

    change_node(bundle, component, node, change)


def graphs(bundle: Path, component: str) -> list[Path]:
    """The ONNX files of a component that its manifest lists as running, in order."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    parts = manifest["components"][component]["parts"]
    return [bundle / (part.get("source") or part["file"]) for part in parts]


def rehash(bundle: Path) -> None:
    """Make the manifest agree with the files again, as whoever altered them on purpose would."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["files"]:
        content = (bundle / entry["path"]).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    path.write_text(json.dumps(manifest))
