"""References that a device checks its engines against: plain diffusers' outputs, the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel, VQModel

from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.reference import save_reference
from ldmc.ir import Component, Form
from tests.passes.modules import lowered


@pytest.fixture(scope="module")
def references(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Component -> its file, for inputs in fp16."""
    folder = tmp_path_factory.mktemp("references")
    request = ModelRequest(str(tiny_model))
    opened = open_model(request, print)
    files = {}
    for component in read_program(opened, request).components:
        as_fp16 = lowered(component, "fp16")
        files[component.name] = folder / f"{component.name}.npz"
        save_reference(opened, as_fp16, component.payload, 999, files[component.name])
    return files


def test_the_unet_is_called_at_two_timesteps_as_diffusers_would(
    references: dict[str, Path], tiny_model: Path
) -> None:
    found = np.load(references["unet"])
    assert found["in_0"].dtype == np.float16 and found["in_0"].shape[:2] == (2, 1)
    assert found["in_1"].tolist() == [[999], [500]]
    unet = UNet2DModel.from_pretrained(tiny_model / "unet").eval()
    for latent, timestep, output in zip(found["in_0"], found["in_1"], found["out_0"], strict=True):
        with torch.inference_mode():
            expected = unet(torch.from_numpy(latent.astype(np.float32)), torch.from_numpy(timestep)).sample
        np.testing.assert_allclose(output, expected.numpy(), atol=1e-5)


def test_the_decoder_is_called_once_as_diffusers_would(references: dict[str, Path], tiny_model: Path) -> None:
    found = np.load(references["decoder"])
    assert sorted(found) == ["in_0", "out_0"] and len(found["in_0"]) == 1
    folder = next(f for f in tiny_model.iterdir() if (f / "config.json").is_file() and f.name != "unet")
    decoder = VQModel.from_pretrained(folder).eval()
    scale = json.loads((folder / "config.json").read_text()).get("scaling_factor", 1.0)
    with torch.inference_mode():
        expected = decoder.decode(torch.from_numpy(found["in_0"][0].astype(np.float32)) / scale).sample
    np.testing.assert_allclose(found["out_0"][0], expected.numpy(), atol=1e-4)


def test_the_same_seed_gives_the_same_file(
    references: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    request = ModelRequest(str(tiny_model))
    opened = open_model(request, print)
    component = next(c for c in read_program(opened, request).components if c.name == "decoder")
    assert component.form is Form.TORCH and isinstance(component, Component)
    again = tmp_path / "decoder.npz"
    save_reference(opened, lowered(component, "fp16"), component.payload, 999, again)
    assert again.read_bytes() == references["decoder"].read_bytes()
