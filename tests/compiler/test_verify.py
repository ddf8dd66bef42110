"""Verification: its figures against an independent computation, and what it must not let pass."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel, VQModel

from ldmc.compiler.verify import ComponentResult, VerifyReport, psnr_db, snr_db, verify_bundle
from ldmc.errors import VerificationError
from tests.checkpoints import copy_model, read_state, replace_state
from tests.conftest import Outcome

STEPS = 5
TIMESTEPS = (999, 500, 0)

# ---- decibels


def test_snr_is_signal_power_over_error_power() -> None:
    signal = np.full(100, 2.0)
    assert snr_db(signal, signal + 0.02) == pytest.approx(40.0)
    assert snr_db(signal, -signal) == pytest.approx(-6.0206, abs=1e-4)
    assert snr_db(signal, signal) == math.inf
    assert snr_db(signal, signal + np.nan) == -math.inf
    assert snr_db(signal, signal + np.inf) == -math.inf
    assert snr_db(np.zeros(3), np.ones(3)) == -math.inf


def test_snr_of_fp16_is_computed_in_float64() -> None:
    large = np.full(10**5, 6e4, "float16")
    assert snr_db(large, large - np.float16(32)) == pytest.approx(20 * np.log10(6e4 / 32), abs=0.01)


def test_psnr_is_of_the_pictures_range() -> None:
    picture = np.zeros((4, 4, 3))
    assert psnr_db(picture, picture + 1, peak=255.0) == pytest.approx(48.1308, abs=1e-4)
    assert psnr_db(picture, picture, peak=255.0) == math.inf
    assert psnr_db(picture, picture * np.nan, peak=255.0) == -math.inf


# ---- the report


def result(snr: float = 80.0, needed: float = 60.0) -> ComponentResult:
    return ComponentResult(snr, 1e-5, needed)


def test_a_report_is_ok_when_everything_is_within_its_tolerance() -> None:
    report = VerifyReport({"unet": result(), "decoder": result(60.0)}, 60.0, 60.0)
    assert report.ok and report.complaint() == ""


@pytest.mark.parametrize(
    ("report", "complaint"),
    [
        (
            VerifyReport({"unet": result(59.94), "decoder": result()}, 70.0, 60.0),
            "unet: SNR 59.9 dB, needed 60 dB",
        ),
        (VerifyReport({"unet": result()}, 34.0, 35.0), "image: PSNR 34.0 dB, needed 35 dB"),
        (VerifyReport({"unet": result(-math.inf)}, 70.0, 60.0), "unet: SNR -inf dB, needed 60 dB"),
        (
            VerifyReport({"unet": result(math.nan)}, math.nan, 60.0),
            "unet: SNR nan dB, needed 60 dB; image: PSNR nan",
        ),
        (VerifyReport({}, None, 35.0, overflow="unet: node a overflows"), "unet: node a overflows"),
    ],
)
def test_a_report_says_what_is_wrong(report: VerifyReport, complaint: str) -> None:
    assert not report.ok
    assert report.complaint().startswith(complaint)
    assert report.fix()


def test_a_report_is_strict_json_whatever_its_figures() -> None:
    report = VerifyReport({"unet": result(math.inf), "decoder": result(-math.inf)}, math.nan, 60.0)
    text = json.dumps(report.to_json(), allow_nan=False)
    assert json.loads(text)["components"].keys() == {"unet", "decoder"}


# ---- against an independent computation


class Independent:
    """The model and its bundle, run with nothing of ldmc."""

    def __init__(self, model: Path, bundle: Path) -> None:
        self.unet = UNet2DModel.from_pretrained(model / "unet").eval()
        self.vqvae = VQModel.from_pretrained(model / "vqvae").eval()
        self.scheduler = DDIMScheduler.from_pretrained(model / "scheduler")
        self.bundle = bundle
        self.latent = np.random.RandomState(0).standard_normal((1, 3, 8, 8))

    @torch.inference_mode()
    def noise(self, latent: Any, t: int) -> Any:
        return self.unet(torch.from_numpy(latent), t).sample.numpy()

    @torch.inference_mode()
    def decoded(self, latent: Any) -> Any:
        return self.vqvae.decode(torch.from_numpy(latent) / self.vqvae.config.scaling_factor).sample.numpy()

    def compiled(self, component: str) -> Callable[..., Any]:
        file = self.bundle / component / "model.onnx"
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        dtype = "float16" if "float16" in session.get_inputs()[0].type else "float32"

        def run(latent: Any, *t: int) -> Any:
            feeds = {"input_0": latent.astype(dtype)} | dict(
                zip(["input_1"], map(np.atleast_1d, t), strict=False)
            )
            return session.run(None, feeds)[0].astype("float32")

        return run

    def picture(self, unet: Callable[..., Any], decoder: Callable[..., Any]) -> Any:
        self.scheduler.set_timesteps(STEPS)
        sample = torch.from_numpy(self.latent.astype("float32"))
        for t in self.scheduler.timesteps:
            sample = self.scheduler.step(
                torch.from_numpy(unet(sample.numpy(), int(t))), t, sample
            ).prev_sample
        return np.rint(np.clip((decoder(sample.numpy()) + 1) * 127.5, 0, 255))


def decibels(reference: Any, actual: Any, power: float | None = None) -> float:
    """SNR, or with `power` PSNR."""
    error = np.mean((actual.astype("float64") - reference) ** 2)
    return (
        10 * math.log10((power or np.mean(reference.astype("float64") ** 2)) / error) if error else math.inf
    )


@pytest.fixture(scope="module")
def report_fp16(tiny_bundle_fp16: Path) -> VerifyReport:
    return verify_bundle(tiny_bundle_fp16, steps=STEPS, cache=False)


@pytest.fixture(scope="module")
def report_fp32(tiny_bundle: Path) -> VerifyReport:
    return verify_bundle(tiny_bundle, steps=STEPS, cache=False)


def test_fp32_agrees_with_pytorch(report_fp32: VerifyReport) -> None:
    assert report_fp32.ok, report_fp32.complaint()
    assert report_fp32.image_psnr_db is not None and report_fp32.image_psnr_db >= 60
    assert all(part.snr_db > 90 for part in report_fp32.components.values())
    assert all(0 < part.max_abs_error < 1e-4 for part in report_fp32.components.values())


def test_fp16_agrees_with_pytorch_as_far_as_fp16_goes(report_fp16: VerifyReport) -> None:
    assert report_fp16.ok, report_fp16.complaint()
    assert report_fp16.image_psnr_db is not None and report_fp16.image_psnr_db >= 35
    assert all(35 < part.snr_db < 90 for part in report_fp16.components.values())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_figures_are_those_of_an_independent_computation(
    dtype: str,
    tiny_model: Path,
    tiny_bundle: Path,
    tiny_bundle_fp16: Path,
    report_fp32: VerifyReport,
    report_fp16: VerifyReport,
) -> None:
    bundle, report = (tiny_bundle, report_fp32) if dtype == "float32" else (tiny_bundle_fp16, report_fp16)
    both = Independent(tiny_model, bundle)
    both.latent = both.latent.astype(dtype)
    latent = both.latent.astype("float32")
    unet, decoder = both.compiled("unet"), both.compiled("decoder")
    expected = np.stack([both.noise(latent, t) for t in TIMESTEPS])
    actual = np.stack([unet(latent, t) for t in TIMESTEPS])
    # fp32 differs by its last bits, which threads and fusions change; fp16 by far more
    tolerance = 6.0 if dtype == "float32" else 1.0
    assert report.components["unet"].snr_db == pytest.approx(decibels(expected, actual), abs=tolerance)
    assert report.components["unet"].max_abs_error == pytest.approx(np.abs(actual - expected).max(), rel=0.5)
    expected, actual = both.decoded(latent), decoder(latent)
    assert report.components["decoder"].snr_db == pytest.approx(decibels(expected, actual), abs=tolerance)
    assert report.components["decoder"].max_abs_error == pytest.approx(
        np.abs(actual - expected).max(), rel=0.5
    )
    pictures = both.picture(both.noise, both.decoded), both.picture(unet, decoder)
    psnr = decibels(*pictures, power=255.0**2)
    assert report.image_psnr_db is not None
    if math.isinf(psnr) or math.isinf(report.image_psnr_db):
        assert min(psnr, report.image_psnr_db) > 60
    else:
        assert report.image_psnr_db == pytest.approx(psnr, abs=2 * tolerance)


# ---- what must be noticed


def rehashed(bundle: Path) -> None:
    """Make the manifest agree with the files again, as whoever altered them on purpose would."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["files"]:
        content = (bundle / entry["path"]).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    path.write_text(json.dumps(manifest))


