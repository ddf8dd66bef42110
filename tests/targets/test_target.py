"""Targets are data: every file reads, and a wrong one names the key, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from ldmc.errors import UsageError
from ldmc.passes.fp16 import KINDS
from ldmc.targets.reader import load_target, target_names
from ldmc.targets.target import ISLANDS

CPU = (resources.files("ldmc.targets") / "cpu.toml").read_text(encoding="utf-8")
OPSET = next(line for line in CPU.splitlines() if line.startswith("opset"))
PRECISIONS = next(line for line in CPU.splitlines() if line.startswith("precisions"))


def board(folder: Path, text: str) -> str:
    file = folder / "board.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def replaced(old: str, new: str) -> str:
    assert old in CPU
    return CPU.replace(old, new)


@pytest.mark.parametrize("name", target_names())
def test_every_target_that_comes_with_ldmc_reads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.summary
    assert {"unet", "decoder"} <= target.pipelines.keys()
    assert set(target.fp32_islands) <= set(KINDS)
    assert set(target.to_json()) >= {
        "name", "summary", "arch", "engine", "opset", "precisions", "fp32_islands", "requirements",
        "pipelines",
    }  # fmt: skip


def test_islands_are_the_kinds_that_the_pass_knows() -> None:
    assert ISLANDS == KINDS


def test_a_file_of_ones_own_is_a_target(tmp_path: Path) -> None:
    file = board(tmp_path, replaced('name = "cpu"', 'name = "my-board"'))
    target = load_target(file)
    assert target.name == "my-board"
    assert target.pipelines == load_target("cpu").pipelines


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("cpuu", "did you mean 'cpu'? targets are"),
        ("jetson-nan", "did you mean 'jetson-nano'? targets are"),
        ("CPU", "targets are"),
        ("toaster", "or the path of a .toml file"),
        ("", "targets are"),
        ("../cpu", "targets are"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, fix: str) -> None:
    with pytest.raises(UsageError, match="unknown target") as caught:
        load_target(name)
    assert fix in caught.value.fix
    assert "cpu" in caught.value.fix


# what is wrong -> (the file's text, parts of the message, the fix)
WRONG: dict[str, tuple[Callable[[], str], tuple[str, ...], str]] = {
    "not TOML": (lambda: CPU + "]", ("is not TOML", "line"), "mend the file"),
    "unknown key": (
        lambda: 'colour = "red"\n' + CPU,
        ("unknown key 'colour' = \"red\"",),
        "keys are name, summary",
    ),
    "nearly a key": (
        lambda: "opsett = 18\n" + CPU,
        ("unknown key 'opsett' = 18",),
        "did you mean 'opset'? keys are",
    ),
    "unknown key of a table": (
        lambda: CPU + "[gpu]\nnam = 1\n",
        ("unknown key 'gpu.nam' = 1",),
        "did you mean 'gpu.name'? keys of [gpu] are name, compute_capability",
    ),
    "missing key": (
        lambda: replaced(OPSET + "\n", ""),
        ("key 'opset' is missing",),
        "add it; it is a whole number",
    ),
    "missing key of a table": (
        lambda: CPU + '[gpu]\ncompute_capability = "8.6"\n',
        ("key 'gpu.name' is missing",),
        "add it; it is a text",
    ),
    "text for a number": (
        lambda: replaced(OPSET, 'opset = "18"'),
        ('opset = "18" is not allowed',),
        "it must be a whole number",
    ),
    "truth for a number": (
        lambda: replaced(OPSET, "opset = true"),
        ("opset = true is not allowed",),
        "it must be a whole number",
    ),
    "opset 0": (lambda: replaced(OPSET, "opset = 0"), ("opset = 0 is not allowed",), "above 0"),
    "one for a list": (
        lambda: replaced(PRECISIONS, 'precisions = "float32"'),
        ('precisions = "float32" is not allowed',),
        "it must be a list, each one of float32, float16, int8",
    ),
    "an empty list": (lambda: replaced(PRECISIONS, "precisions = []"), ("precisions = []",), "one or more"),
    "a text for a table": (
        lambda: 'gpu = "8.6"\n' + CPU,
        ('gpu = "8.6" is not allowed',),
        "it must be a table",
    ),
    "unknown engine": (
        lambda: replaced('"onnxruntime-cpu"', '"onnxruntme"'),
        ('engine = "onnxruntme" is not allowed',),
        'did you mean "onnxruntime-cpu"? it must be one of onnxruntime-cpu, tensorrt, tensorrt-rtx',
    ),
    "unknown precision": (
        lambda: replaced('"float16", "int8"]', '"half"]'),
        ('precisions = "half" is not allowed',),
        "it must be one of float32, float16, int8",
    ),
    "a precision that is no text": (
        lambda: replaced('"float16", "int8"]', "16]"),
        ("precisions = 16 is not allowed",),
        "it must be one of",
    ),
    "unknown source of power": (
        lambda: 'power = "tegra"\n' + CPU,
        ('power = "tegra" is not allowed',),
        "it must be one of an empty text, tegrastats, nvml",
    ),
    "no power": (
        lambda: "power_modes_w = [5, 0]\n" + CPU,
        ("power_modes_w = 0.0 is not allowed",),
        "it must be a number above 0",
    ),
    "unknown device pass": (
        lambda: 'device_passes = ["embedd"]\n' + CPU,
        ('device_passes = "embedd" is not allowed',),
        'did you mean "embed"? it must be one of trt, embed',
    ),
    "unknown island": (
        lambda: replaced('"quantiser", "timestep"]', '"quantizer"]'),
        ('fp32_islands = "quantizer" is not allowed',),
        'did you mean "quantiser"? it must be one of norm, softmax, quantiser, timestep, or COMPONENT/',
    ),
    "a name that no bundle can have": (
        lambda: replaced('name = "cpu"', 'name = "my/board"'),
        ('name = "my/board" is not allowed',),
        "letters, digits",
    ),
    "no pipeline of a component": (
        lambda: replaced('decoder = "onnx,fold"', ""),
        ("key 'pipelines.decoder' is missing",),
        "add it; it is passes, such as onnx,fold",
    ),
    "an empty pipeline": (
        lambda: replaced('decoder = "onnx,fold"', 'decoder = " "'),
        ('pipelines.decoder = " " is not allowed',),
        "it must be passes",
    ),
    "unknown component": (
        lambda: CPU + 'decode = "onnx"\n',
        ("unknown key 'pipelines.decode' = \"onnx\"",),
        "did you mean 'pipelines.decoder'? keys of [pipelines] are unet, decoder",
    ),
    "a pipeline that is no text": (
        lambda: replaced('decoder = "onnx,fold"', "decoder = 3"),
        ("pipelines.decoder = 3 is not allowed",),
        "it must be a text",
    ),
    "no python": (
        lambda: replaced('python = ">=3.6"', ""),
        ("key 'requirements.python' is missing",),
        "add it; it is a version constraint",
    ),
    "no version of the engine": (
        lambda: replaced('"onnxruntime-cpu"', '"tensorrt"'),
        ("key 'requirements.tensorrt' is missing",),
        "add it",
    ),
    "a requirement that is no text": (
        lambda: replaced('numpy = ">=1.13"', "numpy = 1.13"),
        ("requirements.numpy = 1.13 is not allowed",),
        "it must be a text",
    ),
    "a requirement that is no constraint": (
        lambda: replaced('numpy = ">=1.13"', 'numpy = "1.13"'),
        ('requirements.numpy = "1.13" is not allowed',),
        'it must be a version constraint, such as ">=8.2,<8.3"',
    ),
    "half a constraint": (
        lambda: replaced('numpy = ">=1.13"', 'numpy = ">=1.13,"'),
        ('requirements.numpy = ">=1.13," is not allowed',),
        "it must be a version constraint",
    ),
    "no such operator table": (
        lambda: 'operators = "8.4"\n' + CPU,
        ('operators = "8.4" is not allowed',),
        "it must be one of 8.2, 8.5, 8.6, 10.3, 10.16, 11.1, or empty for no table",
    ),
    "an opset that the operator table ends before": (
        lambda: 'operators = "8.2"\n' + CPU,
        ("opset = 19 is not allowed",),
        "it must be 13 or less, the last opset of the operator table 8.2",
    ),
    "a compute capability that is none": (
        lambda: CPU + '[gpu]\nname = "x"\ncompute_capability = "sm_53"\n',
        ('gpu.compute_capability = "sm_53" is not allowed',),
        'it must be MAJOR.MINOR, such as "5.3"',
    ),
    "no memory": (
        lambda: memory(total_mib=0),
        ("memory.total_mib = 0 is not allowed",),
        "it must be a number above 0",
    ),
    "negative memory": (lambda: memory(total_mib=-1), ("memory.total_mib = -1 is not",), "above 0"),
    "memory in fractions": (lambda: memory(total_mib=4e3), ("memory.total_mib = 4000.0",), "a whole number"),
    "a negative system": (
        lambda: memory(system_mib=-1),
        ("memory.system_mib = -1 is not allowed",),
        "it must be 0 or more",
    ),
    "a system that takes everything": (
        lambda: memory(system_mib=1000),
        ("memory.system_mib = 1000 is not allowed",),
        "it must be less than total_mib, 1000",
    ),
    "a negative library": (
        lambda: memory() + '[memory.libraries_mib]\n"CUDA context" = -5\n',
        ('memory.libraries_mib."CUDA context" = -5 is not allowed',),
        "it must be 0 or more",
    ),
    "libraries that leave nothing": (
        lambda: memory(system_mib=400) + "libraries_mib = {cuDNN = 300, cuBLAS = 300}\n",
        ('memory.libraries_mib = {"cuDNN": 300, "cuBLAS": 300} is not allowed',),
        "it must be less, together, than the 600 MiB that total_mib and system_mib leave",
    ),
    "memory without a source": (
        lambda: memory().replace('source = "a log"', ""),
        ("key 'memory.source' is missing",),
        "add it",
    ),
    "arithmetic of an unknown kind": (
        lambda: compute("peak_gflops = {half = 100}"),
        ("unknown key 'compute.peak_gflops.half' = 100",),
        "keys of [compute.peak_gflops] are float32, float16, int8",
    ),
    "no arithmetic": (
        lambda: compute("peak_gflops = {float32 = 0}"),
        ("compute.peak_gflops.float32 = 0.0 is not allowed",),
        "above 0",
    ),
    "endless bandwidth": (
        lambda: compute("peak_gflops = {}", bandwidth="inf"),
        ("compute.bandwidth_gb_s = Infinity is not allowed",),
        "a number of at most 1,000,000,000,000,000",
    ),
}


def memory(total_mib: float = 1000, system_mib: int = 100) -> str:
    return f'{CPU}[memory]\ntotal_mib = {total_mib}\nsystem_mib = {system_mib}\nshared = true\nsource = "a log"\n'


def compute(line: str, bandwidth: str = "25.6") -> str:
    return f'{CPU}[compute]\nbandwidth_gb_s = {bandwidth}\nsource = "a data sheet"\n{line}\n'


@pytest.mark.parametrize(("text", "message", "fix"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_names_key_value_and_what_is_allowed(
    text: Callable[[], str], message: tuple[str, ...], fix: str, tmp_path: Path
) -> None:
    file = board(tmp_path, text())
    with pytest.raises(UsageError) as caught:
        load_target(file)
    assert caught.value.exit_code == 2
    assert file in caught.value.message
    for part in message:
        assert part in caught.value.message
    assert fix in caught.value.fix


def test_a_missing_file_says_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"there is no target file nowhere/board\.toml") as caught:
        load_target("nowhere/board.toml")
    assert "cpu" in caught.value.fix


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_bytes(b"\xff\xfe name")
    with pytest.raises(UsageError, match="is not TOML"):
        load_target(str(tmp_path / "board.toml"))


def test_a_pipeline_of_a_target_file_is_checked_like_one_that_was_typed(tmp_path: Path) -> None:
    from ldmc.compiler.pipeline import checked_pipeline
    from ldmc.errors import SpecError

    target = load_target(board(tmp_path, replaced('decoder = "onnx,fold"', 'decoder = "fold,onnx"')))
    with pytest.raises(SpecError, match="takes onnx form"):
        checked_pipeline(target.pipelines["decoder"], target)
