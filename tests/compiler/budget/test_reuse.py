"""ONNX Runtime's sharing of buffers: by hand, and against what ONNX Runtime says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ldmc.compiler.budget.reuse import onnxruntime_timeline
from ldmc.compiler.graph import load_summary
from ldmc.errors import PassError
from tests.compiler.budget.graphs import KIB, graph_of


def live_kib(body: str, inputs: str = "float[256] x", outputs: str = "float[256] y") -> list[float]:
    return [size / KIB for size in onnxruntime_timeline(graph_of(body, inputs, outputs)).live_bytes]


def test_a_view_has_its_inputs_buffer() -> None:
    body = "a = Add (x, x) b = Flatten (a) c = Flatten (b) y = Add (c, c)"
    assert live_kib(body, outputs="float[1, 256] y") == [1, 1, 1, 2]


def test_softmax_is_in_place_unless_its_input_is_needed() -> None:
    assert live_kib("a = Add (x, x) b = Softmax (a) y = Add (b, b)") == [1, 1, 2]
    assert live_kib("a = Add (x, x) b = Softmax (a) y = Add (b, a)") == [1, 2, 3]


def test_an_operator_of_two_inputs_is_not_in_place() -> None:
    assert live_kib("a = Add (x, x) b = Add (a, x) y = Add (b, x)") == [1, 2, 2]


def test_a_freed_buffer_of_the_same_shape_is_taken_and_kept_until_then() -> None:
    """`a` is free after `b`, but `e` will have its buffer: it is held through `c`."""
    body = "a = Add (x, x) b = Concat <axis = 0> (a, a) c = Transpose (b) e = Add (x, x) y = Add (e, x)"
    timeline = onnxruntime_timeline(graph_of(body, outputs="float[512] c, float[256] y"))
    spans = {buffer.name: (buffer.first, buffer.last) for buffer in timeline.buffers}
    assert spans["a"] == (0, 4) and "e" not in spans


def test_a_buffer_of_another_shape_is_not() -> None:
    body = "a = Add (x, x) b = Concat <axis = 0> (a, a) y = ReduceMax <keepdims = 0> (b)"
    assert live_kib(body, outputs="float y")[:2] == [1, 3]


def test_half_precision_is_computed_in_fp32() -> None:
    inputs, outputs = "float16[256] x", "float16[256] y"
    assert live_kib("a = Add (x, x) y = Add (a, a)", inputs, outputs) == [1, 2]


def test_a_cast_between_floats_is_nothing_then() -> None:
    body = "a = Add (x, x) b = Cast <to = 1> (a) c = Cast <to = 10> (b) y = Add (c, c)"
    assert live_kib(body, "float16[256] x", "float16[256] y") == [1, 1, 1, 2]


def test_silu_and_bias_are_one_operator() -> None:
    timeline = onnxruntime_timeline(graph_of("a = Sigmoid (x) b = Mul (x, a) y = Add (b, b)"))
    assert timeline.steps == ("b", "y")


def test_a_size_that_is_not_known_is_told() -> None:
    with pytest.raises(PassError, match="size of x is not known"):
        onnxruntime_timeline(graph_of("a = Add (x, x) y = Add (a, a)", "float[n] x", "float[n] y"))


@pytest.mark.parametrize("component", ["unet", "decoder"])
def test_the_plan_is_onnx_runtimes_own(component: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """Its profile says what is in use after every operator; the largest of these is our peak."""
    model = tiny_bundle / component / "model.onnx"
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {
        spec.name: np.zeros(spec.shape, np.float32 if "float" in spec.type else np.int64)
        for spec in session.get_inputs()
    }
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    in_use = [int(event["args"]["mem_bytes_requested_in_use"]) for event in events if _is_kernel(event)]
    weights = min(in_use)  # what is left after the last operator, but for the output
    peak = onnxruntime_timeline(load_summary(model)).peak_bytes
    assert peak == pytest.approx(max(in_use) - weights, rel=0.1)


def _is_kernel(event: dict) -> bool:
    return event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