def altered(bundle: Path, copy: Path, component: str) -> Path:
    """A copy of `bundle` in which the last weight of `component` is doubled, hashes and all."""
    shutil.copytree(bundle, copy)
    file = copy / component / "model.onnx"
    proto = onnx.load(str(file))
    [weight] = (tensor for tensor in proto.graph.initializer if tensor.name.endswith("conv_out.weight"))
    weight.raw_data = (2 * onnx.numpy_helper.to_array(weight)).tobytes()
    data = copy / component / "model.onnx.data"
    data.unlink()
    onnx.save(proto, str(file), save_as_external_data=True, location=data.name, size_threshold=1024)
    rehashed(copy)
    return copy


@pytest.mark.parametrize("component", ["unet", "decoder"])
def test_an_altered_weight_is_noticed_by_what_it_computes(
    component: str, tiny_bundle: Path, tmp_path: Path, ldmc: Callable[..., Outcome]
) -> None:
    copy = altered(tiny_bundle, tmp_path / "altered.ldmc", component)
    outcome = ldmc("verify", copy, "--steps", 2, "--json")
    assert outcome.code == 5
    message = outcome.json["error"]["message"]
    assert f"{component}: SNR " in message and "needed 60 dB" in message
    other = "decoder" if component == "unet" else "unet"
    assert f"{other}: SNR" not in message


