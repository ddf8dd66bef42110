"""Does compile memory grow with the parameters? Three UNets of one family of shapes, random weights.

    python benchmarks/compile_memory.py [--passes fp16,onnx,fold] [-o results/compile_memory.json]

Each model is compiled by `ldmc build` in a process of its own; the table shows what that process
reported: most memory of any UNet stage, and seconds of the UNet's stages together. No bundle is made of
Stable Diffusion, which nothing draws with yet: its UNet is lowered and written in the same way.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PRESET = ROOT / "ldmc" / "compiler" / "presets" / "ldm-celebahq-256"
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": False}
# The configuration that Stable Diffusion 1.5 was published with.
SD15_UNET = {
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "sample_size": 64,
}
SD15_VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}


_PIPELINES = {"UNet2DModel": "LDMPipeline", "UNet2DConditionModel": "StableDiffusionPipeline"}


def write_models(folder: Path) -> dict[str, Path]:
    """Configurations without weights: a narrow copy of the preset, the preset, Stable Diffusion 1.5."""
    unet = json.loads((PRESET / "unet" / "config.json").read_text())
    vqvae = json.loads((PRESET / "vqvae" / "config.json").read_text())
    narrow = {**unet, "block_out_channels": [96, 128, 224, 288]}
    return {
        "ldm, narrow": _write(folder / "narrow", narrow, "vqvae", vqvae),
        "ldm-celebahq-256": _write(folder / "celebahq", unet, "vqvae", vqvae),
        "stable diffusion 1.5": _write(folder / "sd15", SD15_UNET, "vae", SD15_VAE),
    }


def _write(folder: Path, unet: dict[str, Any], decoder_folder: str, decoder: dict[str, Any]) -> Path:
    files = {
        "model_index.json": {
            "_class_name": _PIPELINES[unet["_class_name"]],
            decoder_folder: ["diffusers", decoder["_class_name"]],
        },
        "unet/config.json": unet,
        f"{decoder_folder}/config.json": decoder,
        "scheduler/scheduler_config.json": SCHEDULER,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def compile_model(model: Path, passes: str) -> dict[str, Any]:
    """Build `model` with random weights in a new process; its UNet's figures."""
    output = model.parent / f"{model.name}.ldmc"
    command = ["build", "--target", "cpu", "--model", model, "--random-weights", "--passes", passes, "-o", output]
    done = subprocess.run(
        [sys.executable, "-m", "ldmc", *map(str, command), "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    result = json.loads(done.stdout)
    stages = [stage for stage in result["stages"] if stage["component"] == "unet"]
    work = [*stages, result["write"]["unet"]]
    return {
        "parameters": stages[0]["params_before"],
        "weight_bytes": stages[-1]["bytes_after"],
        "peak_rss_bytes": max(stage["peak_rss_bytes"] for stage in work),
        "lowering_peak_rss_bytes": max(stage["peak_rss_bytes"] for stage in stages),
        "seconds": sum(stage["seconds"] for stage in work),
        "whole_build_seconds": result["seconds"],
        "whole_build_peak_rss_bytes": result["peak_rss_bytes"],
    }


def compile_unet(model: Path, passes: str) -> dict[str, Any]:
    """Lower and write the UNet of `model` in a new process, as a build would."""
    command = [sys.executable, __file__, "--passes", passes, "--unet", str(model)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def lower_unet(model: Path, passes: str) -> dict[str, Any]:
    """What that process does."""
    from ldmc.artifacts.graphs import save, store
    from ldmc.compiler.collection import less_garbage_collection
    from ldmc.compiler.frontend import ModelRequest, open_model, read_program
    from ldmc.compiler.lower import Lowering
    from ldmc.compiler.meter import measured
    from ldmc.compiler.pipeline import checked_pipeline
    from ldmc.targets.reader import load_target

    request, target = ModelRequest(str(model), random_seed=0), load_target("cpu")
    with tempfile.TemporaryDirectory() as scratch, less_garbage_collection():
        unet = read_program(open_model(request, print), request).components[0]
        lowering = Lowering(unet, target, Path(scratch))
        for step in checked_pipeline(passes, target):
            lowering.run(step)
        with measured() as writing:
            graph, folder = lowering.component.payload, Path(scratch)
            save(graph, store([graph], folder, "model.onnx.data", lambda _: None), folder / "model.onnx")
    records = lowering.records
    return {
        "parameters": records[0].before.stats.params,
        "weight_bytes": records[-1].after.stats.bytes,
        "peak_rss_bytes": max(*(record.peak_rss_bytes for record in records), writing.peak_rss_bytes),
        "lowering_peak_rss_bytes": max(record.peak_rss_bytes for record in records),
        "seconds": sum(record.seconds for record in records) + writing.seconds,
    }


def main() -> None:
    """Compile each, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", default="fp16,onnx,fold")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "compile_memory.json")
    parser.add_argument("--unet", type=Path, help="lower the UNet of this model in this process, and print its figures")
    options = parser.parse_args()
    if options.unet:
        print(json.dumps(lower_unet(options.unet, options.passes)))
        return
    rows: dict[str, Any] = {}
    print(f"{'model':22}{'params M':>10}{'weights MiB':>13}{'peak RSS MiB':>14}{'UNet s':>8}{'build s':>9}")
    with tempfile.TemporaryDirectory(prefix="ldmc-bench-") as folder:
        for name, model in write_models(Path(folder)).items():
            is_drawable = (model / "vqvae").is_dir()
            row = rows[name] = (compile_model if is_drawable else compile_unet)(model, options.passes)
            whole = f"{row['whole_build_seconds']:9.1f}" if is_drawable else f"{'-':>9}"
            print(
                f"{name:22}{row['parameters'] / 1e6:10.1f}{row['weight_bytes'] / 2**20:13.0f}"
                f"{row['peak_rss_bytes'] / 2**20:14.0f}{row['seconds']:8.1f}{whole}",
                flush=True,
            )
    machine = {"platform": platform.platform(), "python": platform.python_version(), "passes": options.passes}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine, "models": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
