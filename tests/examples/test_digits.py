"""The trained example, end to end: compiled, drawn with, and looked at by a classifier of real digits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldmc.compiler.verify import verify_bundle
from ldmc.runtime import load
from tests.conftest import build_bundle

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL = EXAMPLES / "digits-ldm"
SEED = 50_000  # none that training or its record looked at
MOST_BYTES = 8 * 10**6
DRAW = f"""
import json, sys
import runtime
with runtime.load(".") as pipeline:
    image = pipeline.generate(seed={SEED}, steps=20, batch=4)
print(json.dumps({{"python": sys.version_info[:2], "shape": image.shape, "pixels": image.ravel().tolist()}}))
"""


@pytest.fixture(scope="module", params=["onnx,fold", "fp16,onnx,fold"], ids=["fp32", "fp16"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits-ldm, compiled in fp32 and in fp16."""
    return build_bundle(MODEL, tmp_path_factory.mktemp("digits") / "digits.cpu.ldmc", request.param)


def test_the_checkpoint_is_small_and_has_its_record() -> None:
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) <= MOST_BYTES
    record = json.loads((MODEL / "TRAINING.json").read_text())
    assert record["samples"]["judge"]["classes"] == 10


def test_samples_of_the_bundle_look_like_digits(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 85% of 200 samples get a probability over 0.8, and all ten classes appear."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from judge_digits import judge

    with load(str(bundle)) as pipeline:
        drawn = np.concatenate([pipeline.generate(seed=SEED + k, steps=20, batch=50) for k in range(0, 200, 50)])
    verdict = judge(drawn)
    assert verdict["samples"] == 200
    assert verdict["confident"] >= 0.85, verdict
    assert verdict["classes"] == 10, verdict
    # The judge itself: good on real digits, and not confident about everything.
    assert verdict["held_out_accuracy"] > 0.95
    assert verdict["confident_on_noise"] < 0.1


def test_compiled_and_eager_pictures_agree(bundle: Path) -> None:
    """PSNR of at least 60 dB in fp32 and 35 dB in fp16, from the same noise."""
    report = verify_bundle(bundle)
    assert report.ok, report.complaint()
    assert report.image_psnr_db is not None
    assert report.image_psnr_db >= report.needed_psnr_db


def test_the_training_script_runs(tmp_path: Path) -> None:
    """A few steps only; what it writes is a checkpoint that ldmc compiles."""
    script = EXAMPLES / "train_digits.py"
    subprocess.run([sys.executable, str(script), "--quick", "--output", str(tmp_path / "quick")], check=True)
    build_bundle(tmp_path / "quick", tmp_path / "quick.cpu.ldmc", "onnx,fold")


def test_an_opset_13_bundle_draws_in_python_3_6(tmp_path: Path) -> None:
    """The newest ONNX Runtime for Python 3.6 is 1.10, which reads opset 15 and IR 8; digits come out of it."""
    from tests.runtime.old_python import old_python
    from tests.runtime.test_standalone import _run

    python = old_python()
    bundle = build_bundle(MODEL, tmp_path / "digits.cpu.ldmc", "onnx,fold,groupnorm{form=primitive},opset{to=13}")
    done = _run(bundle, "-c", DRAW, python=python)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert there["python"] == [3, 6]
    with load(str(bundle)) as pipeline:
        here = pipeline.generate(seed=SEED, steps=20, batch=4)
    assert there["shape"] == list(here.shape)
    difference = np.abs(np.array(there["pixels"], dtype=int).reshape(here.shape) - here.astype(int))
    assert here.std() > 30  # a picture, not one grey
    assert difference.max() <= 2  # two engines round differently