def test_an_altered_file_is_noticed_by_its_hash(
    tiny_bundle: Path, tmp_path: Path, ldmc: Callable[..., Outcome]
) -> None:
    copy = tmp_path / "altered.ldmc"
    shutil.copytree(tiny_bundle, copy)
    data = copy / "unet" / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    outcome = ldmc("verify", copy, "--json")
    assert outcome.code == 5
    assert "unet/model.onnx.data" in outcome.json["error"]["message"]


def other_weights(model: Path) -> str:
    state = read_state(model / "unet")
    state["conv_in.bias"] = state["conv_in.bias"] + 1e-6
    replace_state(model / "unet", state)
    return "has other weights than the bundle was made from"


def other_config(model: Path) -> str:
    path = model / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"beta_end": 0.02}))
    return "has another configuration than the bundle was made from"


@pytest.mark.parametrize("change", [other_weights, other_config])
def test_another_model_is_noticed(
    change: Callable[[Path], str], tiny_model: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    model = copy_model(tiny_model, tmp_path / "other")
    message = change(model)
    with pytest.raises(VerificationError, match=message) as caught:
        verify_bundle(tiny_bundle, model=str(model), steps=1, cache=False)
    assert caught.value.exit_code == 5
    assert "--model" in caught.value.fix


def test_the_same_model_elsewhere_is_accepted(tiny_model: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    model = copy_model(tiny_model, tmp_path / "moved")
    assert verify_bundle(tiny_bundle, model=str(model), steps=1, cache=False).ok
