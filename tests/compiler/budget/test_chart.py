"""The chart: the same bytes for the same plan, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmc.compiler.budget.chart import chart_svg, save_chart
from ldmc.compiler.budget.plan import Plan
from ldmc.compiler.budget.planner import plan
from ldmc.errors import LdmcError
from ldmc.targets.reader import load_target
from tests.compiler.budget.graphs import graph_of


@pytest.fixture
def planned() -> Plan:
    body = "narrow = Relu (x) wide = Concat <axis = 0> (narrow, narrow) z = Relu (wide) y = ReduceMax (z)"
    return plan(load_target("android"), {"unet": [graph_of(body, "float[262144] x", "float[1] y")]})


def test_it_is_the_same_every_time_and_has_no_date(planned: Plan) -> None:
    drawn = chart_svg(planned)
    assert drawn == chart_svg(planned)
    assert "dc:date" not in drawn and drawn.rstrip().endswith("</svg>")


def test_it_names_the_peak_what_is_alive_then_and_the_budget(planned: Plan) -> None:
    drawn = chart_svg(planned)
    timeline = planned.components[0].timeline
    assert f"{timeline.peak_bytes / 2**20:.1f} alive at {timeline.peak_node}:" in drawn
    for buffer in timeline.alive(timeline.peak_step):
        assert f"{buffer.bytes / 2**20:.1f}  {buffer.name}" in drawn
    assert ">budget<" in drawn and ">unet: " in drawn


def test_a_png_is_a_png(planned: Plan, tmp_path: Path) -> None:
    save_chart(planned, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_a_plan_of_nothing_is_drawn_too() -> None:
    assert "</svg>" in chart_svg(plan(load_target("jetson-nano"), {}))


def test_a_file_that_cannot_be_written_is_told(planned: Plan, tmp_path: Path) -> None:
    with pytest.raises(LdmcError, match="cannot be written"):
        save_chart(planned, tmp_path / "missing" / "memory.svg")


def test_a_chart_that_cannot_be_written_leaves_the_one_before(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = tmp_path / "memory.svg"
    chart.write_text("before")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LdmcError, match="No space left on device"):
        save_chart(planned, chart)
    assert chart.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == [chart.name]
