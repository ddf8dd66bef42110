"""What each version of TensorRT is asked, and what becomes of its answer. Real builds: `test_rtx.py`."""

import json

import pytest

from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.trt import worker
from ldmc.runtime.trt.builder import build_engine
from ldmc.runtime.trt.log import KEPT_LINES, Figures
from tests.runtime.trt.recorder import Layer, module

MIB = 1 << 20


def request(tmp_path, **changes):
    """A request for `part.onnx` with a workspace of 64 MiB and no more."""
    return dict({
        "source": str(tmp_path / "part.onnx"), "engine": str(tmp_path / "part.engine"), "module": "tensorrt",
        "workspace_bytes": 64 * MIB, "tactic_sources": None, "timing_cache": None, "sm": None, "weightless": False,
        "result": str(tmp_path / "result.json"),
    }, **changes)


def calls(trt, name):
    return [call[1:] for call in trt.calls if call[0] == name]


@pytest.mark.parametrize("version, flags", [
    ("8.2.1.8", 1), ("8.5.2", 1), ("8.6.1", 1), ("10.3.0", 2), ("11.1.0", 0),
])
def test_every_version_builds_with_what_it_has(tmp_path, version, flags):
    trt = module(version)
    found = build_engine(trt, request(tmp_path), Figures())
    assert (tmp_path / "part.engine").read_bytes() == b"engine"
    assert [path.name for path in tmp_path.iterdir()] == ["part.engine"]
    assert calls(trt, "create_network") == [(flags,)]
    assert calls(trt, "parse_from_file") == [(str(tmp_path / "part.onnx"),)]
    assert (found["tensorrt"], found["engine_bytes"]) == (version, 6)


@pytest.mark.parametrize("version", ["8.2.1.8", "8.5.2", "8.6.1", "10.3.0", "11.1.0"])
def test_the_workspace_is_said_in_the_versions_words(tmp_path, version):
    trt = module(version)
    build_engine(trt, request(tmp_path), Figures())
    if version.startswith("8.2"):
        assert calls(trt, "max_workspace_size") == [(64 * MIB,)]
    else:
        assert calls(trt, "set_memory_pool_limit") == [(0, 64 * MIB)]


@pytest.mark.parametrize("version, wanted, mask", [
    ("8.2.1.8", ["cublas", "cublas_lt", "cudnn"], 0b111),
    ("8.2.1.8", ["cublas", "cublas_lt"], 0b011),
    ("8.5.2", ["cublas", "cublas_lt"], 0b11011),  # TensorRT's own two stay
    ("10.3.0", [], 0b11000),
])
def test_only_the_libraries_that_are_wanted_give_tactics(tmp_path, version, wanted, mask):
    trt = module(version)
    build_engine(trt, request(tmp_path, tactic_sources=wanted), Figures())
    assert calls(trt, "set_tactic_sources") == [(mask,)]


def test_tactics_are_left_alone_where_nothing_is_said_or_there_are_no_libraries(tmp_path):
    for trt, wanted in ((module("8.2.1.8"), None), (module("11.1.0"), ["cublas"])):
        build_engine(trt, request(tmp_path, tactic_sources=wanted), Figures())
        assert not calls(trt, "set_tactic_sources")


# ---- precision


def layers():
    """A convolution in half, a cast up, a sum in float32 with an input that is not connected, and its constant."""
    return [
        Layer(0, ["half"], ["half"]), Layer(2, ["half"], ["float"]), Layer(2, ["float", None], ["float", "float"]),
        Layer(1, [], ["float"]), Layer(2, ["float"], ["int32"]),
    ]


@pytest.mark.parametrize("version, flags", [("8.2.1.8", {0, 4}), ("8.5.2", {0, 5}), ("8.6.1", {0, 4})])
def test_float32_layers_stay_float32_in_a_weakly_typed_network(tmp_path, version, flags):
    """FP16 and the preference: STRICT_TYPES in 8.2, PREFER_PRECISION_CONSTRAINTS after."""
    found = layers()
    trt = module(version, found)
    build_engine(trt, request(tmp_path), Figures())
    assert {flag for (flag,) in calls(trt, "set_flag")} == flags
    assert [layer.precision for layer in found] == [None, None, "float", None, None]
    assert found[2].output_types == {0: "float", 1: "float"}
    assert not any(layer.output_types for layer in found if layer is not found[2])


@pytest.mark.parametrize("version", ["10.3.0", "11.1.0"])
def test_a_strongly_typed_network_is_told_nothing(tmp_path, version):
    found = layers()
    trt = module(version, found)
    build_engine(trt, request(tmp_path), Figures())
    assert not calls(trt, "set_flag")
    assert not any(layer.precision for layer in found)


# ---- timing cache


def test_timings_are_kept_and_used_again(tmp_path):
    cache = tmp_path / "timing.cache"
    trt = module("8.2.1.8")
    build_engine(trt, request(tmp_path, timing_cache=str(cache)), Figures())
    assert calls(trt, "create_timing_cache") == [(b"",)]
    assert cache.read_bytes() == b"new timings"
    trt = module("8.2.1.8")
    build_engine(trt, request(tmp_path, timing_cache=str(cache)), Figures())
    assert calls(trt, "create_timing_cache") == [(b"new timings",)]
    assert calls(trt, "set_timing_cache") == [("cache of 11", False)]


def test_timings_of_another_gpu_are_not_used(tmp_path):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"another GPU's")
    trt = module("8.2.1.8", cache_fits=False)
    build_engine(trt, request(tmp_path, timing_cache=str(cache)), Figures())
    assert calls(trt, "set_timing_cache") == [("cache of 13", False), ("cache of 0", False)]
    assert cache.read_bytes() == b"new timings"


