"""The page: what it says of bundles and results, that it says why where it has no number, that it is one file."""

from __future__ import annotations

import base64
import copy
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldmc.commands.common import beside
from ldmc.report import write_report
from ldmc.report.pictures import difference, pictures
from tests.conftest import Outcome
from tests.report import samples

EVIL = "<script>alert(1)</script>"


class Words(HTMLParser):
    """The text of a page, and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        for key, value in attributes:
            if key in ("src", "href", "srcset", "action", "data", "poster"):
                self.addresses.append(value)
            elif key == "id":
                self.ids.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*inputs: Any, tmp_path: Path) -> Words:
    write_report(inputs, tmp_path / "page.html")
    return Words((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_it_says_what_was_built_from_what_and_how(tiny_bundle: Path, tmp_path: Path) -> None:
    page = page_of(tiny_bundle, tmp_path=tmp_path)
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    stages = [json.loads((tiny_bundle / stage["report"]).read_text()) for stage in manifest["stages"]]
    assert f"{manifest['name']} for cpu" in page.text
    for stage in stages:
        assert (
            f"{stage['component']} {stage['stage']}: {stage['before']['nodes']:,} → {stage['after']['nodes']:,}"
            in page.text
        )
        assert set(stage["after"]["ops"]) <= set(page.text.split())
    for file in manifest["files"]:
        assert file["path"] in page.text and file["sha256"] in page.text
    for name, version in manifest["toolchain"].items():
        assert name in page.text and version in page.text
    assert f"ldmc build --target cpu --passes onnx,fold --model ./{manifest['source']['model']}" in page.text
    assert "ldmc verify BUNDLE --by-stage --json > verify.json" in page.text  # none was given: how to get one


def test_the_peak_is_named_and_held_against_the_budget(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "over.ldmc"))
    file = bundle / "reports" / "memory.json"
    plan = json.loads(file.read_text())
    peak = max(plan["run"]["peak_bytes"], plan["build_device"]["peak_bytes"])
    plan.update(
        budget_bytes=peak - 2**20,
        over_bytes=2**20,
        fits=False,
        remedies=[{"spec": "fp16", "peak_bytes": peak // 2}],
    )
    file.write_text(json.dumps(plan))
    page = page_of(bundle, tmp_path=tmp_path)
    assert "Over" in page.text and "1.0 MiB too much" in page.text
    assert "It is 1.0 MiB over the budget of" in page.text
    assert f"fp16: {peak / 2**21:.1f} MiB" in page.text
    assert plan["components"]["unet"]["run"]["peak_node"] in page.text


def test_a_bundle_without_plan_or_timeline_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "x.ldmc"))
    (bundle / "reports" / "timeline.json").unlink()
    assert "keeps no reports/timeline.json" in page_of(bundle, tmp_path=tmp_path).text
    (bundle / "reports" / "memory.json").unlink()
    assert "No plan is in this bundle" in page_of(bundle, tmp_path=tmp_path).text


def test_insertions_and_pending_steps_are_shown_with_their_reason(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "x.ldmc"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["insertions"] = [
        {"component": name, "spec": "fold", "reason": "Constant is not read"} for name in ("unet", "decoder")
    ]
    manifest["stages"][-1]["status"] = "pending"
    manifest["finish"] = {"steps": [{"component": "unet", "part": "unet.0", "status": "pending", "ladder": []}]}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    page = page_of(bundle, tmp_path=tmp_path)
    assert "unet fold: Constant is not read" in page.text
    assert "Left to the device: unet.0" in page.text and "python3 -m runtime finish" in page.text
    assert "--passes onnx --model" in page.text  # what was inserted is not asked for again


def test_seconds_and_peaks_are_those_of_the_build(tiny_bundle: Path, tmp_path: Path) -> None:
    without = page_of(tiny_bundle, tmp_path=tmp_path)
    assert "the bundle keeps no times" in without.text
    stage = {"component": "unet", "stage": "02-fold", "seconds": 7.654, "peak_rss_bytes": 321 * 2**20}
    build = {"bundle": str(tiny_bundle), "write": {}, "seconds": 12.3, "peak_rss_bytes": 432 * 2**20, "stages": [stage],
             "insertions": [], "pending": []}
    page = page_of(tiny_bundle, build, tmp_path=tmp_path)
    assert "7.65" in page.text and "321" in page.text
    assert "12.3 s" in page.text and "peak memory 432 MiB" in page.text


def test_levels_have_their_numbers_or_their_reason(tmp_path: Path) -> None:
    data = samples.bench()
    page = page_of(data, tmp_path=tmp_path)
    for level in data["levels"]:
        assert level["title"] in page.text
        if level["status"] == "measured":
            assert f"{level['total']['p50_seconds']:.3g}" in page.text
        else:
            assert f"{level['status']}: {level['why']}" in page.text
    assert "2.14×" in page.text and "PSNR: it is the baseline" in page.text
    assert "GPU memory: this level runs on the CPU" in page.text
    assert data["command"] in page.text and data["measured_at"] in page.text
    assert all(version in page.text for version in data["packages"].values())


def test_the_speedup_is_over_what_was_measured(tmp_path: Path) -> None:
    """Where the baseline was stopped, the first level that was measured takes its place, and is named."""
    result = samples.bench()
    stopped = {**result["levels"][0], "status": "stopped", "why": "the limit"}  # its times notwithstanding
    measured = [level for level in result["levels"] if level["status"] == "measured"]
    page = tmp_path / "page.html"
    write_report([{**result, "levels": [stopped, *measured[1:]]}], page)
    text = page.read_text()
    assert f"over {html.escape(measured[0]['title'])}" not in text
    write_report([{**result, "levels": [stopped]}], page)
    assert "none measured" in page.read_text()


def test_a_column_without_any_number_gives_its_reason_and_no_zero(tmp_path: Path) -> None:
    page = page_of(samples.bench_without_power(), tmp_path=tmp_path)
    for name in ("Power", "Energy", "Energy above idle"):
        assert f"{name}: {samples.NO_METER}" in page.text
    assert f"Not drawn: {samples.NO_METER}" in page.text
    assert "0 J" not in page.text and "0 W" not in page.text and "None" not in page.text


def test_no_cell_of_any_table_is_blank(page_file: Path) -> None:
    page = page_file.read_text(encoding="utf-8")
    cells = re.findall(r"<(?:td|th)[^>]*>(.*?)</(?:td|th)>", page)
    assert len(cells) > 500
    assert all(re.sub(r"<[^>]+>", "", cell).strip() not in ("", "None", "nan") for cell in cells)


def test_every_reason_that_a_cell_points_at_is_there(page_file: Path) -> None:
    page = Words(page_file.read_text(encoding="utf-8"))
    inside = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len(inside) > 20 and set(inside) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_it_loads_nothing(page_file: Path) -> None:
    page = page_file.read_text(encoding="utf-8")
    words = Words(page)
    assert all(address.startswith(("#", "data:")) for address in words.addresses)
    assert not re.search(r"@import|url\((?!#)|https?://", page)
    assert words.tags.count("script") == 1 and "link" in words.tags


def test_it_is_the_same_every_time(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report([tiny_bundle, samples.bench(), samples.verify()], tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_names_come_out_as_text(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "x.ldmc"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest.update(name=EVIL, target=EVIL, insertions=[{"component": "unet", "spec": EVIL, "reason": EVIL}])
    manifest["source"]["model"] = EVIL
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    timeline = json.loads((bundle / "reports" / "timeline.json").read_text())
    timeline["unet"]["steps"] = [EVIL for _ in timeline["unet"]["steps"]]
    (bundle / "reports" / "timeline.json").write_text(json.dumps(timeline))
    result, check = samples.bench(device=EVIL, command=EVIL), samples.verify()
    result["levels"][0].update(title=EVIL + " $x_1$", absent={"psnr_db": EVIL})
    result["levels"][1]["why"] = EVIL
    check["stages"][0]["pass"] = check["blocks"][8]["block"] = EVIL
    write_report([bundle, result, check], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and html.escape(EVIL) in page
    assert page.count("<script>") == 1 and "$x_1$" in page


def test_pictures_differ_ten_times_enlarged() -> None:
    one = np.array([[[10, 200, 3]]], np.uint8)
    other = np.array([[[12, 100, 3]]], np.uint8)
    assert difference(one, other).tolist() == [[[20, 255, 0]]]


def decoded(uri: str) -> np.ndarray:
    from matplotlib.image import imread

    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.rint(imread(io.BytesIO(data), format="png")[:, :, :3] * 255).astype(np.uint8)


def test_each_level_stands_beside_the_baseline() -> None:
    shown = pictures(samples.bench()["levels"])
    assert [picture.is_baseline for picture in shown] == [True] + [False] * 5
    by_title = {picture.title: picture for picture in shown}
    bundle = by_title["faces.cpu.ldmc (onnx,fold)"]
    assert (decoded(bundle.image) == samples.picture(0.8)).all()
    assert (decoded(bundle.difference) == difference(samples.picture(0.8), samples.picture())).all()
    assert bundle.caption == "PSNR 69.1 dB"
    assert by_title["TorchScript, fp32"].caption == "identical to the baseline's"
    assert by_title["TorchScript, fp16"].why.endswith("out of memory")


@pytest.mark.parametrize(
    "broken", ["", "no base64!", base64.b64encode(b"no png").decode(), samples.png(samples.picture())[:200]]
)
def test_a_picture_that_cannot_be_read_says_so(broken: str) -> None:
    levels = copy.deepcopy(samples.bench()["levels"])
    levels[4]["picture_png"] = broken
    shown = next(picture for picture in pictures(levels) if picture.title == levels[4]["title"])
    assert shown.image == "" and ("no picture of it" in shown.why or "not a PNG" in shown.why)


def test_pictures_without_a_baseline_or_of_another_size() -> None:
    levels = [level for level in samples.bench()["levels"] if level["kind"] == "bundle"]
    assert all("no baseline" in picture.why_no_difference for picture in pictures(levels))
    levels = copy.deepcopy(samples.bench()["levels"])
    levels[4]["picture_png"] = samples.png(samples.picture()[:32])
    assert "another size" in pictures(levels)[4].why_no_difference


def test_a_verification_shows_stages_blocks_and_what_is_wrong(tmp_path: Path) -> None:
    page = page_of(samples.verify(), tmp_path=tmp_path)
    assert "Within its tolerance" in page.text
    assert "First to depart: mid_block.attentions.0, 24.0 dB by itself." in page.text
    assert "it waits for the device" in page.text and "identical" in page.text and "51.9 dB" in page.text
    failed = {"ok": False, "components": {"unet": {"snr_db": None, "max_abs_error": None}}, "image_psnr_db": None,
              "error": {"message": "unet: SNR 3.0 dB, needed 60 dB"}}  # fmt: skip
    page = page_of(failed, tmp_path=tmp_path)
    assert "Not within its tolerance: unet: SNR 3.0 dB, needed 60 dB" in page.text
    assert "Not given: how much error each pass added" in page.text


def test_what_verify_really_gives_is_shown(ldmc: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    found = ldmc("verify", tiny_bundle, "--by-stage", "--by-block", "--steps", 2, "--json").json
    plain = {"ok": True, "components": {"unet": {"snr_db": 71.9, "max_abs_error": 0.001}}}
    page = page_of(found, plain, tmp_path=tmp_path)
    assert "Not given" not in page.text
    assert "No block departs; most error: " in page.text and "nothing" in page.text
    assert "it is made of the blocks below it" in page.text
    assert "the result does not say why" not in page.text and "None" not in page.text


# the command, and the build


def test_the_command_says_where_and_how_large(
    ldmc: Callable[..., Outcome], tiny_bundle: Path, tmp_path: Path
) -> None:
    file = samples.save(samples.bench(), tmp_path / "bench.json")
    done = ldmc("report", tiny_bundle, file, "-o", tmp_path / "r.html", "--json")
    assert done.code == 0, done.err
    assert done.json == {"report": str(tmp_path / "r.html"), "bytes": (tmp_path / "r.html").stat().st_size}


def test_a_build_writes_one_beside_its_bundle(
    ldmc: Callable[..., Outcome], tiny_model: Path, tmp_path: Path
) -> None:
    build = ("build", "--target", "cpu", "--model", tiny_model, "--json", "-o")
    done = ldmc(*build, tmp_path / "x.ldmc")
    assert done.code == 0, done.err
    page = Words((tmp_path / "x.report.html").read_text(encoding="utf-8"))
    assert done.json["report"] == str(tmp_path / "x.report.html")
    assert "the bundle keeps no times" not in page.text and "Build" in page.text
    assert ldmc(*build, tmp_path / "y.ldmc", "--no-report").json["report"] is None
    (tmp_path / "z.report.html").mkdir()
    blocked = ldmc(*build, tmp_path / "z.ldmc")
    assert (blocked.code, blocked.json["report"]) == (0, None)
    assert "cannot be written" in " ".join(blocked.err.split())
    names = {"x.ldmc", "x.report.html", "y.ldmc", "z.ldmc", "z.report.html"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_its_name_is_the_bundle_s() -> None:
    assert beside(Path("/a/faces.cpu.ldmc"), "report.html") == Path("/a/faces.cpu.report.html")
    assert beside(Path("/faces"), "report.html") == Path("/faces.report.html")
