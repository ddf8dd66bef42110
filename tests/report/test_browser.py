"""The page in headless Chromium: quiet, alone, drawn, sortable; on a phone, in the dark, on paper, without JS."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldmc.report import write_report
from tests.report import samples

PHONE, NARROW, DESKTOP = (
    {"width": 390, "height": 844},
    {"width": 360, "height": 740},
    {"width": 1280, "height": 900},
)
LEAST_TEXT_PX = 9.0


class Visit:
    """An open page, and all that it did beside showing itself."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = file.as_uri()
        self.page.goto(self.url)

    def open_all(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")

    def column(self, table: str, number: int) -> list[str]:
        """Text of a column of the table with this id, from top to bottom."""
        rows = "[...document.getElementById(id).tBodies[0].rows]"
        script = f"([id, n]) => {rows}.map(r => r.cells[n] ? r.cells[n].innerText : '')"
        return self.page.evaluate(script, [table, number])


@pytest.fixture
def visit(browser: Any, page_file: Path) -> Iterator[Any]:
    visits: list[Visit] = []

    def opened(**options: Any) -> Visit:
        visits.append(Visit(browser, page_file, **options))
        return visits[-1]

    yield opened
    for one in visits:
        one.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_says_nothing_and_asks_for_nothing(visit: Any, scheme: str) -> None:
    one = visit(color_scheme=scheme)
    one.open_all()
    one.page.wait_for_load_state("networkidle")
    assert one.said == []
    assert [url for url in one.requests if not url.startswith("data:")] == [one.url]


def test_its_policy_stops_what_a_name_might_bring_in(visit: Any) -> None:
    """Even a script that got into the page would not run, and nothing can be fetched."""
    one = visit()
    one.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.intruder = 1';"
        " document.body.append(s); const i = new Image(); i.src = 'https://example.invalid/x.png';"
        " document.body.append(i); }"
    )
    assert one.page.evaluate("window.intruder") is None
    assert any("Content Security Policy" in line for line in one.said)


@pytest.mark.parametrize("size", [NARROW, PHONE, DESKTOP], ids=["360", "390", "1280"])
def test_every_chart_is_drawn_and_its_text_can_be_read(visit: Any, size: dict[str, int]) -> None:
    one = visit(viewport=size)
    charts = one.page.evaluate(
        """() => [...document.querySelectorAll('svg.chart')].map(svg => {
          const box = svg.getBoundingClientRect(), card = svg.closest('.card').getBoundingClientRect();
          const scale = box.width / svg.viewBox.baseVal.width;
          const texts = [...svg.querySelectorAll('text')];
          return {id: svg.id, width: box.width, height: box.height,
            marks: svg.querySelectorAll('.mark').length,
            titles: svg.querySelectorAll('.mark > title').length,
            card: [card.left, card.right],
            empty: [...svg.querySelectorAll('.bar, .area')].filter(m => m.getBBox().width <= 0).length,
            texts: texts.map(t => { const b = t.getBoundingClientRect();
              return [t.textContent, b.left, b.right, parseFloat(getComputedStyle(t).fontSize) * scale]; })};
        })"""
    )
    assert {chart["id"] for chart in charts} >= {
        "result0-latency", "result0-energy", "result0-memory", "result0-speedup", "result0-runs", "check0-components",
        "check0-stages-0", "check0-blocks-0", "bundle0-run", "bundle0-phases", "bundle0-live-0", "bundle0-live-1",
        "bundle0-growth-0", "bundle0-growth-1",
    }  # fmt: skip
    for chart in charts:
        assert chart["width"] > 250 and chart["height"] > 50, chart["id"]
        assert chart["marks"] == chart["titles"] > 0 and chart["empty"] == 0, chart["id"]
        for text, left, right, pixels in chart["texts"]:
            assert chart["card"][0] <= left and right <= chart["card"][1], (chart["id"], text)
            assert pixels >= LEAST_TEXT_PX, (chart["id"], text, pixels)


@pytest.mark.parametrize(
    ("chart", "kind", "count"),
    [
        ("result0-latency", "bar", 8),  # four measured levels, denoise and decode
        ("result0-energy", "bar", 8),  # above idle, and idling
        ("result0-memory", "bar", 4),
        ("result0-speedup", "bar", 4),
        ("result0-runs", "line", 4),
        ("result0-runs", "point", 20),  # five runs each
        ("check0-components", "bar", 2),
        ("check0-stages-0", "bar", 4),  # the fifth waits for the device
        ("check0-blocks-0", "line", 2),
        ("check0-blocks-0", "point", 42),
        ("bundle0-run", "area", 8),  # four kinds of memory, two components
        ("bundle0-live-0", "area", 1),
        ("bundle0-growth-0", "bar", 3),  # modules, onnx, fold
    ],
)
def test_there_are_as_many_marks_as_data(visit: Any, chart: str, kind: str, count: int) -> None:
    assert visit().page.locator(f"svg#{chart} .mark.{kind}").count() == count


def test_without_power_the_chart_is_its_reason(visit: Any) -> None:
    page = visit().page
    assert page.locator("svg#result1-energy").count() == 0
    assert page.locator("#result1 .why", has_text=f"Not drawn: {samples.NO_METER}").count() == 1


@pytest.mark.parametrize("size", [NARROW, PHONE, DESKTOP], ids=["360", "390", "1280"])
def test_the_page_never_scrolls_sideways(visit: Any, size: dict[str, int]) -> None:
    one = visit(viewport=size)
    one.open_all()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_tables_sort_by_click_and_turn_round(visit: Any) -> None:
    one = visit()
    levels, total = "result0-levels-table", 3
    before = one.column(levels, 0)
    head = one.page.locator(f"#{levels} thead th").nth(total)
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(x) for x in one.column(levels, total)[:4]] == [5.32, 5.65, 10.6, 11.4]
    assert {before[1], before[3]} == set(one.column(levels, 0)[4:])  # no number: last, whatever the order
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(x) for x in one.column(levels, total)[:4]] == [11.4, 10.6, 5.65, 5.32]
    assert {before[1], before[3]} == set(one.column(levels, 0)[4:])


