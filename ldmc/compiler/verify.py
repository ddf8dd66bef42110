"""Comparing a bundle with PyTorch: same weights, same noise, eager fp32, plain diffusers.

files     every size and SHA-256
unet      one call at several timesteps            SNR and largest error
decoder   one call                                  SNR and largest error
image     the whole loop, 20 steps by default       PSNR
fp16      no value of the graph leaves its range
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.compiler.frontend import Opened
from ldmc.compiler.manifest import NEEDED_SNR_DB
from ldmc.compiler.original import open_original
from ldmc.compiler.overflow import Overflow, cure, find_overflow, find_overflow_in_parts
from ldmc.compiler.pipeline import recorded_pipeline, to_one_graph
from ldmc.compiler.runnable import check_bundle, check_here, open_here
from ldmc.ir import Network, Program
from ldmc.passes.fp16 import Fp16
from ldmc.runtime.leftovers import temporary_folder
from ldmc.runtime.manifest import Manifest
from ldmc.runtime.schedulers import sampler_of
from ldmc.targets.reader import load_target, target_names

# What the image must reach by dtype: PSNR in dB. Of components see `manifest`.
NEEDED_PSNR_DB = {"float32": 60.0, "float16": 35.0}
_MOST = 999.0  # stands for infinity in JSON
_TIMESTEPS = (1.0, 0.5, 0.0)  # of the schedule: pure noise, half way, almost clean


@dataclass(frozen=True)
class ComponentResult:
    """Agreement of one component. snr_db: signal power over error power. needed_db: for its dtype."""

    snr_db: float
    max_abs_error: float
    needed_db: float

    @property
    def ok(self) -> bool:
        return self.snr_db >= self.needed_db


@dataclass(frozen=True)
class VerifyReport:
    """Outcome of a verification."""

    components: dict[str, ComponentResult]
    image_psnr_db: float | None
    needed_psnr_db: float
    overflow: str = ""
    remedy: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is within its tolerance."""
        return not self.complaint()

    def complaint(self) -> str:
        """What is wrong, or nothing."""
        if self.overflow:
            return self.overflow
        wrong = [
            f"{name}: SNR {result.snr_db:.1f} dB, needed {result.needed_db:.0f} dB"
            for name, result in self.components.items()
            if not result.ok
        ]
        if self.image_psnr_db is not None and not self.image_psnr_db >= self.needed_psnr_db:
            wrong.append(f"image: PSNR {self.image_psnr_db:.1f} dB, needed {self.needed_psnr_db:.0f} dB")
        return "; ".join(wrong)

    def fix(self) -> str:
        """What to do about the complaint."""
        return (
            self.remedy
            or "compare stages with `ldmc diff`, or build with fewer passes to find the one that departs"
        )

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc verify --json`."""
        return {
            "ok": self.ok,
            "components": {
                name: {"snr_db": bounded(r.snr_db), "max_abs_error": bounded(r.max_abs_error)}
                for name, r in self.components.items()
            },
            "image_psnr_db": bounded(self.image_psnr_db),
            "overflow": self.overflow,
            "fix": self.remedy,
        }


def bounded(value: float | None) -> float | None:
    """`value` as JSON can say it, which has no infinity: at most 999 dB where both sides are equal; None for NaN."""
    return None if value is None or math.isnan(value) else max(-_MOST, min(_MOST, value))


def verify_bundle(
    bundle: Path, *, model: str | None = None, steps: int = 20, cache: bool = True, trust: bool = False
) -> VerifyReport:
    """Verify `bundle` against the checkpoint it was made from.

    model: where that checkpoint is, if not where the manifest says.
    cache: whether the runtime may keep its optimised graph in the bundle.
    trust: whether native code and scripts that were not made here may run; see `ldmc.runtime.load`.

    Raises:
        BundleError: the manifest cannot be read, or its engines do not run here. BundleProblem: files are altered.
        InputProblem: the model was not trained for so many steps.
        ModelError: the checkpoint cannot be read. VerificationError: it is another one.
    """
    manifest = read_whole_manifest(bundle)
    sampler_of(manifest.scheduler).check(steps)
    check_bundle(manifest, trust)
    check_here(manifest)
    opened, program = open_original(manifest.data["source"], model)
    dtype = manifest.components["unet"].inputs[0].dtype
    latent = _noise(manifest, dtype)
    overflow, remedy = _overflow(bundle, manifest, program, latent)
    if overflow:
        return VerifyReport({}, None, NEEDED_PSNR_DB[dtype], overflow, remedy)
    with open_here(bundle, manifest, cache, trust) as pipeline:
        components, image = _compare(opened, program, manifest, pipeline, latent, steps)
        remarks = tuple(pipeline.remarks)
    return VerifyReport(components, image, NEEDED_PSNR_DB[dtype], remarks=remarks)


def snr_db(reference: Any, actual: Any) -> float:
    """Power of `reference` over power of the error, in dB; infinite where they are equal."""
    error = np.square(np.asarray(actual, np.float64) - np.asarray(reference, np.float64)).sum()
    return _decibels(np.square(np.asarray(reference, np.float64)).sum(), error)


def psnr_db(reference: Any, actual: Any, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in the same range; infinite where they are equal."""
    error = np.square(np.asarray(actual, np.float64) - np.asarray(reference, np.float64)).mean()
    return _decibels(peak * peak, error)


def _decibels(signal: float, error: float) -> float:
    if error == 0:
        return math.inf
    return float(10 * np.log10(signal / error)) if math.isfinite(error) and signal > 0 else -math.inf


def _noise(manifest: Manifest, dtype: str) -> Any:
    """Gaussian noise that both sides can represent, so that rounding of the input is not counted as error."""
    shape = manifest.components["unet"].inputs[0].shape
    return np.random.RandomState(0).standard_normal(shape).astype(dtype).astype(np.float32)


def _compare(
    opened: Opened, program: Program, manifest: Manifest, pipeline: Any, latent: Any, steps: int
) -> tuple[dict[str, ComponentResult], float]:
    """Run both sides; the reference's components are loaded one at a time."""
    from ldmc.compiler.eager import denoise, eager_scheduler

    scheduler = eager_scheduler(opened.checkpoint)
    last = scheduler.config.num_train_timesteps - 1
    unet = _reference(opened, program, "unet")
    calls = [_tensor(round(fraction * last)) for fraction in _TIMESTEPS]
    expected = np.concatenate([unet(_tensor(latent), t).numpy() for t in calls])
    actual = np.concatenate([pipeline.unet(latent, int(t)) for t in calls])
    results = {"unet": _result(manifest, "unet", expected, actual)}
    denoised = denoise(scheduler, unet, _tensor(latent), steps)
    del unet
    decoder = _reference(opened, program, "decoder")
    expected = decoder(_tensor(latent)).numpy()
    results["decoder"] = _result(manifest, "decoder", expected, pipeline.decode(latent))
    image = decoder(denoised).numpy()
    wanted = np.rint(np.clip((image + 1) * 127.5, 0, 255))[0].transpose(1, 2, 0)
    picture = pipeline.generate(steps=steps, latent=latent)
    return results, psnr_db(wanted, picture, peak=255.0)


def _result(manifest: Manifest, name: str, expected: Any, actual: Any) -> ComponentResult:
    worst = float(np.abs(actual.astype(np.float64) - expected).max())
    return ComponentResult(
        snr_db(expected, actual), worst, NEEDED_SNR_DB[manifest.components[name].inputs[0].dtype]
    )


def _reference(opened: Opened, program: Program, name: str) -> Callable[..., Any]:
    """Component `name` in PyTorch eager fp32, as a function of a latent and, for the UNet, a timestep."""
    import torch

    from ldmc.compiler.eager import eager_component

    weights = next(c.payload.weights for c in program.components if c.name == name)
    module = eager_component(opened.checkpoint, name, weights)

    def call(latent: Any, t: Any = None) -> Any:
        inputs = [latent] if t is None else [latent, t.to(torch.int64).expand(len(latent))]
        with torch.inference_mode():
            return module(*inputs)

    return call


def _tensor(value: Any) -> Any:
    import torch

    return torch.as_tensor(value)


def _overflow(bundle: Path, manifest: Manifest, program: Program, latent: Any) -> tuple[str, str]:
    """What overflows and the `keep=` that cures it; two empty strings where nothing does."""
    for component in program.components:
        entry = manifest.components[component.name]
        # An engine cannot be looked into; the graph it is built from can, where the bundle carries it.
        files = [
            bundle / (part.source or part.file) for part in entry.parts if part.source or part.form == "onnx"
        ]
        if entry.inputs[0].dtype != "float16" or len(files) < len(entry.parts):
            continue
        inputs = [_input(spec, latent, program) for spec in entry.inputs]
        found = find_overflow_in_parts(component.name, files, dict(zip((s.name for s in entry.inputs), inputs)))
        if found is None:
            continue
        text = manifest.data["pipeline"][component.name]
        keep = _cure(component.name, program, text, manifest.target, found, inputs)
        said = f"{found.component}: node {found.node} overflows fp16 (Inf or NaN from finite inputs)"
        if keep is None:
            return said, "build without fp16: no set of fp32 islands that was tried keeps it in range"
        return said, f"keep its block in fp32, with which nothing overflows: fp16{{keep=[{','.join(keep)}]}}"
    return "", ""


def _input(spec: Any, latent: Any, program: Program) -> Any:
    """A value for one input: the latent, or the first timestep of the schedule."""
    if np.dtype(spec.dtype).kind == "f":
        return np.broadcast_to(latent, spec.shape).astype(spec.dtype)
    return np.full(spec.shape, program.scheduler["num_train_timesteps"] - 1, dtype=spec.dtype)


def _cure(
    name: str, program: Program, text: str, target_name: str, found: Overflow, inputs: list[Any]
) -> tuple[str, ...] | None:
    """Compile the component again with more and more of it in fp32, until nothing overflows."""
    import onnx_ir as ir

    from ldmc.compiler.lower import Lowering

    target = load_target(target_name if target_name in target_names() else "cpu")  # a board's file may be gone
    component = next(c for c in program.components if c.name == name)
    assert isinstance(component.payload, Network)
    steps = to_one_graph(recorded_pipeline(text, None))
    fp16 = next((step for step in steps if isinstance(step, Fp16)), None)
    if fp16 is None:
        return None

    def retry(keep: tuple[str, ...]) -> Overflow | None:
        changed = [replace(step, keep=keep) if isinstance(step, Fp16) else step for step in steps]
        with temporary_folder("ldmc-") as folder:
            lowering = Lowering(component, target, Path(folder))
            for step in changed:
                lowering.run(step)
            file = Path(folder) / "model.onnx"
            ir.save(lowering.component.payload, file, external_data="model.onnx.data")
            return find_overflow(name, file, inputs)

    return cure(found, fp16.kept(component, target), retry)
