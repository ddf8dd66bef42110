"""Stages against PyTorch: what each adds, what cannot run here, and a fault in the bundle's own files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel, VQModel

from ldmc.compiler.fidelity.examine import Examination, examine
from ldmc.compiler.fidelity.results import FidelityReport, StageResult
from tests.compiler.fidelity.conftest import QUIET, Examined
from tests.compiler.fidelity.faults import copied, scale_weight

STEPS = 3


def stages(bundle: Path, component: str) -> list[StageResult]:
    asked = Examination(by_stage=True, component=component, steps=STEPS, timesteps=2)
    return list(examine(bundle, asked, QUIET).stages)


@pytest.fixture(scope="module")
def unet16(fp16: Examined) -> list[StageResult]:
    return stages(fp16.bundle, "unet")


def test_every_pass_has_a_row_and_fp16_adds_the_error(unet16: list[StageResult]) -> None:
    assert [(row.stage, row.spec, row.form) for row in unet16] == [
        ("00-frontend", "", "torch"),
        ("01-fp16", "fp16", "torch"),
        ("02-onnx", "onnx", "onnx"),
        ("03-fold", "fold", "onnx"),
        ("bundle", "", "onnx"),
    ]
    frontend, half, *others = unet16
    assert frontend.snr_db is not None and frontend.snr_db > 110 and frontend.needed_db == 60
    assert half.snr_db == pytest.approx(60, abs=8) and half.needed_db == 30
    assert half.added_db == pytest.approx(-(half.snr_db or 0), abs=0.1)
    assert all(row.snr_db is not None and row.snr_db > 50 and not row.why for row in others)
    assert not any(row.departs for row in unet16)


def independent(model: Path, bundle: Path) -> tuple[float, float]:
    """SNR and largest error of the bundle's UNet, with nothing of ldmc: diffusers' loop, ONNX Runtime on the file."""
    unet = UNet2DModel.from_pretrained(model / "unet").eval()
    scheduler = DDIMScheduler.from_pretrained(model / "scheduler")
    scheduler.set_timesteps(STEPS)
    session = onnxruntime.InferenceSession(
        str(bundle / "unet" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    latent: Any = np.random.RandomState(0).standard_normal((1, 3, 8, 8))
    wanted, given = [], []
    for t in scheduler.timesteps:
        half = np.asarray(latent).astype("float16")
        with torch.inference_mode():
            noise = unet(torch.from_numpy(half.astype("float32")), t).sample
        if int(t) in (int(scheduler.timesteps[0]), int(scheduler.timesteps[-1])):
            wanted.append(noise.numpy())
            given.append(session.run(None, {"input_0": half, "input_1": np.array([int(t)])})[0])
        latent = scheduler.step(noise, t, torch.from_numpy(half.astype("float32"))).prev_sample.numpy()
    reference = np.stack(wanted).astype("float64")
    error = np.stack(given).astype("float64") - reference
    return 10 * math.log10((reference**2).sum() / (error**2).sum()), float(np.abs(error).max())


def test_the_last_row_is_that_of_an_independent_computation(
    unet16: list[StageResult], fp16: Examined, tiny_model: Path
) -> None:
    snr_db, worst = independent(tiny_model, fp16.bundle)
    assert unet16[-1].snr_db == pytest.approx(snr_db, abs=1.0)
    assert unet16[-1].max_abs_error == pytest.approx(worst, rel=0.5)


def test_the_half_precision_module_is_compared_as_pytorch_computes_it(
    unet16: list[StageResult], fp16: Examined, tiny_model: Path
) -> None:
    """PyTorch's own half kernels, with norms in fp32: slow where models are not tiny."""
    unet = UNet2DModel.from_pretrained(tiny_model / "unet").eval()
    wanted = np.stack([call.output for call in fp16.calls["unet"]]).astype("float64")
    unet.half()
    for module in unet.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.float()
            module.register_forward_pre_hook(lambda _m, args: tuple(a.float() for a in args))
            module.register_forward_hook(lambda _m, _a, out: out.half())
    with torch.inference_mode():
        calls = (map(torch.from_numpy, call.inputs) for call in fp16.calls["unet"])
        given = np.stack([unet(latent, t).sample.numpy() for latent, t in calls])
    snr_db = 10 * math.log10((wanted**2).sum() / ((given - wanted) ** 2).sum())
    assert unet16[1].snr_db == pytest.approx(snr_db, abs=5.0)


def test_the_decoder_is_compared_on_the_loops_last_latent(fp32: Examined, tiny_model: Path) -> None:
    [call] = fp32.calls["decoder"]
    vqvae = VQModel.from_pretrained(tiny_model / "vqvae").eval()
    unet = UNet2DModel.from_pretrained(tiny_model / "unet").eval()
    scheduler = DDIMScheduler.from_pretrained(tiny_model / "scheduler")
    scheduler.set_timesteps(STEPS)
    latent = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, 8, 8)).astype("float32"))
    with torch.inference_mode():
        for t in scheduler.timesteps:
            latent = scheduler.step(unet(latent, t).sample, t, latent).prev_sample
        picture = vqvae.decode(latent / vqvae.config.scaling_factor).sample
    np.testing.assert_allclose(call.inputs[0], latent.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(call.output, picture.numpy(), rtol=1e-3, atol=1e-3)


def test_a_fault_in_the_file_is_seen_in_the_last_row_alone(fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    scale_weight(bundle, "decoder", "decoder.conv_out.weight", 1.5)
    rows = stages(bundle, "decoder")
    assert [row.stage for row in rows if row.departs] == ["bundle"]
    assert rows[-1].snr_db is not None and rows[-1].snr_db < 20
    assert rows[-1].added_db == pytest.approx(-rows[-1].snr_db, abs=0.1)
    report = FidelityReport(tuple(rows))
    assert report.complaint().startswith("decoder departs at stage bundle: SNR ")
    assert "build the bundle again" in report.fix()


def test_parts_are_run_in_order_and_round_where_they_are_cut(parts: Examined) -> None:
    rows = {row.stage: row for row in stages(parts.bundle, "unet")}
    # a CPU's ONNX Runtime carries fp32 through half-precision values, but not from part to part
    assert rows["04-partition"].added_db is not None and rows["04-partition"].added_db < -60
    assert rows["04-partition"].form == rows["bundle"].form == "onnx-parts"


def test_a_script_is_run_as_a_script(script: Path) -> None:
    rows = {row.stage: row for row in stages(script, "decoder")}
    assert rows["01-torchscript"].form == rows["bundle"].form == "torchscript"
    assert all(row.snr_db is not None and row.snr_db > 100 for row in rows.values())


def test_an_engine_that_is_not_built_says_so_and_its_graph_stands_for_it(nano: Path) -> None:
    rows = {row.stage: row for row in stages(nano, "unet")}
    assert [*rows][-4:] == ["04-groupnorm", "05-opset", "06-trt", "bundle"]
    assert rows["06-trt"].snr_db is None and "is not built yet" in rows["06-trt"].why
    assert rows["06-trt"].form == "engine" and rows["bundle"].form == "onnx"
    assert rows["bundle"].snr_db is not None and rows["bundle"].snr_db > 50
    assert rows["04-groupnorm"].added_db is not None and rows["04-groupnorm"].added_db < -50


def test_nothing_is_left_behind(fp32: Examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = Examination(by_stage=True, by_block=True, component="decoder", steps=1, timesteps=1)
    before = sorted(path for path in fp32.bundle.rglob("*"))
    examine(fp32.bundle, asked, QUIET)
    assert not list(tmp_path.iterdir())
    assert sorted(path for path in fp32.bundle.rglob("*")) == before
