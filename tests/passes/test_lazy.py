"""Weights that are read, cast and computed only when they are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ldmc.errors import PassError
from ldmc.passes.lazy import concatenated, derived, parameter
from tests.passes.modules import DictWeights, NoWeights, noise, run


def parameter_of(
    stored: Any, dtype: ir.DataType = ir.DataType.FLOAT16, key: str = "mid.conv.weight"
) -> ir.LazyTensor:
    return parameter(DictWeights({key: stored}), key, "unet", dtype, ir.Shape(stored.shape))


def test_a_parameter_is_cast_when_it_is_asked_for() -> None:
    stored = noise(3, 4) / 3
    tensor = parameter_of(stored)
    assert (tensor.dtype, tensor.shape, tensor.nbytes) == (ir.DataType.FLOAT16, ir.Shape([3, 4]), 24)
    np.testing.assert_array_equal(tensor.numpy(), stored.astype("float16"))
    np.testing.assert_array_equal(parameter_of(stored, ir.DataType.FLOAT).numpy(), stored)
    half = stored.astype("float16")
    np.testing.assert_array_equal(parameter_of(half, ir.DataType.FLOAT).numpy(), half.astype("float32"))


def test_a_parameter_is_put_together_from_its_chunks() -> None:
    stored = noise(7, 333)
    np.testing.assert_array_equal(parameter_of(stored).numpy(), stored.astype("float16"))


def test_describing_a_parameter_reads_nothing() -> None:
    tensor = parameter(NoWeights(), "conv.weight", "unet", ir.DataType.FLOAT16, ir.Shape([640, 320, 3, 3]))
    assert tensor.nbytes == 2 * 640 * 320 * 9
    joined = concatenated([tensor, tensor], 0, "both")
    assert joined.nbytes == 2 * tensor.nbytes
    with pytest.raises(AssertionError, match="was read"):
        joined.numpy()


def test_a_weight_beyond_fp16_names_what_to_keep() -> None:
    stored = np.array([1.0, -70000.0], dtype="float32")
    with pytest.raises(PassError, match="unet: mid.conv.weight holds 70000, more than float16") as caught:
        parameter_of(stored).numpy()
    assert caught.value.fix.endswith("fp16{keep=[norm,quantiser,timestep,unet/mid.conv]}")


def test_a_weight_beyond_fp16_is_found_inside_what_is_derived_from_it() -> None:
    stored = np.array([[1.0, -70000.0]], dtype="float32")
    with pytest.raises(PassError, match="mid.conv.weight"):
        concatenated([parameter_of(stored), parameter_of(stored)], 0, "both").numpy()


@pytest.mark.parametrize("value", [65504.0, 65519.9, 1e-9, 0.0])
def test_a_weight_that_fp16_rounds_is_no_error(value: float) -> None:
    stored = np.array([value], dtype="float32")
    np.testing.assert_array_equal(parameter_of(stored).numpy(), stored.astype("float16"))


def test_a_large_weight_is_no_error_in_fp32() -> None:
    stored = np.array([1e30], dtype="float32")
    np.testing.assert_array_equal(parameter_of(stored, ir.DataType.FLOAT).numpy(), stored)


DERIVED = [
    ("y = Transpose <perm = [1,0]> (a)", "float[4,3]"),
    ("y = Transpose (a)", "float[4,3]"),
    ("y = Unsqueeze (a, axes)", "float[1,3,4]"),
    ("y = Mul (a, b)", "float[3,4]"),
    ("y = Mul (a, a)", "float[3,4]"),
    ("y = ReduceSum <keepdims = 0> (a, axes)", "float[4]"),
    ("y = ReduceSum <keepdims = 1> (a)", "float[1,1]"),
    ("y = Neg (a)", "float[3,4]"),
    ("y = Concat <axis = 0> (a, b)", "float[6,4]"),
    ("y = Concat <axis = 1> (a, b, a)", "float[3,12]"),
    ("y = Reshape (a, sides)", "float[2,6]"),
    ("y = Cast <to = 10> (a)", "float16[3,4]"),
    ("y = Clip (a, , one)", "float[3,4]"),
]


@pytest.mark.parametrize("dtype", ["float", "float16"])
@pytest.mark.parametrize(("node", "output"), DERIVED)
def test_derived_is_what_the_engine_computes(node: str, output: str, dtype: str) -> None:
    values = {
        "a": noise(3, 4),
        "b": noise(3, 4, seed=1),
        "one": np.array(1.0, dtype="float32"),
        "axes": np.array([0]),
        "sides": np.array([2, 6]),
    }
    values = {
        k: v.astype("float16") if dtype == "float16" and v.dtype == "float32" else v
        for k, v in values.items()
    }
    if not output.startswith("float16"):
        output = output.replace("float", dtype)
    used = [
        name
        for name in ("a", "b", "axes", "sides", "one")
        if name in node.partition("(")[2].strip(" )").split(", ")
    ]
    kinds = {
        "a": f"{dtype}[3,4]",
        "b": f"{dtype}[3,4]",
        "one": dtype,
        "axes": "int64[1]",
        "sides": "int64[2]",
    }
    inputs = ", ".join(f"{kinds[name]} {name}" for name in used)
    model = ir.from_onnx_text(
        f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({output} y) {{ {node} }}'
    )
    only = next(iter(model.graph))
    tensors = [ir.tensor(values[value.name]) for value in only.inputs if value is not None]

    tensor = derived(only, tensors, 18)

    [expected] = run(model, *(values[name] for name in used))
    assert (tensor.dtype.numpy(), tuple(tensor.shape.numpy())) == (expected.dtype, expected.shape)
    if "Reduce" in node:
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=2e-6 if dtype == "float" else 2e-3)
    else:
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_derived_reads_nothing_until_it_is_written_and_outlives_its_node() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[2,3] w) => (float[3,2] y) { y = Transpose (w) }'
    )
    node = model.graph.node(0)
    unread = parameter(NoWeights(), "w", "unet", ir.DataType.FLOAT, ir.Shape([2, 3]))
    derived(node, [unread], 18)
    stored = noise(2, 3)
    tensor = derived(node, [parameter_of(stored, ir.DataType.FLOAT)], 18)
    node.attributes["perm"] = ir.AttrInt64s("perm", [0, 1])
    np.testing.assert_array_equal(tensor.numpy(), stored.T)


@pytest.mark.parametrize("axis", [0, 1])
def test_concatenated_is_numpys(axis: int) -> None:
    parts = [noise(4, 4), noise(4, 4, seed=1)]
    joined = concatenated([ir.tensor(part) for part in parts], axis, "qk")
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(parts, axis=axis))
    assert joined.shape == ir.Shape([8, 4] if axis == 0 else [4, 8])
    assert joined.name == "qk"


def test_tensors_that_do_not_fit_cannot_be_joined() -> None:
    joined = concatenated([ir.tensor(noise(4, 4)), ir.tensor(noise(3, 5))], 0, "qk")
    with pytest.raises(ValueError):
        joined.numpy()
