"""A file with functions of its own is refused before an engine writes them out."""

import onnx
import pytest
from onnx import helper

from ldmc.runtime import load
from ldmc.runtime.backends.onnx_functions import MOST_FIELDS, refuse_functions
from ldmc.runtime.errors import BundleProblem
from tests.runtime.tiny_bundle import make_bundle, refresh_files


def grown(path, calls=9, depth=12):
    """Adds functions to a graph that would be calls ** depth nodes written out."""
    model = onnx.load(str(path), load_external_data=False)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    for level in range(depth):
        name, domain = ("F%d" % (level + 1), "own") if level + 1 < depth else ("Relu", "")
        wires = ["x"] + ["v%d" % k for k in range(calls - 1)] + ["y"]
        nodes = [helper.make_node(name, [a], [b], domain=domain) for a, b in zip(wires, wires[1:])]
        model.functions.append(helper.make_function("own", "F%d" % level, ["x"], ["y"], nodes, opsets))
    model.opset_import.add(domain="own", version=1)
    model.graph.node.append(helper.make_node("F0", ["output_0"], ["more"], domain="own"))
    path.write_bytes(model.SerializeToString())


def test_graphs_of_ldmc_have_none(bundle):
    for name in ("unet", "decoder"):
        refuse_functions(str(bundle / name / "model.onnx"))


def test_a_bundle_whose_graph_would_grow_without_end_is_refused_at_once(tmp_path):
    bundle = make_bundle(tmp_path / "x.cpu.ldmc")
    grown(bundle / "decoder" / "model.onnx")
    refresh_files(bundle)
    with pytest.raises(BundleProblem, match="model.onnx has functions of its own"):
        load(str(bundle))


@pytest.mark.parametrize("content", [b"", b"\xff" * 30, b"\x0a", b"\x0f\x00", b"\x0a\xff\xff\xff\xff\x0f", b"not onnx"])
def test_what_is_no_onnx_is_left_to_the_engine(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    refuse_functions(str(tmp_path / "m"))


def test_fields_without_end_are_refused(tmp_path):
    (tmp_path / "m").write_bytes(b"\x08\x01" * MOST_FIELDS + b"\x00")
    with pytest.raises(BundleProblem):
        refuse_functions(str(tmp_path / "m"))
