"""Where an ONNX graph has its weights, read without the onnx package: held against graphs that the package writes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ldmc.runtime import BundleProblem, load
from ldmc.runtime.checks.external_data import external_locations
from tests.runtime.tiny_bundle import read_manifest_json, refresh_files, write_manifest


def _tensor(location):
    """A tensor whose content is elsewhere."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _graph(nodes=(), weights=()):
    return helper.make_graph(list(nodes), "g", [], [], list(weights))


def test_every_place_of_a_tensor_is_looked_at(tmp_path):
    constant = helper.make_node("Constant", [], ["c"], value=_tensor("constant"))
    inner = _graph([constant], [_tensor("subgraph")])
    many = helper.make_node("X", [], ["x"], several=[_tensor("list-1"), _tensor("list-2")])
    branch = helper.make_node("If", ["y"], ["z"], then_branch=inner, else_branch=_graph(weights=[_tensor("else")]))
    sparse = helper.make_sparse_tensor(_tensor("sparse-values"), _tensor("sparse-indices"), [9])
    model = helper.make_model(_graph([many, branch], [_tensor("initializer")]))
    model.graph.sparse_initializer.append(sparse)
    model.functions.append(helper.make_function("d", "F", [], ["c"], [
        helper.make_node("Constant", [], ["c"], value=_tensor("function"))], []))
    model.training_info.add().algorithm.CopyFrom(_graph(weights=[_tensor("training")]))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert external_locations(str(path)) == sorted([
        "constant", "subgraph", "list-1", "list-2", "else", "sparse-values", "sparse-indices", "initializer",
        "function", "training"])


def test_a_graph_without_external_data(tmp_path):
    path = tmp_path / "m.onnx"
    weight = numpy_helper.from_array(np.arange(9.0), "w")
    path.write_bytes(helper.make_model(_graph(weights=[weight])).SerializeToString())
    assert external_locations(str(path)) == []


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x3a\xff\xff\xff\xff\x0f", b"\x08", b"\x3a\x02\x2a\x7f",
                                     b"\x00" * 40, b"\xff" * 40, b"\x3b\x3c"])
def test_what_is_not_a_graph(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleProblem, match="it is not an ONNX graph"):
        external_locations(str(path))


def test_graphs_in_graphs_in_graphs(tmp_path):
    """Deeper than protobuf's own package writes: graph 7 of a model, node 1, attribute 5, graph 6."""
    def field(number, content):
        size, digits = len(content), []
        while size > 127:
            digits.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *digits, size]) + content

    content = b""
    for _ in range(90):
        content = field(1, field(5, field(6, content)))
    path = tmp_path / "m.onnx"
    path.write_bytes(field(7, content))
    with pytest.raises(BundleProblem, match="nested deeper than 200"):
        external_locations(str(path))


@pytest.mark.parametrize("location, words", [
    ("../../weights.data", "names a file outside the bundle: 'unet/../../weights.data'"),
    ("/etc/passwd", "names a file outside the bundle: '/etc/passwd'"),
    ("other.data", "has weights in 'unet/other.data', which the manifest does not list"),
    ("*/_ORT_MEM_ADDR_/*", "has weights in .*_ORT_MEM_ADDR_.*which the manifest does not list"),
])
def test_weights_that_are_not_the_bundles(bundle, location, words):
    """The file is there, and ONNX Runtime would read some of them."""
    content = (bundle / "unet" / "model.onnx.data").read_bytes()
    for place in (bundle / "unet" / "other.data", bundle.parent / "weights.data"):
        place.write_bytes(content)
    path = bundle / "unet" / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    refresh_files(bundle)
    with pytest.raises(BundleProblem, match=words):
        load(bundle).close()


def test_weights_that_lost_their_line(bundle):
    manifest = read_manifest_json(bundle)
    manifest["files"] = [entry for entry in manifest["files"] if entry["role"] != "weights"]
    write_manifest(bundle, manifest)
    with pytest.raises(BundleProblem, match="weights in .*data', which the manifest does not list") as caught:
        load(bundle).close()
    assert caught.value.exit_code == 5
