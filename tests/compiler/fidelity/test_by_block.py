"""Blocks against PyTorch: figures against an independent computation, clean graphs, and faults that must be named."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import UNet2DModel
from onnx import helper

from ldmc.compiler.fidelity.blocks import Recording
from ldmc.compiler.fidelity.by_block import OUTPUT, compare_blocks, locate
from ldmc.compiler.fidelity.calls import Call
from ldmc.compiler.fidelity.graph import JoinedGraph
from ldmc.compiler.meter import measured
from tests.compiler.fidelity.conftest import Examined
from tests.compiler.fidelity.faults import copied, graphs, scale_weight, swap_inputs, swap_node

Named = Callable[[str], Examined]
ALL = ["fp32", "fp16", "parts"]

# ---- clean graphs


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("component", ["unet", "decoder"])
def test_a_good_graph_names_nothing_and_every_block_is_found(name: str, component: str, named: Named) -> None:
    rows = named(name).compare(component)
    assert not [row.block for row in rows if row.departs]
    assert not [row.why for row in rows if row.why]
    assert [row.block for row in rows] == named(name).calls[component][0].recording.entered
    own = [row.local_snr_db for row in rows if row.local_snr_db is not None]
    # far from what is asked for: 70 dB, and 45 dB in fp16
    assert len(own) >= 14 and min(own) > (105 if name == "fp32" else 60)


# ---- against an independent computation


def decibels(wanted: Any, given: Any) -> float:
    error = np.sum((np.asarray(given, "float64") - wanted) ** 2)
    return 10 * math.log10(np.sum(np.asarray(wanted, "float64") ** 2) / error)


def test_figures_are_those_of_onnxruntime_on_the_whole_graph(fp32: Examined, tiny_model: Path) -> None:
    """Outputs added to the file by hand, PyTorch's values by hooks of our own.

    In fp32: a CPU's ONNX Runtime carries fp32 through the half-precision values of a whole graph, which no GPU does;
    pieces are rounded where they end.
    """
    wanted_values = {
        "down_blocks.0.resnets.0": "down_blocks.0.resnets.0/Add_2",
        "mid_block.attentions.0": "mid_block.attentions.0/Add",
        "up_blocks.0.upsamplers.0": "up_blocks.0.upsamplers.0.conv/Conv",
    }
    model = onnx.load(str(fp32.bundle / "unet" / "model.onnx"))
    model.graph.output.extend(v for v in model.graph.value_info if v.name in wanted_values.values())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    unet = UNet2DModel.from_pretrained(tiny_model / "unet").eval()
    seen: dict[str, list[Any]] = {path: [] for path in wanted_values}
    for path in wanted_values:
        unet.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, out, path=path: seen[path].append(out.numpy())
        )
    made: dict[str, list[Any]] = {path: [] for path in wanted_values}
    for call in fp32.calls["unet"]:
        latent, t = call.inputs
        with torch.inference_mode():
            unet(torch.from_numpy(latent), torch.from_numpy(t))
        values = session.run(list(wanted_values.values()), {"input_0": latent, "input_1": t})
        for path, value in zip(wanted_values, values, strict=True):
            made[path].append(value)
    rows = {row.block: row for row in fp32.compare("unet")}
    for path in wanted_values:
        wanted, given = np.stack(seen[path]), np.stack(made[path])
        assert rows[path].snr_db == pytest.approx(decibels(wanted, given), abs=2.0)
        assert rows[path].max_abs_error == pytest.approx(np.abs(given - wanted).max(), rel=0.5)


def test_a_blocks_own_error_is_that_of_onnxs_extract_on_pytorchs_inputs(fp16: Examined, tmp_path: Path) -> None:
    reads = {
        "down_blocks.1.attentions.0/Add": "down_blocks.1.attentions.0",
        "time_embedding.linear_2/Gemm": "time_embedding",
    }
    gives = "mid_block.resnets.0/Add_2"
    file = tmp_path / "piece.onnx"
    onnx.utils.extract_model(str(fp16.bundle / "unet" / "model.onnx"), str(file), list(reads), [gives])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted, given = [], []
    for call in fp16.calls["unet"]:
        files = call.recording.files
        feeds = {name: np.load(files[path]).astype("float16") for name, path in reads.items()}
        given.append(session.run([gives], feeds)[0])
        wanted.append(np.load(files["mid_block.resnets.0"]))
    [row] = [row for row in fp16.compare("unet") if row.block == "mid_block.resnets.0"]
    assert row.local_snr_db == pytest.approx(decibels(np.stack(wanted), np.stack(given)), abs=0.5)


# ---- faults

WEIGHTS = [
    ("fp32", "unet", "conv_in.weight", 1.01, "conv_in"),
    ("fp32", "unet", "time_embedding.linear_1.weight", 1.01, "time_embedding"),
    ("fp32", "unet", "down_blocks.0.resnets.0.conv2.bias", 2.0, "down_blocks.0.resnets.0"),
    ("fp32", "unet", "mid_block.attentions.0.to_q+to_k+to_v.weight", 1.01, "mid_block.attentions.0"),
    ("fp32", "unet", "up_blocks.1.resnets.1.conv_shortcut.weight", 1.01, "up_blocks.1.resnets.1"),
    ("fp32", "decoder", "quantize.embedding.weight", 1.05, "quantize"),
    ("fp32", "decoder", "decoder.up_blocks.1.resnets.0.conv2.weight", 1.01, "decoder.up_blocks.1.resnets.0"),
    ("fp16", "unet", "down_blocks.1.resnets.0.conv1.weight", 2.0, "down_blocks.1.resnets.0"),
    ("fp16", "unet", "up_blocks.0.upsamplers.0.conv.weight", 1.1, "up_blocks.0.upsamplers.0"),
    ("fp16", "decoder", "decoder.mid_block.attentions.0.to_out.0/Transpose", 2.0, "decoder.mid_block.attentions.0"),
    ("fp16", "decoder", "decoder.conv_out.weight", 1.1, "decoder.conv_out"),
    ("parts", "unet", "down_blocks.0.downsamplers.0.conv.weight", 1.1, "down_blocks.0.downsamplers.0"),
    ("parts", "unet", "mid_block.resnets.1.conv2.weight", 1.1, "mid_block.resnets.1"),
    ("parts", "unet", "up_blocks.1.resnets.0.conv2.weight", 1.1, "up_blocks.1.resnets.0"),
]


@pytest.mark.parametrize(("name", "component", "weight", "factor", "block"), WEIGHTS)
def test_one_scaled_weight_is_named_and_it_alone(
    name: str, component: str, weight: str, factor: float, block: str, named: Named, tmp_path: Path
) -> None:
    bundle = copied(named(name).bundle, tmp_path / "bad.ldmc")
    scale_weight(bundle, component, weight, factor)
    assert named(name).departing(component, bundle) == [block]


NODES = [
    ("fp32", "unet", "time_proj/Sin", "Cos", ["time_proj"]),
    ("fp32", "unet", "down_blocks.0.resnets.0/Add_2", "Sub", ["down_blocks.0.resnets.0"]),
    ("fp32", "unet", "mid_block.resnets.0.nonlinearity/Sigmoid", "Tanh", ["mid_block.resnets.0"]),
    ("fp32", "unet", "up_blocks.0.attentions.1/Softmax", "Sigmoid", ["up_blocks.0.attentions.1"]),
    ("fp32", "unet", "conv_act/Mul", "Add", ["conv_act"]),
    ("fp32", "decoder", "Div", "Mul", ["quantize"]),  # the scaling before it is no module's
    ("fp16", "unet", "up_blocks.1.resnets.1/Add_2", "Mul", ["up_blocks.1.resnets.1"]),
    ("fp16", "decoder", "decoder.conv_norm_out/Mul", "Add", ["decoder.conv_norm_out"]),
    ("parts", "unet", "up_blocks.0.resnets.1/Add", "Mul", ["up_blocks.0.resnets.1"]),
]


@pytest.mark.parametrize(("name", "component", "node", "operator", "blocks"), NODES)
def test_one_swapped_node_is_named(
    name: str, component: str, node: str, operator: str, blocks: list[str], named: Named, tmp_path: Path
) -> None:
    bundle = copied(named(name).bundle, tmp_path / "bad.ldmc")
    swap_node(bundle, component, node, operator)
    assert named(name).departing(component, bundle) == blocks


def test_a_value_that_all_blocks_share_is_told_of_the_first(fp32: Examined, tmp_path: Path) -> None:
    """All residual blocks read one SiLU of the timestep. The first level normalises each channel alone, and so undoes
    what is added to a whole channel: there the fault changes nothing."""
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    swap_node(bundle, "unet", "down_blocks.0.resnets.0.nonlinearity/Mul_2", "Add")
    departing = fp32.departing("unet", bundle)
    assert departing[0] == "down_blocks.1.resnets.0" and "mid_block.resnets.0" in departing
    assert not [block for block in departing if "attentions" in block]


def test_two_faults_are_both_found(fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    scale_weight(bundle, "unet", "up_blocks.0.upsamplers.0.conv.weight", 1.1)
    swap_node(bundle, "unet", "mid_block.attentions.0/Add", "Sub")
    assert fp32.departing("unet", bundle) == ["mid_block.attentions.0", "up_blocks.0.upsamplers.0"]


def test_a_skip_connection_that_is_joined_the_wrong_way_round(fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    swap_inputs(bundle, "unet", "up_blocks.1/Concat_2")
    assert fp32.departing("unet", bundle) == ["up_blocks.1.resnets.1"]


def test_infinities_and_nothing_finite_after_them_are_named(fp16: Examined, tmp_path: Path) -> None:
    bundle = copied(fp16.bundle, tmp_path / "bad.ldmc")
    scale_weight(bundle, "unet", "mid_block.resnets.0.conv2.bias", math.nan)
    rows = {row.block: row for row in fp16.compare("unet", bundle)}
    assert [row.block for row in rows.values() if row.departs] == ["mid_block.resnets.0"]
    assert rows["mid_block.resnets.0"].snr_db == rows["conv_out"].snr_db == -math.inf
    assert rows["conv_out"].local_snr_db > 60  # type: ignore[operator]


def test_behind_a_fault_the_whole_is_wrong_and_each_block_right(fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    scale_weight(bundle, "unet", "conv_in.weight", 1.5)
    rows = {row.block: row for row in fp32.compare("unet", bundle)}
    assert rows["conv_out"].snr_db < 40 and rows["conv_out"].local_snr_db > 105  # type: ignore[operator]
    assert rows["mid_block"].local_snr_db is None and rows["mid_block"].is_level


# ---- blocks that are not in the graph


def test_a_block_that_a_rewrite_dissolved_is_told_with_its_reason(fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "renamed.ldmc")
    [file] = graphs(bundle, "unet")
    model = onnx.load(str(file), load_external_data=False)
    for node in model.graph.node:
        if node.name.startswith("conv_act/"):
            node.name = node.name.replace("conv_act", "conv_norm_out+conv_act")
    file.write_bytes(model.SerializeToString())
    rows = {row.block: row for row in fp32.compare("unet", bundle)}
    assert "no node of the graph carries its name" in rows["conv_act"].why
    assert rows["conv_act"].snr_db is None and not rows["conv_act"].departs
    # what it did is now part of the next piece
    swap_node(bundle, "unet", "conv_norm_out+conv_act/Mul", "Add")
    assert fp32.departing("unet", bundle) == ["conv_out"]


def test_a_block_whose_value_has_another_shape_is_told_with_both(fp32: Examined, tmp_path: Path) -> None:
    graph = fp32.joined("unet")
    for node in graph.nodes:
        if node.name == "mid_block.attentions.0/Add":
            graph._types[node.output[0]].type.tensor_type.shape.dim[1].dim_value = 65
    located, reasons = locate(graph, fp32.calls["unet"])
    assert reasons["mid_block.attentions.0"].startswith("no value of its nodes has the shape [1, 64, 4, 4]")
    assert "mid_block.attentions.0" not in located


def test_what_stands_behind_the_last_block_is_compared_too(fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    [file] = graphs(bundle, "unet")
    model = onnx.load(str(file), load_external_data=False)
    [last] = [node for node in model.graph.node if "output_0" in node.output]
    last.output[0] = "conv_out/Conv"
    [kind] = model.graph.output
    model.graph.value_info.append(onnx.ValueInfoProto())
    model.graph.value_info[-1].CopyFrom(kind)
    model.graph.value_info[-1].name = "conv_out/Conv"
    model.graph.node.append(onnx.helper.make_node("Neg", ["conv_out/Conv"], ["output_0"], name="Neg"))
    file.write_bytes(model.SerializeToString())
    rows = fp32.compare("unet", bundle)
    assert [row.block for row in rows if row.departs] == [OUTPUT]
    assert rows[-1].block == OUTPUT and rows[-1].snr_db == pytest.approx(-6.02, abs=0.01)


# ---- memory


BLOCKS, SIDE = 40, 1024  # values of 8 MiB, 320 MiB in all for each call


def test_memory_is_that_of_one_block_whatever_the_network(tmp_path: Path) -> None:
    """A chain of large values, the first of which is read again by the last block."""
    graph, calls = _chain(tmp_path)
    (tmp_path / "waiting").mkdir()
    before = rss_bytes()
    with measured() as reading:
        rows = compare_blocks("unet", graph, calls, tmp_path / "waiting", lambda _: None)
    assert [row.block for row in rows] == [f"blocks.{k}" for k in range(BLOCKS)]
    assert all(row.snr_db == row.local_snr_db == math.inf for row in rows)
    assert not list((tmp_path / "waiting").iterdir())
    assert reading.peak_rss_bytes is not None
    held = reading.peak_rss_bytes - before
    assert held < 96 * 2**20, f"{held / 2**20:.0f} MiB"


def rss_bytes() -> int:
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024


def _chain(folder: Path) -> tuple[JoinedGraph, list[Call]]:
    """blocks.0: x + 1, blocks.1: that + 1, ... and at last the first added to the last; and two calls of it."""
    sides = [1, 2, SIDE, SIDE]
    names = [f"blocks.{k}/Add" for k in range(BLOCKS)]
    pairs = zip(names, ["input_0", *names[:-1]], strict=True)
    nodes = [helper.make_node("Add", [before, "one"], [name], name=name) for name, before in pairs]
    nodes[-1].input[1] = names[0]
    kinds = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides) for name in ["input_0", *names]]
    one = onnx.numpy_helper.from_array(np.ones(1, "float32"), "one")
    made = helper.make_graph(nodes, "chain", kinds[:1], kinds[-1:], [one], value_info=kinds[1:-1])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / "m.onnx")
    calls = []
    for number in range(2):
        value = x = np.full(sides, number, "float32")
        recording = Recording(entered=[f"blocks.{k}" for k in range(BLOCKS)])
        for k, path in enumerate(recording.entered):
            value = value + (x + 1 if k == BLOCKS - 1 else 1)
            recording.files[path] = folder / f"{path}-{number}.npy"
            np.save(recording.files[path], value.astype("float32"))
        calls.append(Call((x,), value, recording))
    return JoinedGraph([folder / "m.onnx"], ["input_0"], names[-1:]), calls
