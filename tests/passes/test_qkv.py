"""Projections of one tensor become one MatMul and a Split."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ldmc.passes.rewrites import qkv
from tests.passes.modules import counts, noise, run

HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '
TOKENS, WIDTH = 5, 8


def attention(
    weights: dict[str, tuple[int, ...]], body: str, outputs: dict[str, int], **values: Any
) -> ir.Model:
    """`body` over x float[1,5,8], with constants of the given shapes (or `values`), and outputs of the given widths."""
    declared = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in weights.items())
    results = ", ".join(f"float[1,{TOKENS},{width}] {name}" for name, width in outputs.items())
    inputs = f"float[1,{TOKENS},{WIDTH}] x" + (f", {declared}" if declared else "")
    model = ir.from_onnx_text(f"{HEAD}({inputs}) => ({results}) {{ {body} }}")
    for seed, value in enumerate(list(model.graph.inputs)[1:]):
        model.graph.inputs.remove(value)
        array = values.get(value.name or "", noise(*weights[value.name or ""], seed=seed))
        value.const_value = ir.tensor(array, name=value.name)
        model.graph.initializers.add(value)
    return model


def named(model: ir.Model, **names: str) -> ir.Model:
    """The same, with names for the nodes that make the given values."""
    for node in model.graph:
        node.name = names.get(node.outputs[0].name or "", node.name)
    return model


def agree(before: ir.Model, after: ir.Model) -> None:
    x = noise(1, TOKENS, WIDTH, seed=9)
    for value, wanted in zip(run(after, x), run(before, x), strict=True):
        np.testing.assert_array_equal(value, wanted)


SQUARE = (WIDTH, WIDTH)
THREE = """
    mq = MatMul (x, wq)
    q = Add (mq, bq)
    mk = MatMul (x, wk)
    k = Add (bk, mk)
    mv = MatMul (x, wv)
    v = Add (mv, bv)
    qk = Mul (q, k)
    y = Mul (qk, v)
