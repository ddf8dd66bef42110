"""The whole picture against a budget: what fits, what does not, and what would make it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ldmc.compiler.budget.plan import Plan
from ldmc.compiler.budget.planner import plan
from ldmc.compiler.budget.recipe import multiples, reference_recipes
from ldmc.compiler.summary import GraphSummary
from ldmc.errors import PassError
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.reader import load_target
from ldmc.targets.target import Memory, Target
from tests.compiler.budget.graphs import KIB, MIB, graph_of, weighing

NANO = load_target("jetson-nano")


def whole(*mib: int, dtype: str = "float16") -> dict[str, list[GraphSummary]]:
    """A UNet of these weights, and a small decoder."""
    return {"unet": [weighing(*mib, dtype=dtype)], "decoder": [weighing(10, dtype=dtype)]}


def with_memory(target: Target, **changes: object) -> Target:
    memory = target.memory or Memory(0, 0, True, "test")
    return replace(target, memory=replace(memory, **changes))


def test_the_json_is_what_is_documented() -> None:
    record = plan(NANO, whole(100)).to_json()
    assert {"fits", "budget_bytes", "build_host", "build_device", "run", "remedies"} <= record.keys()
    for phase in ("build_host", "build_device", "run"):
        assert record[phase].keys() == {"peak_bytes", "parts", "peak_node"}
        assert record[phase]["parts"].keys() == {"libraries", "weights", "activations", "workspace"}
        assert record[phase]["peak_bytes"] == sum(record[phase]["parts"].values())
    assert record["budget_bytes"] == 3457 * MIB
    assert record["fits"] is True and record["remedies"] == [] and record["over_bytes"] == 0


def test_the_builder_is_predicted_by_its_documented_multiples() -> None:
    found = plan(NANO, whole(100)).build_device
    assert found.peak_bytes == build_peak_bytes(100 * MIB, 1024, NANO)
    assert (found.basis, found.owner) == ("documented multiple", "unet")


def test_a_network_that_is_too_large_is_refused_with_figures_and_a_way_out() -> None:
    found = plan(NANO, whole(100, 300, 200))
    assert not found.fits
    over = 801 + 5 * 600 + 64 - 3457
    assert found.over_bytes // MIB == over
    assert found.complaint().startswith(
        f"over by {over} MiB: building unet on jetson-nano takes up to 3865 MiB"
    )
    assert "weights 3000, libraries 801" in found.complaint()
    assert [(remedy.spec, remedy.fits) for remedy in found.remedies] == [("partition{parts=2}", True)]
    assert found.remedies[0].peak_bytes // MIB == 801 + 5 * 400 + 64
    assert found.to_json()["remedies"] == [
        {"spec": "partition{parts=2}", "peak_bytes": found.remedies[0].peak_bytes}
    ]


def test_fp32_is_over_by_more_and_may_fit_in_half() -> None:
    found = plan(NANO, whole(400, 400, dtype="float32"))
    assert found.over_bytes > plan(NANO, whole(200, 400)).over_bytes
    named = {remedy.spec: remedy for remedy in found.remedies}
    assert named["fp16"].fits and named["fp16"].peak_bytes // MIB == 801 + 5 * 400 + 64
    assert found.advice().startswith("fp16 (2865 MiB)")


def test_where_neither_is_enough_both_are_tried() -> None:
    tight = with_memory(NANO, total_mib=2600)
    found = plan(tight, whole(400, 400, dtype="float32"))
    specs = [remedy.spec for remedy in found.remedies if remedy.fits]
    assert specs == ["fp16,partition{parts=2}"] and len(found.remedies) > 1
    assert found.advice().startswith("fp16,partition{parts=2} (") and ";" not in found.advice()


def test_components_together_take_the_sum_and_one_at_a_time_the_largest() -> None:
    graphs = whole(100)
    apart, both = plan(NANO, graphs, load="one-at-a-time"), plan(NANO, graphs, load="together")
    assert both.run.weights_bytes == 110 * MIB
    assert apart.run.weights_bytes == 100 * MIB
    assert both.run.libraries_bytes == apart.run.libraries_bytes


def test_loading_one_at_a_time_is_offered_where_running_is_what_is_too_much() -> None:
    target = with_memory(load_target("android"), total_mib=1300, system_mib=0)
    graphs = {name: [weighing(700, dtype="float32")] for name in ("unet", "decoder")}
    found = plan(replace(target, load="together"), graphs)
    assert [remedy.spec for remedy in found.remedies if remedy.fits] == ["run components one at a time"]


def test_a_desktop_can_be_left_out() -> None:
    orin = load_target("jetson-orin-nano")
    found = plan(orin, whole(1100))
    headless = next(remedy for remedy in found.remedies if remedy.spec == "headless")
    assert headless.fits and headless.peak_bytes == found.device_peak[1].peak_bytes
    assert not [remedy for remedy in plan(NANO, whole(600)).remedies if remedy.spec == "headless"]


def test_without_a_known_memory_nothing_is_refused() -> None:
    found = plan(load_target("cuda"), whole(5000))
    assert found.fits and found.budget_bytes is None and found.complaint() == "" and found.spare_bytes is None


def test_engines_for_rtx_are_built_on_the_host_by_a_process_beside_ours() -> None:
    rtx, nano = plan(load_target("rtx-3070"), whole(100)), plan(NANO, whole(100))
    assert rtx.build_host.weights_bytes == int(3.45 * 100 * MIB)
    assert rtx.build_host.libraries_bytes > nano.build_host.libraries_bytes
    assert rtx.build_device.peak_bytes == 0


def test_onnx_runtime_on_a_cpu_holds_fp16_weights_in_fp32() -> None:
    found = plan(load_target("cpu"), {"unet": [weighing(100, dtype="float16")]})
    assert found.run.weights_bytes == 200 * MIB
    assert found.build_device.basis == "measured"


def test_a_phone_with_little_memory_optimises_without_copying() -> None:
    phone = load_target("android")
    plenty = plan(phone, {"unet": [weighing(300, dtype="float32")]}).build_device
    little = plan(with_memory(phone, total_mib=800, system_mib=0), {"unet": [weighing(300, dtype="float32")]})
    assert little.build_device.peak_bytes < plenty.peak_bytes - 250 * MIB


def test_parts_on_the_device_are_built_one_at_a_time_and_run_together() -> None:
    found = plan(NANO, {"unet": [weighing(100), weighing(200)]})
    assert found.build_device.weights_bytes == 5 * 200 * MIB
    assert found.run.weights_bytes == 300 * MIB
    assert (found.build_device.owner, found.components[0].parts) == ("unet.1", 2)


def test_an_unknown_size_is_an_error_with_a_way_out() -> None:
    graph = graph_of("a = Neg (x) y = Neg (a)", "float[n] x", "float[n] y")
    with pytest.raises(PassError, match="is not known") as caught:
        plan(NANO, {"unet": [graph]})
    assert "fold" in caught.value.fix


def test_the_reference_projects_recipe_has_every_copy_it_makes() -> None:
    """5 for the builder, 3 for the parser, 2 for trtexec 8.2.1, which reads the engine back."""
    rows = {recipe.name: recipe for recipe in reference_recipes(NANO, whole(500))}
    fp16 = rows["fp16, whole UNet"]
    assert fp16.peak_bytes == (801 + 10 * 500 + 16) * MIB + KIB
    assert fp16.over_bytes == fp16.peak_bytes - 3457 * MIB
    assert rows["fp32, whole UNet"].over_bytes > fp16.over_bytes
    assert rows["fp16, whole pipeline"].over_bytes > fp16.over_bytes
    assert "reading the engine back" in multiples(NANO)


def test_later_releases_do_not_read_it_back_and_other_engines_have_no_recipe() -> None:
    orin = load_target("jetson-orin-nano")
    assert reference_recipes(orin, whole(500))[0].peak_bytes == (801 + 8 * 500 + 16) * MIB + KIB
    assert reference_recipes(load_target("android"), whole(500)) == ()


def test_a_plan_without_components_takes_nothing_on_the_device() -> None:
    empty: Plan = plan(NANO, {})
    assert empty.fits and empty.run.peak_bytes == 0
