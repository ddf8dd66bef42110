"""Published UNets of Stable Diffusion and of its smaller kin are planned for every target: shapes alone, no weight.

Each is exported once, in half precision, and folded; every target then repairs and cuts a copy of that graph as a build
does, and plans its memory. What a target cannot hold is over its budget, with figures; nothing else keeps one from it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ldmc.compiler.collection import less_garbage_collection
from ldmc.compiler.lower import Lowering
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.targets.reader import load_target, target_names
from tests.compiler.unets import SHARED, planned, unet

PUBLISHED = Path(__file__).parent / "published"
# name -> parameters, as its weight file has; the larger two take minutes.
PARAMETERS = {
    "bk-sdm-tiny": 323_384_964,
    "stable-diffusion-v1-5": 859_520_964,
    "stable-diffusion-2-1": 865_910_724,
    "ssd-1b": 1_331_334_404,
    "stable-diffusion-xl-base-1.0": 2_567_463_684,
}
FULL = list(PARAMETERS)[1:]
CASES = [pytest.param(name, marks=pytest.mark.full if name in FULL else ()) for name in PARAMETERS]


@pytest.mark.parametrize("name", CASES)
def test_every_target_plans_a_published_unet(name: str, tmp_path: Path) -> None:
    config = json.loads((PUBLISHED / f"{name}.json").read_text())["unet"]
    lowering = Lowering(unet(config), load_target("cpu"), tmp_path)
    assert sum(p.numel() for p in lowering.component.payload.module.parameters()) == PARAMETERS[name]
    with less_garbage_collection():
        for step in checked_pipeline(SHARED, lowering.target):
            lowering.run(step)
        assert lowering.stats.bytes >= 2 * PARAMETERS[name] - 2**20  # half precision; nothing was dropped
        plans = {target: planned(lowering.component, target, tmp_path / target) for target in target_names()}
    for found in plans.values():
        [component] = found.components
        assert component.weights_bytes >= 2 * PARAMETERS[name]
        assert found.run.peak_bytes > component.weights_bytes
        assert found.fits == (found.complaint() == "")