"""


def three() -> ir.Model:
    weights = {"wq": SQUARE, "wk": SQUARE, "wv": SQUARE, "bq": (WIDTH,), "bk": (WIDTH,), "bv": (WIDTH,)}
    model = attention(weights, THREE, {"y": WIDTH})
    paths = {f"m{letter}": f"mid.attn.to_{letter}/MatMul" for letter in "qkv"}
    return named(model, **paths, q="mid.attn.to_q/Add", k="mid.attn.to_k/Add", v="mid.attn.to_v/Add")


def test_three_with_bias() -> None:
    model = three()
    assert qkv.merge(model) == 1
    assert counts(model) == {"MatMul": 1, "Add": 1, "Split": 1, "Mul": 2}
    stem = "mid.attn.to_q+to_k+to_v"
    assert [node.name for node in model.graph][:3] == [f"{stem}/MatMul", f"{stem}/Add", f"{stem}/Split"]
    assert sorted(model.graph.initializers) == [f"{stem}.bias", f"{stem}.weight", f"{stem}/Split.sizes"]
    assert model.graph.initializers[f"{stem}.weight"].shape == ir.Shape([WIDTH, 3 * WIDTH])
    assert [value.name for value in model.graph.node(2).outputs] == ["q", "k", "v"]
    agree(three(), model)


def test_three_with_bias_whose_biases_stay_apart() -> None:
    model = three()
    assert qkv.merge(model, biases=False) == 1
    assert counts(model) == {"MatMul": 1, "Split": 1, "Add": 3, "Mul": 2}
    agree(three(), model)


def test_before_opset_13_the_sizes_of_a_split_are_an_attribute() -> None:
    def older() -> ir.Model:
        model = three()
        model.opset_imports[""], model.ir_version = 12, 7
        return model

    model = older()
    assert qkv.merge(model) == 1
    split = next(node for node in model.graph if node.op_type == "Split")
    assert list(split.attributes["split"].as_ints()) == [WIDTH] * 3
    assert len(split.inputs) == 1
    agree(older(), model)


def test_merging_again_changes_nothing() -> None:
    model = three()
    qkv.merge(model)
    once = ir.to_proto(model)
    assert qkv.merge(model) == 0
    assert ir.to_proto(model) == once


def test_two_without_bias_and_of_different_width() -> None:
    body = """
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        y = Concat <axis = 2> (v, k)
    """
    weights = {"wk": (WIDTH, 4), "wv": (WIDTH, 6)}
    model = attention(weights, body, {"y": 10})
    assert qkv.merge(model) == 1
    assert counts(model) == {"MatMul": 1, "Split": 1, "Concat": 1}
    sizes = next(value for name, value in model.graph.initializers.items() if name.endswith("Split.sizes"))
    np.testing.assert_array_equal(sizes.const_value.numpy(), [4, 6])
    agree(attention(weights, body, {"y": 10}), model)


def test_three_without_bias() -> None:
    body = """
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        y = Sum (q, k, v)
    """
    weights = {"wq": SQUARE, "wk": SQUARE, "wv": SQUARE}
    model = attention(weights, body, {"y": WIDTH})
    assert qkv.merge(model) == 1
    assert counts(model) == {"MatMul": 1, "Split": 1, "Sum": 1}
    agree(attention(weights, body, {"y": WIDTH}), model)


def test_two_with_bias_and_one_without() -> None:
    body = """
        mq = MatMul (x, wq)
        q = Add (mq, bq)
        mk = MatMul (x, wk)
        k = Add (mk, bk)
        v = MatMul (x, wv)
        y = Sum (q, k, v)
    """
    weights = {"wq": SQUARE, "wk": SQUARE, "wv": SQUARE, "bq": (WIDTH,), "bk": (WIDTH,)}
    model = attention(weights, body, {"y": WIDTH})
    assert qkv.merge(model) == 1
    assert counts(model) == {"MatMul": 2, "Add": 1, "Split": 1, "Sum": 1}
    assert "wv" in model.graph.initializers
    agree(attention(weights, body, {"y": WIDTH}), model)


def test_a_shared_bias_and_a_shared_weight() -> None:
    body = """
        mq = MatMul (x, w)
        q = Add (mq, b)
        mk = MatMul (x, w)
        k = Add (mk, b)
        qk = Mul (q, k)
        y = Add (qk, b)
    """
    weights = {"w": SQUARE, "b": (WIDTH,)}
    model = attention(weights, body, {"y": WIDTH})
    assert qkv.merge(model) == 1
    assert counts(model) == {"MatMul": 1, "Add": 2, "Split": 1, "Mul": 1}
    assert "b" in model.graph.initializers and "w" not in model.graph.initializers
    agree(attention(weights, body, {"y": WIDTH}), model)


def test_two_groups_of_nodes_without_names() -> None:
    body = """
        a = MatMul (x, wa)
        b = MatMul (x, wb)
        s = Mul (a, b)
        c = MatMul (s, wc)
        d = MatMul (s, wd)
        y = Mul (c, d)
    """
    weights = {"wa": SQUARE, "wb": SQUARE, "wc": SQUARE, "wd": SQUARE}
    model = attention(weights, body, {"y": WIDTH})
    assert qkv.merge(model) == 2
    assert counts(model) == {"MatMul": 2, "Split": 2, "Mul": 2}
    agree(attention(weights, body, {"y": WIDTH}), model)


LEFT_ALONE = {
    "one product is a graph output": (
        "q = MatMul (x, wq)\n y = MatMul (x, wk)\n z = Neg (q)",
        {"y": WIDTH, "z": WIDTH},
    ),
    "one biased product is a graph output": (
        "q = MatMul (x, wq)\n qb = Add (q, b)\n k = MatMul (x, wk)\n y = Add (k, b)\n z = Neg (qb)",
        {"y": WIDTH, "z": WIDTH},
    ),
    "one product is a graph output before its bias": (
        "y = MatMul (x, wq)\n a = Add (y, b)\n k = MatMul (x, wk)\n c = Add (k, b)\n z = Mul (a, c)",
        {"y": WIDTH, "z": WIDTH},
    ),
    "different inputs": (
        "n = Neg (x)\n q = MatMul (x, wq)\n k = MatMul (n, wk)\n y = Mul (q, k)",
        {"y": WIDTH},
    ),
    "a weight that is computed": (
        "n = Neg (wk)\n q = MatMul (x, wq)\n k = MatMul (x, n)\n y = Mul (q, k)",
        {"y": WIDTH},
    ),
    "x from the right": (
        "t = Transpose <perm = [0,2,1]> (x)\n q = MatMul (wq, t)\n k = MatMul (wk, t)\n"
        "s = Mul (q, k)\n y = Transpose <perm = [0,2,1]> (s)",
        {"y": WIDTH},
    ),
    "one projection alone": ("q = MatMul (x, wq)\n y = Add (q, b)", {"y": WIDTH}),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_left_alone(case: str) -> None:
    body, outputs = LEFT_ALONE[case]
    weights = {
        name: shape for name, shape in {"wq": SQUARE, "wk": SQUARE, "b": (WIDTH,)}.items() if name in body
    }
    model = attention(weights, body, outputs)
    before = ir.to_proto(model)
    assert qkv.merge(model) == 0
    assert ir.to_proto(model) == before


NO_BIAS = {
    "a bias that is broadcast": "q = MatMul (x, wq)\n a = Add (q, one)\n k = MatMul (x, wk)\n c = Add (k, one)",
    "a residual": "q = MatMul (x, wq)\n a = Add (q, b)\n k = MatMul (x, wk)\n c = Add (k, x)",
    "doubled": "q = MatMul (x, wq)\n a = Add (q, q)\n k = MatMul (x, wk)\n c = Add (k, b)",
    "summed": "q = MatMul (x, wq)\n k = MatMul (x, wk)\n a = Add (q, k)\n c = Add (x, b)",
}


@pytest.mark.parametrize("case", NO_BIAS)
def test_an_add_that_is_no_bias_stays_an_add(case: str) -> None:
    body = NO_BIAS[case] + "\n y = Mul (a, c)"
    weights = {"wq": SQUARE, "wk": SQUARE, **({"one": (1,)} if "one" in body else {"b": (WIDTH,)})}
    model = attention(weights, body, {"y": WIDTH})
    qkv.merge(model)
    assert counts(model)["Add"] == 2
    agree(attention(weights, body, {"y": WIDTH}), model)


def test_a_bias_wider_than_its_product_is_not_joined() -> None:
    body = "q = MatMul (x, wq)\n a = Add (q, b)\n k = MatMul (x, wk)\n c = Add (k, b)\n y = Mul (a, c)"
    weights = {"wq": (WIDTH, 1), "wk": (WIDTH, 1), "b": (WIDTH,)}
    model = attention(weights, body, {"y": WIDTH})
    qkv.merge(model)
    assert counts(model)["Add"] == 2
    agree(attention(weights, body, {"y": WIDTH}), model)


def test_the_attentions_that_read_one_context_stay_apart() -> None:
    body = """
        k1 = MatMul (x, wa)
        v1 = MatMul (x, wb)
        k2 = MatMul (x, wc)
        v2 = MatMul (x, wd)
        y = Sum (k1, v1, k2, v2)
    """
    weights = {"wa": SQUARE, "wb": SQUARE, "wc": SQUARE, "wd": SQUARE}
    names = {
        "k1": "one.to_k/MatMul",
        "v1": "one.to_v/MatMul",
        "k2": "two.to_k/MatMul",
        "v2": "two.to_v/MatMul",
    }
    model = named(attention(weights, body, {"y": WIDTH}), **names)
    assert qkv.merge(model) == 2
    assert counts(model) == {"MatMul": 2, "Split": 2, "Sum": 1}
    assert "one.to_k+to_v.weight" in model.graph.initializers
    agree(named(attention(weights, body, {"y": WIDTH}), **names), model)


def test_weights_are_not_read_while_merging() -> None:
    def unread() -> ir.TensorProtocol:
        raise AssertionError("a weight was read")

    body = "k = MatMul (x, wk)\n v = MatMul (x, wv)\n y = Mul (k, v)"
    model = attention({"wk": SQUARE, "wv": SQUARE}, body, {"y": WIDTH})
    for value in model.graph.initializers.values():
        value.const_value = ir.LazyTensor(
            unread, dtype=ir.DataType.FLOAT, shape=ir.Shape(SQUARE), name=value.name
        )
    assert qkv.merge(model) == 1
    with pytest.raises(AssertionError, match="was read"):
        model.graph.initializers["k+v.weight"].const_value.numpy()
