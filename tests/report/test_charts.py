"""What the charts show: names beside lines, bars without an end, one unit each."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldmc.report import level_charts, write_report
from ldmc.report.bundle import bundle_view
from ldmc.report.cards import Card
from ldmc.report.charts.bars import Row, Segment, bars
from ldmc.report.charts.callout import RING, STRIP, place
from ldmc.report.fidelity import CheckView, check_view
from ldmc.report.inputs import Given, read_inputs
from ldmc.report.units import mib, seconds, size, time_unit
from tests.report import samples

ROOM = (34.0, 36.0, 332.0, 172.0)  # of the chart of blocks
BAR = re.compile(r'<g class="mark bar">\s*<title>([^<]*)</title>\s*<path d="([^"]*)"')
PIECE = re.compile(r'<path d="M [\d.]+ [\d.]+\s+L ([\d.]+) [^"]*z\s*"')


def view_of(data: dict[str, Any]) -> CheckView:
    return check_view(Given("verify.json", data), 0)


def card_of(view: CheckView, title: str) -> Card:
    return next(card for card in view.cards if card.title == title)


def bar_lengths(svg: str) -> dict[str, float]:
    """What each bar says when it is pointed at -> its length."""
    found = {}
    for told, path in BAR.findall(svg):
        xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path)]
        found[told] = max(xs) - min(xs)
    return found


# names beside lines


@pytest.mark.parametrize("seed", range(12))
def test_there_is_a_place_whatever_the_curves_are(seed: int) -> None:
    from matplotlib.path import Path as Curve
    from matplotlib.transforms import Bbox

    random, room = np.random.RandomState(seed), Bbox.from_extents(*ROOM)
    count = int(random.choice([2, 5, 25, 200]))
    xs = np.linspace(room.x0 + 5, room.x1 - 5, count)
    ys = [random.uniform(room.y0, room.y1 - STRIP, count) for _ in range(2)]
    at, width = random.randint(count), float(random.uniform(10, room.width))
    x, y = float(xs[at]), float(ys[0][at])
    found = place(x, y, width, [Curve(np.column_stack([xs, one])) for one in ys], room)
    left = found.x - {"left": 0, "center": width / 2, "right": width}[found.ha]
    box = Bbox.from_extents(left, found.y - 2, left + width, found.y + 10)
    assert room.x0 - 0.01 <= box.x0 and box.x1 <= room.x1 + 0.01 and room.y0 <= box.y0 and box.y1 <= room.y1
    for one in ys:
        dense = np.linspace(xs[0], xs[-1], 20_000)
        heights = np.interp(dense, xs, one)
        on = (dense > box.x0) & (dense < box.x1) & (heights > box.y0) & (heights < box.y1)
        assert not on.any()
    near = np.array([np.clip(x, box.x0, box.x1), np.clip(y, box.y0, box.y1)])
    assert np.hypot(*(near - [x, y])) > RING


def test_a_name_stands_beside_its_point_where_it_can() -> None:
    from matplotlib.path import Path as Curve
    from matplotlib.transforms import Bbox

    room = Bbox.from_extents(*ROOM)
    flat = [Curve([(40.0, 140.0), (200.0, 140.0), (320.0, 140.0)])]
    found = place(200.0, 100.0, 60.0, flat, room)
    assert (found.ha, found.leader) == ("left", ()) and 200 < found.x < 220
    assert place(320.0, 100.0, 60.0, flat, room).ha == "right"


def test_a_name_without_room_near_its_point_has_a_line_to_it() -> None:
    from matplotlib.path import Path as Curve
    from matplotlib.transforms import Bbox

    room = Bbox.from_extents(*ROOM)
    full = [Curve([(40.0 + i, 140.0 if i % 2 else 37.0) for i in range(290)])]
    found = place(200.0, 37.0, 60.0, full, room)
    assert found.y > 140 and found.leader[0][1] == pytest.approx(37 + RING, abs=0.1)


def test_blocks_without_error_have_no_worst() -> None:
    identical = view_of({"ok": True, "blocks": samples.blocks("unet", [(999.0, 999.0)] * 5)}).cards[0]
    assert identical.caption == "Identical blocks are drawn at the top." and "var(--bad)" not in identical.svg
    some = view_of({"ok": True, "blocks": samples.blocks("unet", [(999.0, 999.0), (60.0, 50.0)])}).cards[0]
    assert some.caption.startswith("No block departs; most error: up_blocks.1.attentions.1, 50.0 dB")


def test_one_block_is_no_line_and_says_so() -> None:
    card = view_of({"ok": True, "blocks": samples.blocks("unet", [(60.0, 60.0)])}).cards[0]
    assert card.why == "it takes 2 blocks with a number to make a line"


# bars


def test_letters_are_the_page_s() -> None:
    svg = bars("x", "X", [Row("a", (Segment(1.0, "c3", "a"),), "1"), Row("b", why="none")], "dB")
    assert "font-size: 12px" in svg and "font-family" not in svg and "DejaVu" not in svg


def test_what_is_identical_is_longer_than_every_number() -> None:
    card = card_of(view_of(samples.verify()), "unet: signal over error after each stage")
    lengths = bar_lengths(card.svg)
    assert lengths.pop("frontend: identical") > 1.04 * max(lengths.values())
    assert "broken end is identical" in card.caption
    plain = samples.verify()
    plain["stages"] = [stage for stage in plain["stages"] if stage["snr_db"] != 999.0]
    assert not any("broken end" in card.caption for card in view_of(plain).cards)


def test_a_bar_without_an_end_goes_past_the_rest_and_stays_in_the_figure() -> None:
    rows = [
        Row("a", (Segment(1.0, "c3", "a: identical"),), "identical", endless=True),
        Row("b", (Segment(130.0, "c3", "b: 130"),), "130.0 dB"),
    ]
    svg = bars("x", "X", rows, "dB")
    ends = [float(end) for end in PIECE.findall(svg)]
    assert len(ends) == 5 and max(ends) < 300  # the bar, its three pieces, the other bar; and room for the word
    assert bar_lengths(svg)["a: identical"] > bar_lengths(svg)["b: 130"]


def test_where_nothing_has_a_number_the_axis_has_none() -> None:
    svg = bars("x", "X", [Row("a", (Segment(1.0, "c3", "a: identical"),), "identical", endless=True)], "dB")
    assert "0 dB" not in svg and ">identical<" in svg


def test_stages_are_named_in_one_way(tmp_path: Path) -> None:
    view = view_of(samples.verify())
    card = card_of(view, "unet: signal over error after each stage")
    assert ">frontend<" in card.svg and "00-" not in card.svg
    table = next(table for table in view.tables if "stage" in table.caption)
    assert table.rows[0][1].text == "00-frontend" and "no pass made it" in table.notes[table.rows[0][2].note - 1]


# sizes


def test_small_sizes_keep_their_digits() -> None:
    assert [mib(n) for n in (0, 54_272, 2**20, 70_000_000)] == ["0", "0.0518", "1.0", "66.8"]
    assert [size(n) for n in (0, 300, 54_272, 2**20)] == ["0 KiB", "300 bytes", "53 KiB", "1.0 MiB"]


def test_what_is_alive_in_a_small_model_is_said_in_its_size(tiny_bundle: Path) -> None:
    view = bundle_view(read_inputs([tiny_bundle]).bundles[0], 0)
    cards = [card for card in view.memory.cards if "operator by operator" in card.title]
    assert len(cards) == 2
    for card in cards:
        assert "KiB)" in card.caption and "0.0 MiB" not in card.caption
        assert ">KiB<" in card.svg and ">MiB<" not in card.svg
    alive = [column.title for column in view.stages.columns].index("Alive")
    assert all(float(row[alive].text) > 0 for row in view.stages.rows)


# times


def test_times_of_a_chart_have_one_unit() -> None:
    levels = copy.deepcopy(samples.bench()["levels"])
    seen = {text for text in re.findall(r"<text[^>]*>([^<]*)<", level_charts.latency(levels, "x").svg)}
    assert {"11.4 s (p90 12.1)", "5.32 s (p90 5.64)", "0 s"} <= seen
    for level in levels:
        for key in ("denoise", "decode", "total"):
            level[key] = level[key] and {k: v / 100 if k != "n" else v for k, v in level[key].items()}
        level["run_seconds"] = [[second / 100 for second in run] for run in level["run_seconds"]]
    levels[0]["total"]["p90_seconds"] = 0.169
    latency = level_charts.latency(levels, "x").svg
    seen = {text for text in re.findall(r"<text[^>]*>([^<]*)<", latency)}
    assert {"114 ms (p90 169)", "53.2 ms (p90 56.4)", "0 ms"} <= seen and "0 s" not in seen
    runs = level_charts.every_run(levels, "x").svg
    assert ">ms</text>" in runs and "run 1: 114 ms" in runs
    levels[0]["total"]["p90_seconds"] = None
    assert ">114 ms</text>" in level_charts.latency(levels, "x").svg


def test_the_unit_is_that_of_the_longest() -> None:
    assert [time_unit(most)[0] for most in (0.0, 5e-4, 0.3, 1.0, 300.0)] == ["s", "µs", "ms", "s", "s"]
    assert [seconds(value) for value in (0.00085, 0.0123, 1.17)] == ["850 µs", "12.3 ms", "1.17 s"]


# words


def test_only_columns_that_are_there_are_explained(tmp_path: Path) -> None:
    for data, net in ((samples.bench(), True), (samples.bench_without_power(), False)):
        write_report([data], tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert ("Net: energy above idle" in page) is net
        assert "Denoise, Decode, Total: median of one drawing" in page
    for level in data["levels"]:
        level["denoise"] = level["decode"] = level["peak_pss_bytes"] = None
    write_report([data], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Total: median of one drawing" in page and "Decode, Total" not in page and "PSS: " not in page
