"""The reference project's levels on this machine's NVIDIA GPU, and AOTInductor: a table, and results/*.json.

    python benchmarks/gpu.py                    the full model, random weights, 20 steps: any CUDA GPU with PyTorch
    python benchmarks/gpu.py --onnx-trt         also TensorRT engines (target cuda), where TensorRT is installed
    python benchmarks/gpu.py --device cpu --model examples/digits-ldm --aoti aoti     the same code without a GPU

Levels: eager fp32 (the baseline), eager fp16, TorchScript in both, and bundles of the pass `aoti` (torch.export,
AOTInductor, CUDA graphs). All draw in turn from the same noise, each in a process of its own. Power and energy are of
the card, by NVML. results/gpu-NAME.json is what `ldmc compare` and `ldmc report` read.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASELINES = "eager,eager-fp16,jit-fp16,jit"  # the order of the reference project's table
PAPER = "paper:rtx-3070"


def main() -> int:
    """Returns the exit code: 1 where there is no GPU, or a build or the bench fails."""
    options = _options()
    why = _why_not(options.device)
    if why:
        print(f"error: {why}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ldmc-gpu-") as folder:
        bundles = [_build(passes, options, Path(folder)) for passes in _pipelines(options)]
        file = Path(folder) / "result.json"
        _ldmc(
            "bench", *bundles, "--baseline", BASELINES, "--device", options.device, "--steps", options.steps,
            "--runs", options.runs, "--warmup", options.warmup, "--no-report", "-o", file,
        )
        result = json.loads(file.read_text("utf-8"))
    name = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
    output = options.output or ROOT / "results" / f"gpu-{name}.json"
    for level in result["levels"]:
        level["picture_png"] = None  # of random weights, or hundreds of kilobytes: not for the repository
        level["absent"]["picture_png"] = "left out of the results file"
    output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(table(result))
    print(f"wrote {output}")
    return 0


def table(result: dict[str, Any]) -> str:
    """Markdown: each level beside the reference project's row of that name."""
    from ldmc.compiler.levels.compare import peak_bytes
    from ldmc.compiler.levels.read import read_result

    paper = {level["name"]: level for level in read_result(PAPER)["levels"]}
    lines = [
        f"{result['device']}, PyTorch {result['packages']['torch']}, {result['settings']['steps']} steps",
        "",
        "| level | latency s | denoise s | decode s | speedup | peak MiB | power W | energy J | PSNR dB "
        "| RTX 3070 in the paper: latency s | speedup |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for level in result["levels"]:
        theirs = paper.get(level["name"], {})
        peak = peak_bytes(level)
        cells = [
            *(_figure((level[phase] or {}).get("p50_seconds"), ".4f") for phase in ("total", "denoise", "decode")),
            _figure(level["speedup"], ".2f"),
            _figure(peak and peak / 2**20, ".0f"),
            _figure(level["power_watts"], ".1f"),
            _figure(level["energy_joules"], ".2f"),
            "equal" if level["identical"] else _figure(level["psnr_db"], ".1f"),
            _figure((theirs.get("total") or {}).get("p50_seconds"), ".3f"),
            _figure(theirs.get("speedup"), ".2f"),
        ]
        lines.append(f"| {level['name']} | " + " | ".join(cells) + " |")
    stopped = [f"- {level['name']}: {level['why']}" for level in result["levels"] if level["why"]]
    return "\n".join([*lines, "", *stopped])


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint (default: ldm-celebahq-256 with random weights)")
    parser.add_argument("--device", default="cuda", help="PyTorch's (default: cuda)")
    parser.add_argument("--aoti", nargs="+", default=["fp16,aoti", "aoti"], help="pipelines to build with aoti")
    parser.add_argument("--onnx-trt", action="store_true", help="also fp16,onnx,trt, through this machine's TensorRT")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=10, help="as the reference project (default: 10)")
    parser.add_argument("--warmup", type=int, default=3, help="TorchScript needs several (default: 3)")
    parser.add_argument("-o", "--output", type=Path, help="results file (default: results/gpu-NAME.json)")
    return parser.parse_args()


def _why_not(device: str) -> str:
    """Why PyTorch cannot compute on `device`; nothing where it can."""
    import torch

    if not device.startswith("cuda") or torch.cuda.is_available():
        return ""
    built = "is built without CUDA" if torch.version.cuda is None else "finds no GPU or no driver for it"
    return f"PyTorch {torch.__version__} {built}; this benchmark needs an NVIDIA GPU (--device cpu runs it on the CPU)"


def _pipelines(options: argparse.Namespace) -> list[str]:
    return [*options.aoti, *(["fp16,onnx,trt"] if options.onnx_trt else [])]


def _build(passes: str, options: argparse.Namespace, folder: Path) -> Path:
    """A bundle of `passes`, named after them."""
    bundle = folder / f"{passes.replace(',', '-')}.ldmc"
    model = ["--model", options.model] if options.model else ["--random-weights"]
    target = "cuda" if options.device.startswith("cuda") else "cpu"
    _ldmc("build", "--target", target, "--passes", passes, *model, "--no-report", "-o", bundle)
    return bundle


def _ldmc(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "ldmc", *map(str, arguments)], check=True)


if __name__ == "__main__":
    sys.exit(main())
