"""Weights that cannot be right, by file, key and dtype before any work, by file, key and count while they pass."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import save_file

from ldmc.compiler import weight_files
from ldmc.compiler.weights import CheckpointWeights, find_weights, open_weights
from ldmc.errors import ModelError, PassError
from ldmc.passes.lazy import derived, parameter
from tests.checkpoints import STEM, copy_model, read_state, replace_state, whole, write_bin, write_shards
from tests.conftest import Outcome

KEY = "conv_in.weight"
STATE = {KEY: torch.arange(24.0).reshape(4, 6), "conv_in.bias": torch.tensor([1.0, -2.0])}
SHAPES = {key: tuple(tensor.shape) for key, tensor in STATE.items()}


def opened(folder: Path) -> CheckpointWeights:
    files = find_weights(folder)
    assert files is not None
    return open_weights(files, SHAPES)


def write(folder: Path, tensor: torch.Tensor, as_pickle: bool = False) -> None:
    state = {**STATE, KEY: tensor}
    write_bin(folder, state) if as_pickle else save_file(state, folder / f"{STEM}.safetensors")


# ---- dtypes


@pytest.mark.parametrize("as_pickle", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32", "float64"])
def test_real_numbers_are_read_as_the_values_they_are(dtype: str, as_pickle: bool, tmp_path: Path) -> None:
    kind = getattr(torch, dtype)
    write(tmp_path, STATE[KEY].to(kind), as_pickle)
    values = whole(opened(tmp_path), KEY)
    assert values.dtype == (dtype if dtype in ("float16", "float64") else "float32")
    np.testing.assert_array_equal(values, STATE[KEY].to(kind).double().numpy().ravel())


@pytest.mark.parametrize("as_pickle", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (torch.zeros(4, 6, dtype=torch.int64), "I64|int64"),
        (torch.zeros(4, 6, dtype=torch.int8), "I8|int8"),
        (torch.zeros(4, 6, dtype=torch.uint8), "U8|uint8"),
        (torch.zeros(4, 6, dtype=torch.bool), "BOOL|bool"),
        (torch.zeros(4, 6, dtype=torch.complex64), "C64|complex64"),
        (torch.zeros(4, 6, dtype=torch.uint8).view(torch.float8_e8m0fnu), "F8_E8M0|float8_e8m0fnu"),
        (torch.zeros(4, 6, dtype=torch.uint8).view(torch.float8_e4m3fnuz), "F8_E4M3FNUZ|float8_e4m3fnuz"),
        (torch.zeros(4, 3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "F4|float4_e2m1fn_x2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_real_number_is_refused_by_file_key_and_dtype(
    tensor: torch.Tensor, dtype: str, as_pickle: bool, tmp_path: Path
) -> None:
    write(tmp_path, tensor, as_pickle)
    with pytest.raises(ModelError, match=f"{STEM}.*: {KEY} is stored as ({dtype}), not as real numbers"):
        opened(tmp_path)


def test_a_dtype_that_is_not_known_is_no_damaged_file(tmp_path: Path) -> None:
    write_header(tmp_path, {KEY: {"dtype": "F6_NEW", "shape": [4, 6], "data_offsets": [0, 18]}}, b"\0" * 18)
    with pytest.raises(ModelError, match=f"{KEY} is stored as F6_NEW, not as real numbers"):
        opened(tmp_path)


def test_float8_with_scales_is_refused_by_the_scales(tmp_path: Path) -> None:
    """They are no keys of the network, and without them the values are wrong."""
    state = {**STATE, KEY: STATE[KEY].to(torch.float8_e4m3fn), "conv_in.weight_scale": torch.tensor(0.5)}
    save_file(state, tmp_path / f"{STEM}.safetensors")
    with pytest.raises(ModelError, match=r"1 are not of this network \(first: conv_in.weight_scale\)"):
        opened(tmp_path)


# ---- values


WRONG: list[tuple[torch.dtype, dict[int, float], str]] = [
    (torch.float32, {3: float("nan")}, "1 NaN"),
    (torch.float32, {0: float("nan"), 11: float("inf"), 23: float("-inf")}, "1 NaN and 2 infinite"),
    (torch.float16, {5: float("inf")}, "1 infinite"),
    (torch.bfloat16, {23: float("nan")}, "1 NaN"),
    (torch.float8_e4m3fn, {1: float("nan"), 20: float("nan")}, "2 NaN"),
    (torch.float8_e5m2, {2: float("inf")}, "1 infinite"),
    (torch.float64, {4: 1e39, 6: float("nan"), 7: -3.5e38}, "1 NaN and 2 outside the range of float32"),
]


@pytest.mark.parametrize("as_pickle", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize(("dtype", "values", "counts"), WRONG, ids=[f"{w[0]}-{w[2]}" for w in WRONG])
def test_values_that_are_no_numbers_are_counted_by_file_and_key(
    dtype: torch.dtype, values: dict[int, float], counts: str, as_pickle: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Over the whole tensor, though it passes in pieces."""
    monkeypatch.setattr(weight_files, "CHUNK_ELEMENTS", 6)
    tensor = STATE[KEY].double().clone().flatten()
    tensor[list(values)] = torch.tensor(list(values.values()), dtype=torch.float64)
    write(tmp_path, tensor.reshape(4, 6).to(dtype), as_pickle)
    weights = opened(tmp_path)
    with pytest.raises(ModelError) as caught:
        whole(weights, KEY)
    assert caught.value.message.endswith(f": {KEY} holds values that are no numbers for a network: {counts}")
    assert str(tmp_path / STEM) in caught.value.message
    assert whole(weights, "conv_in.bias").size == 2


