"""Results of bench and verify as their schema has them, made by hand: every kind of level, and of what is missing."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.runtime.png import encode_png

NO_METER = "RAPL's counter is readable by root only"
SIDE = 64  # pixels of a picture


def picture(error: float = 0.0) -> np.ndarray:
    """A soft picture, uint8[64, 64, 3]; error: amplitude of what is wrong with it."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    base = np.stack(
        [0.5 + 0.4 * np.sin(6 * x + 2 * y), 0.4 + 0.4 * np.cos(5 * y), 0.5 + 0.3 * np.sin(9 * x * y)], axis=-1
    )
    noise = np.random.RandomState(0).standard_normal(base.shape)
    return np.clip(base * 255 + error * noise, 0, 255).astype(np.uint8)


def png(image: np.ndarray) -> str:
    return base64.b64encode(encode_png(image)).decode("ascii")


def times(median: float) -> dict[str, Any]:
    factors = {"p50": 1.0, "p90": 1.06, "p99": 1.09, "min": 0.97, "mean": 1.01}
    return {**{f"{key}_seconds": median * factor for key, factor in factors.items()}, "n": 5}


def level(name: str, title: str, denoise: float, decode: float, **changes: Any) -> dict[str, Any]:
    """One measured level; `changes` replace its keys."""
    total = denoise + decode
    found: dict[str, Any] = {
        "name": name,
        "title": title,
        "kind": "baseline",
        "bundle": None,
        "target": None,
        "engine": "torch",
        "pipeline": None,
        "status": "measured",
        "why": None,
        "prepare_seconds": None,
        "load_seconds": 1.21,
        "first_seconds": total * 1.8,
        "warmup_seconds": [total * 1.8],
        "denoise": times(denoise),
        "decode": times(decode),
        "total": times(total),
        "run_seconds": [[denoise * f, decode * f, total * f] for f in (1.0, 1.02, 0.98, 1.05, 1.0)],
        "peak_rss_bytes": 1_830_000_000,
        "peak_pss_bytes": 1_790_000_000,
        "private_bytes_after_load": 1_200_000_000,
        "peak_gpu_bytes": None,
        "power_watts": 61.3,
        "power_net_watts": 43.1,
        "energy_joules": total * 61.3,
        "energy_net_joules": total * 43.1,
        "speedup": 11.4 / total,
        "psnr_db": 57.2,
        "identical": False,
        "picture_png": png(picture(1.5)),
        "absent": {"peak_gpu_bytes": "this level runs on the CPU"},
    }
    return {**found, **changes}


def without_numbers(name: str, title: str, status: str, why: str) -> dict[str, Any]:
    """A level that was stopped or failed."""
    kept = ("name", "title", "kind", "bundle", "target", "engine", "pipeline", "absent", "identical")
    found = level(name, title, 1.0, 1.0)
    return {
        **dict.fromkeys(found),
        **{key: found[key] for key in kept},
        "status": status,
        "why": why,
        "run_seconds": [],
    }


def bench(**changes: Any) -> dict[str, Any]:
    """A result with a baseline, levels that were stopped and failed, and bundles."""
    levels = [
        level(
            "eager",
            "PyTorch eager, fp32",
            9.8,
            1.6,
            psnr_db=None,
            picture_png=png(picture()),
            speedup=1.0,
            absent={"psnr_db": "it is the baseline", "peak_gpu_bytes": "this level runs on the CPU"},
        ),
        without_numbers(
            "eager-fp16",
            "PyTorch eager, fp16",
            "stopped",
            "one drawing takes more than 600 s: this CPU computes fp16 in software",
        ),
        level("jit", "TorchScript, fp32", 9.1, 1.5, psnr_db=999.0, identical=True, picture_png=png(picture())),
        without_numbers(
            "jit-fp16", "TorchScript, fp16", "failed", "the process was killed (signal 9): out of memory"
        ),
        level(
            "faces.cpu.ldmc",
            "faces.cpu.ldmc (onnx,fold)",
            4.6,
            0.72,
            kind="bundle",
            bundle="faces.cpu.ldmc",
            target="cpu",
            engine="onnxruntime",
            peak_rss_bytes=1_402_000_000,
            psnr_db=69.1,
            picture_png=png(picture(0.8)),
        ),
        level(
            "faces16.cpu.ldmc",
            "faces16.cpu.ldmc (fp16,onnx,fold)",
            4.9,
            0.75,
            kind="bundle",
            bundle="faces16.cpu.ldmc",
            target="cpu",
            engine="onnxruntime",
            peak_rss_bytes=1_395_000_000,
            psnr_db=41.7,
            picture_png=png(picture(4.0)),
        ),
    ]
    return {
        "kind": "ldmc-bench",
        "schema_version": 1,
        "measured_at": "2026-11-22T17:00:00Z",
        "command": "ldmc bench faces.cpu.ldmc faces16.cpu.ldmc --baseline eager,eager-fp16,jit,jit-fp16 --steps 20",
        "device": "AMD EPYC 9R14, 2 cores",
        "machine": {
            "system": "Linux 6.1 x86_64",
            "cpu": "AMD EPYC 9R14",
            "cores": 2,
            "memory_bytes": 25_000_000_000,
            "gpu": None,
        },
        "packages": {
            "ldmc": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "onnxruntime": "1.31.1",
            "numpy": "2.4.6",
        },
        "model": {"name": "ldm-celebahq-256", "weights": "random, seed 0", "parameters": 307_078_510},
        "settings": {
            "steps": 20,
            "runs": 5,
            "warmup": 1,
            "batch": 1,
            "threads": None,
            "seed": 0,
            "torch_device": "cpu",
        },
        "power": {"meter": "RAPL, package-0", "absent": None, "idle_watts": 18.2},
        "levels": levels,
        **changes,
    }


