"""The targets that come with ldmc, held to each other and to what is known of the devices."""

from __future__ import annotations

import pytest

from ldmc.targets.operator_tables import operator_versions, read_operators
from ldmc.targets.reader import load_target, target_names
from ldmc.targets.target import ENGINE_PACKAGES, Memory
from ldmc.runtime.versions import fits

TARGETS = [load_target(name) for name in target_names()]
WITH_TABLE = [target for target in TARGETS if target.operators]


def memory_of(name: str) -> Memory:
    memory = load_target(name).memory
    assert memory is not None
    return memory


def test_the_targets_are_these() -> None:
    assert target_names() == ["android", "cpu", "cuda", "jetson-nano", "jetson-orin-nano", "rtx-3070"]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_figure_has_a_source(target) -> None:
    if target.memory is not None:
        assert target.memory.source
        assert bool(target.memory.libraries_mib) == bool(target.memory.libraries_source)
    if target.compute is not None:
        assert target.compute.source
        assert "float32" in target.compute.peak_gflops
    if target.gpu is not None and target.gpu.compute_capability:
        assert target.gpu.source
    assert bool(target.toolchain) == bool(target.toolchain_source)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_the_device_has_is_what_is_asked_of_it(target) -> None:
    for package, constraint in target.requirements.items():
        if package in target.toolchain:
            assert fits(target.toolchain[package], constraint), package
    assert ENGINE_PACKAGES[target.engine] in target.requirements


@pytest.mark.parametrize("target", WITH_TABLE, ids=lambda target: target.name)
def test_the_operator_table_is_that_of_the_oldest_version_asked_for(target) -> None:
    """A graph held to the table must parse on every version that the bundle accepts."""
    assert target.requirements["tensorrt"].split(",")[0] == f">={target.operators}"
    table = read_operators(target.operators)
    assert table["opset_min"] <= target.opset <= table["opset_max"]
    assert table["source"]


def test_the_operator_tables_are_in_the_order_of_their_versions() -> None:
    assert operator_versions() == ["8.2", "8.5", "8.6", "10.3", "10.16", "11.1"]


def test_a_nano_has_its_published_figures() -> None:
    nano = load_target("jetson-nano")
    assert nano.gpu is not None
    assert nano.compute is not None
    memory = memory_of("jetson-nano")
    # Posted logs show 3957 to 3964 MiB, an idle system of 300 to 500, and libraries of at least 600.
    assert memory.total_mib == 3957
    assert memory.system_mib == 500
    assert memory.libraries_bytes >= 600 * 2**20
    assert memory.models_bytes == (3957 - 500 - 230 - 159 - 412) * 2**20
    assert (nano.gpu.compute_capability, nano.operators, nano.opset) == ("5.3", "8.2", 13)
    assert "int8" not in nano.precisions
    assert nano.compute.peak_gflops["float32"] == pytest.approx(128 * 2 * 0.9216, rel=0.01)
    assert nano.power_modes_w == (5, 10)


def test_a_phone_is_allowed_the_largest_process_known_to_have_run_there() -> None:
    """Eager fp32 at 2379 MB ran on the reference project's phone, and two larger ones did not."""
    memory = memory_of("android")
    assert memory.models_bytes == pytest.approx(2379e6, rel=1e-3)
    assert load_target("android").load == "one-at-a-time"


def test_an_orins_arithmetic_is_computed_from_its_cores() -> None:
    compute = load_target("jetson-orin-nano").compute
    assert compute is not None
    assert compute.peak_gflops["float32"] == pytest.approx(1024 * 2 * 0.625, rel=0.01)
    assert compute.peak_gflops["int8"] == 40_000 / 2  # published with sparsity, which this model has not


def test_only_jetsons_leave_steps_to_the_device() -> None:
    assert [target.name for target in TARGETS if target.device_passes] == ["jetson-nano", "jetson-orin-nano"]