def test_the_largest_float32_is_a_number(tmp_path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    write(tmp_path, torch.full((4, 6), largest, dtype=torch.float64))
    assert whole(opened(tmp_path), KEY).max() == largest


def test_a_cast_that_overflows_names_the_weight(tmp_path: Path) -> None:
    write(tmp_path, torch.full((4, 6), 7e4, dtype=torch.float64))
    tensor = parameter(opened(tmp_path), KEY, "unet", ir.DataType.FLOAT16, ir.Shape([4, 6]))
    with pytest.raises(PassError, match=f"unet: {KEY} holds 70000, more than float16 can represent"):
        tensor.numpy()


@pytest.mark.parametrize(
    ("node", "output"), [("y = Mul (w, w)", "float16[2]"), ("y = Cast <to = 10> (w)", "float16[2]")]
)
def test_a_computed_weight_that_overflows_names_itself(node: str, output: str) -> None:
    kind = "float" if "Cast" in node else "float16"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({kind}[2] w) => ({output} y) {{ {node} }}'
    values = np.array([7e4, 1], "float32") if "Cast" in node else np.array([300, 1], "float16")
    with pytest.raises(PassError, match="y, computed from weights, leaves the range of float16"):
        only = ir.from_onnx_text(text).graph.node(0)
        derived(only, [ir.tensor(values)] * len(only.inputs), 18).numpy()


def test_a_computed_constant_may_be_infinite_where_its_inputs_are() -> None:
    """Masks are minus infinity."""
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[2] w) => (float[2] y) { y = Neg (w) }'
    tensor = derived(ir.from_onnx_text(text).graph.node(0), [ir.tensor(np.array([np.inf, 1], "float32"))], 18)
    np.testing.assert_array_equal(tensor.numpy(), [-np.inf, -1])


