"""What a machine can do for a target, decided from the target's data; here on machines of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ldmc.compiler.doctor import FINISH, Ability, ability, default_passes, diagnose
from ldmc.compiler.machine import Answer, Machine, this_machine
from ldmc.compiler.toolchains import find_tools
from ldmc.targets.reader import load_target, target_names
from ldmc.targets.target import Target
from tests.compiler.machines import CORE, gpu, machine

RTX = {**CORE, "tensorrt_rtx": "1.7.1.116"}
COMPILER: dict[str, Any] = {
    "programs": {"g++": "/usr/bin/g++"},
    "outputs": {"/usr/bin/g++": Answer(True, "12.2.0")},
}
TENSORRT = {**CORE, "tensorrt": "10.3.0"}


def on(where: Machine, target: str | Target) -> Ability:
    return ability(load_target(target) if isinstance(target, str) else target, find_tools(where))


def abilities(where: Machine) -> dict[str, str]:
    found = diagnose(map(load_target, target_names()), where).abilities
    return {each.name: each.can for each in found}


def test_a_machine_with_nothing_but_what_ldmc_is_installed_with() -> None:
    assert abilities(machine(CORE)) == {
        "android": "whole",
        "cpu": "whole",
        "cuda": "nothing",
        "jetson-nano": "pending",
        "jetson-orin-nano": "pending",
        "rtx-3070": "nothing",
    }


def test_a_machine_with_nothing_at_all() -> None:
    where = machine({})
    assert set(abilities(where).values()) == {"nothing"}
    cpu = on(where, "cpu")
    assert cpu.missing == ("torch", "diffusers", "onnx", "onnx_ir", "onnxscript", "onnxsim")
    assert cpu.fix == "torch, diffusers, onnx, onnx_ir, onnxscript, onnxsim: pip install -e ."
    assert on(where, "jetson-nano").pending == ()


def test_engines_for_rtx_need_no_gpu() -> None:
    assert on(machine(RTX), "rtx-3070") == Ability("rtx-3070", "whole", (), (), "")
    without = on(machine(CORE), "rtx-3070")
    assert (without.can, without.missing) == ("nothing", ("tensorrt_rtx",))
    assert "pip install -e .[rtx]" in without.fix
    old = on(machine({**CORE, "tensorrt_rtx": "1.6.2"}), "rtx-3070")
    assert (old.can, old.missing) == ("nothing", ("tensorrt_rtx >=1.7 (here 1.6.2)",))
    assert "install tensorrt_rtx >=1.7" in old.fix


def test_a_jetsons_engine_is_left_to_the_jetson() -> None:
    nano = on(machine(RTX), "jetson-nano")
    assert (nano.can, nano.pending, nano.fix) == ("pending", ("trt",), FINISH)
    assert "tensorrt" in nano.missing
    same_gpu_elsewhere = on(machine(TENSORRT, driver=gpu("8.7")), "jetson-orin-nano")
    assert (same_gpu_elsewhere.can, same_gpu_elsewhere.missing) == ("pending", ("aarch64 (this is x86_64)",))


def test_on_the_device_itself_the_step_is_left_to_its_finish_too() -> None:
    orin = machine(TENSORRT, arch="aarch64", driver=gpu("8.7"))
    assert abilities(orin) == {
        "android": "whole",
        "cpu": "whole",
        "cuda": "whole",
        "jetson-nano": "pending",
        "jetson-orin-nano": "pending",
        "rtx-3070": "nothing",
    }
    assert on(orin, "jetson-orin-nano").missing == ()
    nano = on(orin, "jetson-nano")
    assert nano.missing == ("tensorrt >=8.2,<8.3 (here 10.3.0)", "GPU of compute capability 5.3 (here 8.7)")


@pytest.mark.parametrize(
    ("where", "missing"),
    [
        (machine(TENSORRT), ("NVIDIA GPU",)),
        (machine(CORE, driver=gpu("9.0")), ("tensorrt",)),
        (
            machine({**CORE, "tensorrt": "8.6.1"}, driver=gpu("9.0")),
            ("tensorrt >=10.3 (here 8.6.1)",),
        ),
        (machine(TENSORRT, arch="riscv64", driver=gpu("9.0")), ("x86_64 or aarch64 (this is riscv64)",)),
    ],
)
def test_engines_for_this_machines_gpu_need_both(where: Machine, missing: tuple[str, ...]) -> None:
    found = on(where, "cuda")
    assert (found.can, found.missing, found.pending) == ("nothing", missing, ())
    assert all(what in found.fix for what in missing)
    assert on(machine(TENSORRT, driver=gpu("9.0")), "cuda").can == "whole"


def test_a_pass_that_only_the_device_can_run_is_pending_only_if_it_is_asked_for() -> None:
    nano = load_target("jetson-nano")
    embedding = replace(nano, pipelines={"unet": "fp16,onnx,trt,embed", "decoder": "fp16,onnx,trt"})
    assert on(machine(RTX), embedding).pending == ("trt", "embed")
    plain = replace(nano, pipelines=dict.fromkeys(nano.pipelines, "fp16,onnx,fold"))
    assert on(machine(RTX), plain) == Ability("jetson-nano", "whole", (), (), "")


def test_embedding_where_it_cannot_be_left_to_a_device() -> None:
    cuda = load_target("cuda")
    embedding = replace(cuda, pipelines=dict.fromkeys(cuda.pipelines, "fp16,onnx,trt,embed"))
    found = on(machine(TENSORRT, driver=gpu("8.9")), embedding)
    assert (found.can, found.missing) == ("nothing", ("torch_tensorrt", "torchtrtc"))
    with_torchtrtc = machine(
        {**TENSORRT, "torch_tensorrt": "2.14"},
        driver=gpu("8.9"),
        programs={"torchtrtc": "/usr/bin/torchtrtc"},
    )
    assert on(with_torchtrtc, embedding).can == "whole"


@pytest.mark.parametrize(
    ("where", "target", "missing"),
    [
        (machine(CORE), "cpu", ("g++",)),
        (machine(CORE, **COMPILER), "cpu", ()),
        (machine(CORE, **COMPILER), "cuda", ("triton", "NVIDIA GPU")),
        (
            machine({**CORE, "triton": "3.7"}, driver=gpu("9.0"), **COMPILER),
            "cuda",
            (),
        ),
    ],
)
def test_packages_for_this_machine_need_a_compiler_and_its_gpu(
    where: Machine, target: str, missing: tuple[str, ...]
) -> None:
    device = load_target(target)
    found = on(where, replace(device, pipelines=dict.fromkeys(device.pipelines, "fp16,aoti")))
    assert (found.missing, found.can) == (missing, "nothing" if missing else "whole")


def test_what_a_pass_needs_is_what_it_says() -> None:
    """`fold` declares onnxsim; a pipeline without `fold` does without."""
    where = machine({name: version for name, version in CORE.items() if name != "onnxsim"})
    cpu = load_target("cpu")
    assert on(where, cpu).missing == ("onnxsim",)
    assert on(where, replace(cpu, pipelines=dict.fromkeys(cpu.pipelines, "onnx"))).can == "whole"


def test_a_board_of_ones_own_is_answered_from_its_data(tmp_path: Path) -> None:
    file = tmp_path / "xavier.toml"
    file.write_text('extends = "jetson-orin-nano"\n[gpu]\ncompute_capability = "7.2"\n')
    xavier = load_target(str(file))
    assert on(machine(RTX), xavier).pending == ("trt",)
    file.write_text('extends = "jetson-orin-nano"\ndevice_passes = []\n[gpu]\ncompute_capability = "7.2"\n')
    in_place = load_target(str(file))
    assert on(machine(TENSORRT, arch="aarch64", driver=gpu("7.2")), in_place).can == "whole"
    other = on(machine(TENSORRT, arch="aarch64", driver=gpu("8.7")), in_place)
    assert (other.can, other.missing) == ("nothing", ("GPU of compute capability 7.2 (here 8.7)",))


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("fp16,onnx,fold", ["fp16", "onnx", "fold"]),
        ("fp16{keep=[norm,softmax]} , onnx{opset=13}", ["fp16", "onnx"]),
        ("int8{calibrate=plain{steps=[1,2]},keep=a},trt", ["int8", "trt"]),
    ],
)
def test_the_passes_of_a_target(spec: str, names: list[str]) -> None:
    target = replace(load_target("cpu"), pipelines={"unet": spec, "decoder": "onnx"})
    assert default_passes(target) == list(dict.fromkeys([*names, "onnx"]))


def test_this_very_machine() -> None:
    """Whatever it is, ldmc's own requirements are installed; TensorRT for RTX decides on rtx-3070."""
    diagnosis = diagnose(map(load_target, target_names()), this_machine())
    tools = {tool.name: tool for tool in diagnosis.toolchains.tools}
    can = {each.name: each.can for each in diagnosis.abilities}
    assert can["cpu"] == can["android"] == "whole"
    assert can["jetson-nano"] == "pending"
    assert can["rtx-3070"] == ("whole" if tools["tensorrt_rtx"].found else "nothing")
