"""`ldmc doctor` as people see it: within 80 columns, with how to get what is missing."""

from __future__ import annotations

import io

from rich.console import Console

from ldmc.compiler.doctor import diagnose
from ldmc.compiler.machine import Machine
from ldmc.targets.reader import load_target, target_names
from ldmc.terminal.doctor import print_diagnosis
from tests.compiler.machines import CORE, gpu, machine


def shown(where: Machine) -> str:
    out = io.StringIO()
    print_diagnosis(diagnose(map(load_target, target_names()), where), Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    return text


def words(text: str) -> str:
    """The table's words without its lines."""
    return " ".join("".join(" " if c in "│┃" else c for c in text).split())


def test_what_is_there_and_how_to_get_the_rest() -> None:
    text = shown(machine(CORE))
    for part in (
        "torch 2.13.0+cpu built for CPU",
        "onnxruntime 1.31.0 said by onnxruntime",
        "tensorrt_rtx missing pip install -e .[rtx]",
        "openvino missing pip install -e .[openvino]",
        "CUDA driver missing libcuda.so.1 cannot be loaded; needs an NVIDIA GPU and its driver",
        "cpu whole",
        "jetson-nano pending trt: run `python3 -m runtime finish` in the bundle, on the device",
        "rtx-3070 nothing missing tensorrt_rtx: pip install -e .[rtx]",
    ):
        assert part in words(text), part


def test_a_machine_with_a_gpu() -> None:
    where = machine({**CORE, "tensorrt": "10.3.0"}, driver=gpu("8.6", "NVIDIA GeForce RTX 3070 Laptop GPU"))
    text = words(shown(where))
    assert "CUDA driver 12.6 NVIDIA GeForce RTX 3070 Laptop GPU (compute capability 8.6)" in text
    assert "cuda whole" in text