@pytest.fixture
def diverged(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with one NaN and one infinity in a convolution of its decoder."""
    folder = copy_model(tiny_model, tmp_path / "diverged-ldm")
    state = read_state(folder / "vqvae")
    state["decoder.conv_in.weight"].flatten()[7] = float("nan")
    state["decoder.conv_in.weight"].flatten()[-1] = float("inf")
    replace_state(folder / "vqvae", state)
    return folder


def test_a_build_ends_in_one_sentence_and_leaves_nothing(
    diverged: Path, tmp_path: Path, ldmc: Callable[..., Outcome]
) -> None:
    bundle = tmp_path / "x.ldmc"
    done = ldmc("build", "--target", "cpu", "--passes", "fp16,onnx,fold", "--model", diverged, "-o", bundle, "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == "model"
    message = done.json["error"]["message"]
    assert f"vqvae/{STEM}.safetensors: decoder.conv_in.weight holds" in message
    assert message.endswith("1 NaN and 1 infinite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diverged-ldm"]


def test_modules_with_weights_and_the_reference_do_not_take_them_either(diverged: Path) -> None:
    """`torchscript` and `aoti` put the one into their files, `verify` and `bench` compare with the other."""
    from ldmc.compiler.frontend import ModelRequest, open_model, read_program
    from ldmc.compiler.eager import eager_component
    from ldmc.passes.modules import with_weights

    request = ModelRequest(str(diverged))
    model = open_model(request, pytest.fail)
    decoder = read_program(model, request).components[1]
    sentence = "decoder.conv_in.weight holds .* 1 NaN and 1 infinite"
    with pytest.raises(ModelError, match=sentence):
        with_weights(decoder.payload, "decoder")
    with pytest.raises(ModelError, match=sentence):
        eager_component(model.checkpoint, "decoder", decoder.payload.weights)


def test_a_plan_reads_headers(tiny_model: Path, tmp_path: Path, ldmc: Callable[..., Outcome]) -> None:
    """Not values: what it predicts is the same for all of those. But what cannot be built need not be planned."""
    folder = copy_model(tiny_model, tmp_path / "integer-ldm")
    state = read_state(folder / "unet")
    replace_state(folder / "unet", {**state, "conv_in.weight": state["conv_in.weight"].to(torch.int32)})
    done = ldmc("plan", "--target", "cpu", "--model", folder, "--json")
    assert done.code == 1
    assert "conv_in.weight is stored as I32" in done.json["error"]["message"]


# ---- files


def write_header(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", len(text) if length is None else length)
    (folder / f"{STEM}.safetensors").write_bytes(size + text + data)


ENTRY = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
HEADERS: dict[str, tuple[Any, bytes, int | None, str]] = {
    "larger than the file": (b"{}", b"", 2**40, "its header of 1099511627776 bytes does not fit the file"),
    "a key twice": (
        f'{{"{KEY}": {ENTRY}, "{KEY}": {ENTRY}}}'.encode(), b"\0" * 4, None, f"'{KEY}' is in its header twice",
    ),
    "a list": (b"[1]", b"", None, "its header is a JSON list"),
    "nested deeply": (b"[" * 100_000, b"", None, "recursion"),
    "no text": (b"\xff\xfe\xfd", b"", None, "utf-8"),
    "a negative side": ({KEY: {"dtype": "F32", "shape": [-4, 6]}}, b"", None, f"says of '{KEY}' no dtype and shape"),
    "a shape of words": ({KEY: {"dtype": "F32", "shape": "46"}}, b"", None, f"says of '{KEY}' no dtype and shape"),
    "no dtype": ({KEY: {"shape": [4, 6]}}, b"", None, f"says of '{KEY}' no dtype and shape"),
    "no entry": ({KEY: 3}, b"", None, f"says of '{KEY}' no dtype and shape"),
    "offsets outside": (
        {KEY: {"dtype": "F32", "shape": [4, 6], "data_offsets": [0, 96]}}, b"", None, "cannot be read as weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("header", "data", "length", "message"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_none(header: Any, data: bytes, length: int | None, message: str, tmp_path: Path) -> None:
    write_header(tmp_path, header, data, length)
    with pytest.raises(ModelError, match="cannot be read as weights") as caught:
        opened(tmp_path)
    assert message in caught.value.message


PICKLED: dict[str, tuple[Callable[[], Any], str]] = {
    "a number": (lambda: 3, f"holds no state dict of tensors: '{KEY}' is a int"),
    "a nested dict": (lambda: {"weight": torch.zeros(1)}, f"'{KEY}' is a dict"),
    "sparse": (lambda: torch.eye(6).to_sparse(), f"{KEY} is sparse (sparse_coo)"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.zeros(4, 6), 1.0, 0, torch.qint8), f"{KEY} is quantised"),
    "meta": (lambda: torch.empty(4, 6, device="meta"), f"{KEY} is a meta tensor, without values"),
    "nothing in it": (lambda: torch.zeros(4, 0), f"{KEY} has shape [4, 0], no element"),
    "a scalar": (lambda: torch.tensor(1.0), f"{KEY} has shape [], the network needs [4, 6]"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "message"), PICKLED.values(), ids=PICKLED)
def test_a_pickle_of_other_things(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    torch.save({**STATE, KEY: make()}, tmp_path / f"{STEM}.bin")
    with pytest.raises(ModelError) as caught:
        opened(tmp_path)
    assert message in caught.value.message


def test_views_are_read_as_what_they_show(tmp_path: Path) -> None:
    """Expanded, transposed, and negated when it is read."""
    grid = torch.arange(24.0)
    views = [torch.ones(6).expand(4, 6), grid.reshape(6, 4).t(), torch._neg_view(grid.reshape(4, 6))]
    for number, view in enumerate(views):
        folder = tmp_path / str(number)
        folder.mkdir()
        torch.save({**STATE, KEY: view}, folder / f"{STEM}.bin")
        np.testing.assert_array_equal(whole(opened(folder), KEY), view.numpy(force=True).ravel())


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_pickle_is_one_sentence(seed: int, tmp_path: Path) -> None:
    file = tmp_path / f"{STEM}.bin"
    torch.save(STATE, file, _use_new_zipfile_serialization=seed % 2 == 0)
    content = bytearray(file.read_bytes())
    numbers = np.random.RandomState(seed)
    for place in numbers.randint(0, len(content) // 2, 20):
        content[place] = numbers.randint(256)
    file.write_bytes(content)
    try:
        opened(tmp_path)
    except ModelError as error:
        assert str(file) in error.message or str(tmp_path) in error.message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: os.mkfifo(path), "is a FIFO, not a file of weights"),
        (lambda path: path.mkdir(), "is a folder, not a file of weights"),
        (lambda path: path.symlink_to("blob"), "is a link to nowhere"),
    ],
    ids=["FIFO", "folder", "dangling link"],
)
@pytest.mark.parametrize("name", [f"{STEM}.safetensors", f"{STEM}.safetensors.index.json", f"{STEM}-00002-of-00003"])
def test_what_has_the_name_of_a_weight_file_and_is_none(
    name: str, make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    """It is not passed over for another format."""
    write_bin(tmp_path, STATE)
    if "-of-" in name:
        write_shards(tmp_path, STATE)
        name += ".safetensors"
        (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(ModelError) as caught:
        find_weights(tmp_path)
    assert f"{name} {message}" in caught.value.message


def test_a_key_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, STATE)
    save_file(STATE, tmp_path / f"{STEM}-00002-of-00003.safetensors")
    with pytest.raises(ModelError, match="conv_in.bias is there twice, in .*00001-of-00003.* and .*00002-of-00003"):
        opened(tmp_path)


def test_a_key_under_its_old_and_its_new_name_is_refused(tmp_path: Path) -> None:
    names = ("mid_block.attentions.0.query.weight", "mid_block.attentions.0.to_q.weight")
    save_file({**STATE, **{name: torch.zeros(1) for name in names}}, tmp_path / f"{STEM}.safetensors")
    with pytest.raises(ModelError, match=r"to_q.weight is there twice, in .*query.weight\) and .*to_q.weight\)"):
        opened(tmp_path)


def test_an_index_that_disagrees_with_its_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, STATE)
    index = tmp_path / f"{STEM}.safetensors.index.json"
    said = json.loads(index.read_text())
    one, two = said["weight_map"].values()
    said["weight_map"] = {"conv_in.bias": two, KEY: one}
    index.write_text(json.dumps(said))
    with pytest.raises(ModelError, match="conv_in.bias is in .*00002-of.* by the index, in .*00001-of.* by the"):
        opened(tmp_path)
