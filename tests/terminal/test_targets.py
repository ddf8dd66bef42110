"""`ldmc targets` as people see it: within 80 columns, in a pipe, with the sum of the memory."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ldmc.targets.reader import load_target, target_names
from ldmc.targets.target import Target
from ldmc.terminal.targets import print_target, print_targets


def shown(target: Target, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_target(target, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(text: str, key: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(key)).removeprefix(key).strip()


def test_the_list_fits_80_columns_and_shows_every_name_whole() -> None:
    out = io.StringIO()
    print_targets([load_target(name) for name in target_names()], Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for name in target_names():
        assert any(f" {name} " in line for line in lines)
    assert " 2656 " in next(line for line in lines if " jetson-nano " in line)
    assert "fp16,onnx,fold,trt" in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("name", target_names())
def test_one_target_is_readable_at_every_width(name: str, width: int) -> None:
    lines = shown(load_target(name), width).splitlines()
    assert max(map(len, lines)) <= min(width, 80)
    assert all(line == line.rstrip() for line in lines)


def test_one_target_whole() -> None:
    nano = load_target("jetson-nano")
    text = shown(nano)
    assert text.startswith("jetson-nano\n")
    assert row(text, "gpu") == "Maxwell, 128 cores, 921.6 MHz, compute capability 5.3"
    assert row(text, "compute") == "float32 236, float16 472 GFLOPS; 25.6 GB/s"
    assert row(text, "operators") == "TensorRT 8.2 reads 129 of 165 listed"
    assert row(text, "power_modes_w") == "5, 10"
    assert "decoder  fp16,onnx,fold,trt" in text
    for part in ("total 3957", "the system -500", "CUDA context -230", "cuBLAS -159", "cuDNN -412"):
        key, _, size = part.rpartition(" ")
        assert row(text, key) == size
    assert row(text, "left for models") == "2656"
    assert nano.memory is not None
    assert "".join(nano.memory.libraries_source.split()) in "".join(text.split())


def test_what_is_not_known_is_left_out_or_said() -> None:
    cpu = shown(load_target("cpu"))
    for key in ("gpu", "memory", "operators", "device_passes", "power", "sources"):
        assert f"\n{key}" not in cpu
    assert row(shown(load_target("rtx-3070")), "libraries") == "not known"


def test_a_text_with_brackets_is_shown_as_it_is() -> None:
    target = replace(load_target("cpu"), summary="a [bold] board", pipelines={"unet": "fp16{keep=[norm]}"})
    text = shown(target)
    assert "a [bold] board" in text
    assert "fp16{keep=[norm]}" in text