def test_tables_sort_by_keyboard(visit: Any) -> None:
    one = visit()
    stages = "bundle0-stages"
    before = [float(text.replace(",", "")) for text in one.column(stages, 4)]
    button = one.page.locator(f"#{stages} thead th").nth(4).get_by_role("button")
    button.focus()
    one.page.keyboard.press("Enter")
    assert [float(text.replace(",", "")) for text in one.column(stages, 4)] == sorted(before) != before
    one.page.keyboard.press("Space")
    assert [float(text.replace(",", "")) for text in one.column(stages, 4)] == sorted(before, reverse=True)
    assert button.evaluate("one => one === document.activeElement")
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.closest('th').cellIndex") == 5


def test_text_sorts_by_text(visit: Any) -> None:
    one = visit()
    one.open_all()
    files = "bundle0-files-table"
    one.page.locator(f"#{files} thead th").nth(1).get_by_role("button").click()
    kinds = one.column(files, 1)
    assert kinds == sorted(kinds) and len(set(kinds)) > 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["390", "1280"])
def test_it_is_accessible(visit: Any, scheme: str, size: dict[str, int]) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    one = visit(color_scheme=scheme, viewport=size)
    one.open_all()
    found = axe.Axe().run(one.page).response
    assert [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in found["violations"]] == []
    assert len(found["passes"]) > 20


def test_it_reads_without_scripts(visit: Any) -> None:
    one = visit(java_script_enabled=False)
    assert one.page.locator("table.sortable th button").count() == 0
    shown = one.page.locator("main").inner_text()
    for words in (
        "Latency by level",
        "faces.cpu.ldmc (onnx,fold)",
        "5.32",
        "out of memory",
        "Memory over the run",
        "01-onnx",
    ):
        assert words in shown
    one.page.locator("summary").first.click()
    assert one.page.locator("details").first.get_attribute("open") is not None


def pixels(data: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return np.rint(imread(io.BytesIO(data), format="png")[:, :, :3] * 255).astype(int)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["390", "1280"])
def test_light_and_dark_are_what_they_say_and_not_blank(visit: Any, size: dict[str, int]) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        image = pixels(visit(viewport=size, color_scheme=scheme).page.screenshot(full_page=True))
        assert image.shape[1] == size["width"] and image.shape[0] > 2 * size["height"]
        assert len(np.unique(image[::4, ::4] @ [65536, 256, 1])) > 200
        # something is drawn in every screenful
        parts = np.array_split(image, image.shape[0] // size["height"])
        assert all(part.std() > 4 for part in parts)
        brightness[scheme] = np.median(image)
    assert brightness["light"] > 230 and brightness["dark"] < 50


def test_print_is_light_and_whole(visit: Any) -> None:
    one = visit(color_scheme="dark")
    one.page.emulate_media(media="print", color_scheme="dark")
    assert one.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert one.page.evaluate("getComputedStyle(document.body).color") == "rgb(20, 24, 31)"
    assert one.page.locator("nav").is_hidden()
    assert one.page.pdf(format="A4").startswith(b"%PDF")


NAME_ON_LINE = """() => [...document.querySelectorAll('svg.chart')].filter(s => s.querySelector('.line')).map(svg => {
  const view = svg.viewBox.baseVal, inside = (p, b, air) =>
    p.x > b.left - air && p.x < b.right + air && p.y > b.top - air && p.y < b.bottom + air;
  const on = [...svg.querySelectorAll('text')].filter(t => t.getAttribute('style').includes('--bad')).map(text => {
    const b = text.getBoundingClientRect(), points = [];
    for (const path of svg.querySelectorAll('.line path')) {
      const end = path.getTotalLength(), matrix = path.getScreenCTM();
      for (let at = 0; at <= end; at += 0.5) points.push(path.getPointAtLength(at).matrixTransform(matrix));
    }
    const s = svg.getBoundingClientRect();
    return {points: points.length, touched: points.filter(p => inside(p, b, 0)).length,
      fits: b.left >= s.left && b.right <= s.right && b.top >= s.top && b.bottom <= s.bottom};
  });
  return {title: svg.querySelector('title').textContent, names: on};
})"""


@pytest.mark.parametrize("size", [NARROW, DESKTOP], ids=["360", "1280"])
def test_the_name_of_the_worst_block_lies_on_no_line(browser: Any, tmp_path: Path, size: dict[str, int]) -> None:
    write_report([samples.hostile()], tmp_path / "page.html")
    one = Visit(browser, tmp_path / "page.html", viewport=size)
    charts = one.page.evaluate(NAME_ON_LINE)
    one.context.close()
    assert len(charts) == 12
    for chart in charts:
        (name,) = chart["names"]
        assert name["points"] > 100 and name["touched"] == 0 and name["fits"], chart


def test_names_cannot_run(browser: Any, tmp_path: Path) -> None:
    data = samples.bench()
    for level in data["levels"]:
        level["title"] = "<img src=x onerror=alert(1)><script>window.intruder=1</script>"
    write_report([data], tmp_path / "evil.html")
    one = Visit(browser, tmp_path / "evil.html")
    assert one.page.evaluate("window.intruder") is None and one.said == []
    assert one.page.locator("img[src=x]").count() == 0
    assert one.page.locator("svg#result0-latency text", has_text="<img src=x").count() == 6
    one.context.close()