def bench_without_power() -> dict[str, Any]:
    """The same on a machine whose power cannot be read."""
    found = copy.deepcopy(bench())
    found["power"] = {"meter": None, "absent": NO_METER, "idle_watts": None}
    for one in found["levels"]:
        for key in ("power_watts", "power_net_watts", "energy_joules", "energy_net_joules"):
            one[key] = None
            one["absent"][key] = NO_METER
    return found


def verify() -> dict[str, Any]:
    """A verification with stages and blocks: one stage without a number, one block that departs."""
    stages = [
        {
            "component": c,
            "stage": f"{n:02d}-{p}",
            "pass": None if p == "frontend" else p,
            "form": "onnx",
            "snr_db": snr,
            "needed_db": 30.0,
            "added_db": added,
            "max_abs_error": error,
            "why": why,
        }
        for c, n, p, snr, added, error, why in (
            ("unet", 0, "frontend", 999.0, -999.0, 0.0, None),
            ("unet", 1, "fp16", 52.4, -52.4, 0.0041, None),
            ("unet", 2, "onnx", 52.1, -64.0, 0.0043, None),
            ("unet", 3, "fold", 51.9, -71.5, 0.0044, None),
            ("unet", 4, "trt", None, None, None, "it waits for the device"),
            ("decoder", 1, "fp16", 999.0, -999.0, 0.0, None),
            ("decoder", 2, "onnx", 61.8, -61.8, 0.0021, None),
        )
    ]
    names = [f"down_blocks.{i}.resnets.{j}" for i in range(4) for j in range(2)] + ["mid_block.attentions.0"]
    names += [f"up_blocks.{i}.resnets.{j}" for i in range(4) for j in range(3)]
    blocks = [
        {
            "component": "unet",
            "block": name,
            "is_level": False,
            "snr_db": 72 - index if index < 8 else 33 - 0.2 * index,
            "local_snr_db": 24.0 if index == 8 else 74.0 - index % 5,
            "needed_db": 45.0,
            "max_abs_error": 0.001 * (index + 1),
            "departs": index == 8,
            "why": None,
        }
        for index, name in enumerate(names)
    ]
    components = {
        "unet": {"snr_db": 51.9, "max_abs_error": 0.0044},
        "decoder": {"snr_db": 61.8, "max_abs_error": 0.0021},
    }
    return {
        "ok": True,
        "components": components,
        "image_psnr_db": 48.3,
        "overflow": "",
        "fix": "",
        "stages": stages,
        "blocks": blocks,
    }


def blocks(component: str, values: list[tuple[float | None, float | None]], name: str = "") -> list[dict[str, Any]]:
    """Blocks with these values: up to here, and by itself."""
    return [
        {
            "component": component,
            "block": name or f"up_blocks.{index}.attentions.1",
            "snr_db": snr,
            "local_snr_db": local,
            "max_abs_error": 0.001,
            "departs": False,
            "why": None,
        }
        for index, (snr, local) in enumerate(values)
    ]


def hostile() -> dict[str, Any]:
    """Blocks that leave little room for a name: each component is a chart."""
    slope = [(90.0 - i, 95.0 + i % 3) for i in range(24)]
    random = np.random.RandomState(0)
    shapes: dict[str, list[Any]] = {
        "equal": [(60.0, 60.0)] * 12,
        "two": [(60.0, 60.0), (61.0, 61.0)],
        "two hundred": random.uniform(5, 150, (200, 2)).tolist(),
        "zigzag": [(140.0, 1.0) if i % 2 else (1.0, 140.0) for i in range(200)],
        "worst first": [(20.0, 5.0), *slope],
        "worst last": [*slope, (20.0, 5.0)],
        "worst amid": [*slope[:12], (20.0, 5.0), *slope[12:]],
        "some identical": [(999.0, 999.0) if i % 3 else (40.0 + i, 60.0 - i) for i in range(20)],
        "below zero": [(-3.0 - i, -12.0 + i % 4) for i in range(10)],
        "some without": [(60.0, None if i else 80.0) for i in range(9)],
        "real": [(109, 109), (128, 135), (127, 139), (119, 127), (130, 139), (117, 122), (118, 129), (131, 132)],
    }
    found = [one for component, values in shapes.items() for one in blocks(component, values)]
    found += blocks("long name", [(50.0 + 10 * (i % 2), 70.0 - 10 * (i % 2)) for i in range(9)], "W" * 60)
    return {"ok": True, "blocks": found}


def save(data: dict[str, Any], file: Path) -> Path:
    file.write_text(json.dumps(data), encoding="utf-8")
    return file
