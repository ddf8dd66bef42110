"""Multiply-accumulates: against counts by hand, and against PyTorch's own flop counter."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from ldmc.compiler.graph import load_summary, summarise


def macs_of(signature: str, node: str) -> int | None:
    text = f'<ir_version: 10, opset_import: ["" : 18]> g ({signature}) => (float y) {{ {node} }}'
    model = ir.from_onnx_text(text)
    model.graph.outputs[0].shape = None
    return summarise(model).stats.macs


@pytest.mark.parametrize(
    ("signature", "node", "macs"),
    [
        # 8 output channels of 16 x 16 (stride 2), each of 4 input channels (group 2) times 3 x 3
        (
            "float[1,8,32,32] x, float[8,4,3,3] w",
            "y = Conv <group = 2, strides = [2,2], pads = [1,1,1,1]> (x, w)",
            8 * 16 * 16 * 4 * 9,
        ),
        # every one of 4 x 5 x 5 inputs is spread over 6 output channels times 2 x 2
        ("float[1,4,5,5] x, float[4,6,2,2] w", "y = ConvTranspose <strides = [2,2]> (x, w)", 4 * 25 * 6 * 4),
        ("float[2,8,16,32] a, float[2,8,32,4] b", "y = MatMul (a, b)", 2 * 8 * 16 * 32 * 4),
        ("float[7] a, float[7] b", "y = MatMul (a, b)", 7),
        ("float[3,5] a, float[5,2] b", "y = Gemm (a, b)", 3 * 5 * 2),
        ("float[5,3] a, float[2,5] b", "y = Gemm <transA = 1, transB = 1> (a, b)", 3 * 5 * 2),
        ("float[3,5] a, float[3,5] b", "y = Mul (a, b)", 0),
        ("float[N,5] a, float[5,2] b", "y = Gemm (a, b)", None),
        ("float a, float[5,2] b", "y = MatMul (a, b)", None),
    ],
)
def test_by_hand(signature: str, node: str, macs: int | None) -> None:
    assert macs_of(signature, node) == macs


def test_agrees_with_pytorchs_flop_counter(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.SiLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2, groups=4),
        torch.nn.ConvTranspose2d(8, 4, 2, stride=2),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 14 * 14, 10),
    ).eval()
    x = torch.randn(2, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        network(x)
    torch.onnx.export(network, (x,), tmp_path / "m.onnx", dynamo=True, verbose=False)
    assert load_summary(tmp_path / "m.onnx").stats.macs == counter.get_total_flops() // 2
