"""The doubles refuse what the real versions refuse; else the tests over them would prove little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.device_bundle import make_pending_bundle

DOUBLES = Path(__file__).parent
PRELUDE = """
import sys, tensorrt as trt

class Log(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []

    def log(self, severity, msg):
        self.lines.append(msg)

log = Log()
builder = trt.Builder(log)
config = builder.create_builder_config()
network = builder.create_network(1)
parser = trt.OnnxParser(network, log)
path = sys.argv[1]
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """An ONNX file with external data, of opset 13."""
    return make_pending_bundle(tmp_path_factory.mktemp("graphs") / "b") / "unet" / "0.onnx"


def run(version, graph, code):
    """stderr's last line, or stdout, of code after PRELUDE."""
    done = subprocess.run([sys.executable, "-B", "-c", PRELUDE + code, str(graph)], capture_output=True, text=True,
                          env={"PYTHONPATH": str(DOUBLES / f"tensorrt_{version}"), "PATH": "/usr/bin:/bin"})
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("version, code, error", [
    ("8_2", "config.set_memory_pool_limit(0, 1)", "AttributeError"),
    ("8_2", "config.builder_optimization_level = 3", "AttributeError"),
    ("8_2", "trt.MemoryPoolType", "AttributeError"),
    ("8_2", "trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED", "AttributeError"),
    ("8_2", "trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS", "AttributeError"),
    ("8_2", "trt.int64", "AttributeError"),
    ("8_2", "trt.ICudaEngine.num_io_tensors", "AttributeError"),
    ("8_2", "trt.IExecutionContext.execute_async_v3", "AttributeError"),
    ("8_2", "trt.ExecutionContextAllocationStrategy", "AttributeError"),
    ("8_2", "builder.build_serialized_network(network)", "TypeError"),
    ("8_2", "parser.parse_from_file(b'x')", "TypeError"),
    ("8_2", "trt.IExecutionContext(None).device_memory = 4096", "TypeError"),
    ("8_2", "trt.IExecutionContext(None).device_memory", "AttributeError"),
    ("10_3", "config.max_workspace_size = 1", "AttributeError"),
    ("10_3", "trt.BuilderFlag.STRICT_TYPES", "AttributeError"),
    ("10_3", "trt.ICudaEngine.num_bindings", "AttributeError"),
    ("10_3", "trt.ICudaEngine.get_binding_index", "AttributeError"),
    ("10_3", "trt.IExecutionContext.execute_async_v2", "AttributeError"),
    ("10_3", "builder.max_batch_size = 1", "AttributeError"),
])
def test_what_a_version_lacks_raises(version, code, error, graph):
    assert run(version, graph, code).startswith(error + ":")


def test_a_logger_whose_base_was_not_initialised_is_refused(graph):
    code = "\nclass Bad(trt.ILogger):\n    def __init__(self): pass\ntrt.Runtime(Bad())"
    assert run("8_2", graph, code).startswith("TypeError: tensorrt.ILogger.__init__() must be called")


def test_a_network_of_implicit_batch_is_not_parsed(graph):
    code = "other = builder.create_network()\nparser = trt.OnnxParser(other, log)\n" \
        "print(parser.parse_from_file(path), parser.get_error(0).desc())"
    assert run("8_2", graph, code).startswith("False This version of the ONNX parser only supports")


@pytest.mark.parametrize("version", ["8_2", "10_3"])
def test_a_graph_builds_and_loads_only_in_its_own_version(version, graph, tmp_path):
    code = f"assert parser.parse_from_file(path)\n" \
        f"open({str(tmp_path / 'e')!r}, 'wb').write(builder.build_serialized_network(network, config))\nprint('built')"
    assert run(version, graph, code) == "built"
    other = {"8_2": "10_3", "10_3": "8_2"}[version]
    code = f"print(trt.Runtime(log).deserialize_cuda_engine(open({str(tmp_path / 'e')!r}, 'rb').read()), log.lines[0])"
    assert run(other, graph, code).startswith("None 1: [stdArchiveReader")


@pytest.mark.parametrize("change, words", [
    (lambda model: setattr(model.opset_import[0], "version", 14), "opset 14 and IR 7; read are 13 and 7"),
    (lambda model: setattr(model, "ir_version", 8), "opset 13 and IR 8; read are 13 and 7"),
    (lambda model: setattr(model.graph.node[0], "op_type", "Gelu"), "No importer registered for op: Gelu"),
    (lambda model: setattr(model.graph.node[2], "op_type", "Trilu"), "No importer registered for op: Trilu"),
    (lambda model: setattr(model.graph.initializer[0].external_data[0], "value", "gone.data"), "Failed to open file"),
    (lambda model: model.graph.node[1].CopyFrom(helper.make_node("Sin", ["input_1"], ["time_float"], "sine")),
     "Unsupported type INT64 for op Sin"),
])
def test_graphs_that_8_2_cannot_read(graph, tmp_path, change, words):
    model = onnx.load(str(graph), load_external_data=False)
    change(model)
    (tmp_path / "model.onnx.data").write_bytes((graph.parent / "model.onnx.data").read_bytes())
    (tmp_path / "0.onnx").write_bytes(model.SerializeToString())
    code = "print(parser.parse_from_file(path), [parser.get_error(i).desc() for i in range(parser.num_errors)])"
    found = run("8_2", tmp_path / "0.onnx", code)
    assert found.startswith("False") and words in found


def test_half_scales_of_a_norm_make_garbage_without_a_word(tmp_path):
    value = helper.make_tensor_value_info
    scales = [numpy_helper.from_array(np.ones(2, "float16"), name) for name in ("scale", "bias")]
    node = helper.make_node("InstanceNormalization", ["x", "scale", "bias"], ["y"])
    graph = helper.make_graph([node], "g", [value("x", TensorProto.FLOAT16, (1, 2, 4))],
                              [value("y", TensorProto.FLOAT16, (1, 2, 4))], scales)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    (tmp_path / "norm.onnx").write_bytes(model.SerializeToString())
    code = "assert parser.parse_from_file(path)\n" \
        "print(b'\"is_garbage\": true' in builder.build_serialized_network(network, config))"
    assert run("8_2", tmp_path / "norm.onnx", code) == "True"
    assert run("10_3", tmp_path / "norm.onnx", code) == "False"
