"""What a report says of its rows, as a sentence and as JSON."""

from __future__ import annotations

import json
import math

from ldmc.compiler.fidelity.results import BlockResult, FidelityReport, StageResult


def stage(name: str, snr_db: float | None, component: str = "unet", spec: str = "fold") -> StageResult:
    return StageResult(component, name, spec, "onnx", 60.0, snr_db, -math.inf, 1e-6)


def block(name: str, own: float | None, component: str = "unet") -> BlockResult:
    return BlockResult(component, name, False, 20.0, own, 90.0, 0.5)


def test_a_good_report_complains_of_nothing() -> None:
    report = FidelityReport((stage("02-fold", 120.0),), (block("conv_in", math.inf), block("mid_block", None)))
    assert report.ok and report.first_departure is None
    assert report.to_json()["first_departure"] is None


def test_the_first_block_and_the_first_stage_of_each_component_are_named() -> None:
    report = FidelityReport(
        (stage("02-fold", 20.0), stage("bundle", 19.0), stage("01-onnx", 10.0, "decoder")),
        (block("conv_in", 120.0), block("mid_block.resnets.0", 12.0), block("conv_out", 11.0)),
    )
    complaint = report.complaint()
    assert "unet departs at stage 02-fold: SNR 20.0 dB, needed 60 dB" in complaint
    assert "decoder departs at stage 01-onnx" in complaint and "bundle" not in complaint
    assert "unet: mid_block.resnets.0 is the first block that departs" in complaint
    assert "12.0 dB, needed 90 dB" in complaint and "1 more block departs" in complaint
    assert report.to_json()["first_departure"] == {"component": "unet", "block": "mid_block.resnets.0"}


def test_the_fix_depends_on_what_is_at_fault() -> None:
    passes = FidelityReport((stage("02-fold", 20.0), stage("bundle", 20.0)))
    file = FidelityReport((stage("02-fold", 120.0), stage("bundle", 20.0)))
    alone = FidelityReport(blocks=(block("conv_in", 1.0),))
    assert "leave the pass out" in passes.fix()
    assert file.fix().startswith("build the bundle again")
    assert "--by-stage" in alone.fix()


def test_json_is_strict_whatever_the_figures() -> None:
    rows = (stage("00-frontend", math.inf, spec=""), stage("01-fp16", -math.inf), stage("02-trt", None))
    report = FidelityReport(rows, (block("conv_in", math.nan), BlockResult("unet", "conv_act", why="folded")))
    text = json.dumps(report.to_json(), allow_nan=False)
    read = json.loads(text)
    assert read["stages"][0]["pass"] is None and read["stages"][2]["snr_db"] is None
    assert read["blocks"][0]["departs"] is True and read["blocks"][1]["why"] == "folded"
