"""The whole manifest: every key that the compiler's own commands read is there, or it is said which is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.errors import BundleError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The manifest of the tiny bundle, alone."""
    (tmp_path / "x.ldmc").mkdir()
    shutil.copyfile(tiny_bundle / "manifest.json", tmp_path / "x.ldmc" / "manifest.json")
    return tmp_path / "x.ldmc"


def test_what_a_build_writes_is_whole(bundle: Path) -> None:
    assert read_whole_manifest(bundle).name == "tiny-ldm"


@pytest.mark.parametrize(
    "path",
    [
        "schema_version", "name", "source", "source.model", "source.config_sha256", "source.weights",
        "source.weights.seed", "requirements", "requirements.packages", "pipeline", "pipeline.decoder",
        "components.unet.stats", "components.unet.stats.macs", "components.decoder.parts", "files", "scheduler",
    ],
)  # fmt: skip
def test_a_missing_key_is_named(bundle: Path, path: str) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    part: Any = manifest
    *parents, last = path.split(".")
    for key in parents:
        part = part[key]
    del part[last]
    file.write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as caught:
        read_whole_manifest(bundle)
    assert path in caught.value.message
    assert str(file) in caught.value.message
    assert "ldmc build" in caught.value.fix