# ---- what is said, and failure


def test_figures_are_read_from_the_log(tmp_path):
    says = [
        ("VERBOSE", "Original: 1793 layers"), ("VERBOSE", "After dead-layer removal: 1791 layers"),
        ("VERBOSE", "After reformat layers: 60 layers"), ("INFO", "Total Activation Memory: 35749888 bytes"),
        ("INFO", "Total Weights Memory: 548020992 bytes"),
    ]
    found = build_engine(module("8.6.1", says=says), request(tmp_path), Figures())
    keys = ("layers", "engine_layers", "weights_bytes", "activation_bytes")
    assert [found[key] for key in keys] == [1793, 60, 548020992, 35749888]


def test_what_a_version_does_not_say_is_none_and_its_layers_are_counted(tmp_path):
    found = build_engine(module("8.2.1.8", layers()), request(tmp_path), Figures())
    assert (found["layers"], found["engine_layers"], found["weights_bytes"]) == (5, None, None)


@pytest.mark.parametrize("version", ["8.2.1.8", "11.1.0"])
def test_a_build_that_fails_says_why_and_leaves_the_engine_that_was_there(tmp_path, version):
    (tmp_path / "part.engine").write_bytes(b"older")
    says = [("ERROR", "2: [utils.cpp::check::66] Error Code 2: OutOfMemory\n (no further information)"), ("ERROR", "x")]
    trt = module(version, engine=None, says=says)
    with pytest.raises(BundleProblem) as caught:
        build_engine(trt, request(tmp_path), Figures())
    assert caught.value.message == (
        "TensorRT %s cannot build part.onnx: 2: [utils.cpp::check::66] Error Code 2: OutOfMemory "
        "(no further information)" % version)
    assert (tmp_path / "part.engine").read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["part.engine"]


def test_a_graph_that_cannot_be_read_is_told_with_its_node(tmp_path):
    errors = [(17, "Assertion failed: scale_weights.type ==\n ::ONNX_NAMESPACE::TensorProto::FLOAT"), (18, "x")]
    figures = Figures()
    figures.read("Parsing node: norm1/InstanceNormalization [InstanceNormalization]", "info")
    with pytest.raises(BundleProblem) as caught:
        build_engine(module("8.2.1.8", parse_errors=errors), request(tmp_path), figures)
    assert caught.value.message == (
        "TensorRT 8.2.1.8 cannot read %s at norm1/InstanceNormalization (InstanceNormalization): Assertion failed: "
        "scale_weights.type == ::ONNX_NAMESPACE::TensorProto::FLOAT (and 1 more)" % (tmp_path / "part.onnx"))


def test_a_node_without_a_name_is_told_by_its_number(tmp_path):
    with pytest.raises(BundleProblem, match=r"part.onnx at node 17: no importer"):
        build_engine(module("8.2.1.8", parse_errors=[(17, "no importer")]), request(tmp_path), Figures())


def test_a_model_that_is_refused_as_a_whole_names_no_node(tmp_path):
    with pytest.raises(BundleProblem, match=r"part.onnx at its head: opset 18"):
        build_engine(module("8.2.1.8", parse_errors=[(-1, "opset 18")]), request(tmp_path), Figures())


def test_only_the_last_warnings_and_errors_are_kept():
    figures = Figures()
    for number in range(KEPT_LINES + 5):
        figures.read("message %d" % number, "warning")
        figures.read("detail %d" % number, "info")
    assert len(figures.lines) == KEPT_LINES
    assert figures.lines[-1] == "warning: message %d" % (KEPT_LINES + 4)


# ---- the worker


def run_worker(tmp_path, monkeypatch, trt, **changes):
    """Exit code and RESULT."""
    order = tmp_path / "request.json"
    order.write_text(json.dumps(request(tmp_path, **changes)))
    monkeypatch.setattr(worker.importlib, "import_module", lambda name: {"tensorrt": trt}[name])
    code = worker.main([str(order)])
    return code, json.loads((tmp_path / "result.json").read_text())


def test_the_worker_writes_what_it_built(tmp_path, monkeypatch):
    code, result = run_worker(tmp_path, monkeypatch, module("8.2.1.8"))
    assert code == 0
    assert set(result) == {"ok", "tensorrt", "engine_bytes", "layers", "engine_layers", "weights_bytes",
                           "activation_bytes", "seconds", "peak_rss_bytes"}
    assert result["ok"] and result["seconds"] >= 0 and result["peak_rss_bytes"] > MIB


def test_the_worker_writes_why_it_failed(tmp_path, monkeypatch):
    trt = module("8.2.1.8", engine=None, says=[("WARNING", "little memory"), ("ERROR", "no tactic")])
    code, result = run_worker(tmp_path, monkeypatch, trt)
    assert code == 1
    assert result["error"] == "TensorRT 8.2.1.8 cannot build part.onnx: no tactic"
    assert result["log"] == ["warning: little memory", "error: no tactic"]


def test_the_worker_says_that_the_engine_cannot_be_written(tmp_path, monkeypatch):
    engine = tmp_path / "gone" / "part.engine"
    code, result = run_worker(tmp_path, monkeypatch, module("8.2.1.8"), engine=str(engine))
    assert (code, result["error"]) == (1, "%s cannot be written: No such file or directory" % engine)


def test_the_worker_says_that_tensorrt_is_missing(tmp_path):
    order = tmp_path / "request.json"
    order.write_text(json.dumps(request(tmp_path, module="tensorrt_of_nowhere")))
    assert worker.main([str(order)]) == 1
    assert "tensorrt_of_nowhere cannot be imported" in json.loads((tmp_path / "result.json").read_text())["error"]
