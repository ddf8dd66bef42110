"""The reference project's Figure 3: operators of the UNet before and after simplification, theirs and ours.

    python benchmarks/figure3.py [-o results/figure3.json] [--passes fp16,torchscript,onnx{opset=13},fold]

Theirs: "Diffusion Model Inference on Edge Computing Devices" (Haridas, Ahmad, Bagri; University of Toronto, 2023),
Figure 3: fp16 under autocast on a GPU, torch.onnx.export (TorchScript exporter, opset 13), onnx-simplifier. Ours: the
same path, built by `ldmc` with random weights in a process of its own, read from the reports in the bundle.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PASSES = "fp16,torchscript,onnx{opset=13},fold"
# Operator -> (original, simplified), as printed in the paper.
PAPER = {
    "Add": (201, 185),
    "Cast": (172, 156),
    "Concat": (14, 14),
    "Constant": (471, 0),
    "Conv": (67, 67),
    "Cos": (1, 1),
    "Div": (38, 0),
    "Gemm": (24, 24),
    "InstanceNormalization": (61, 61),
    "MatMul": (96, 64),
    "Mul": (126, 125),
    "Reshape": (282, 282),
    "Resize": (3, 3),
    "Shape": (61, 0),
    "Sigmoid": (47, 47),
    "Sin": (1, 1),
    "Slice": (2, 2),
    "Softmax": (16, 16),
    "Split": (0, 16),
    "Transpose": (112, 112),
    "Unsqueeze": (45, 23),
}
PAPER_MIB = (677.7, 523.2)
# Tokens and heads of the network's attentions, and how many there are of each: what their graph stores zeros for.
ATTENTIONS = ((1024, 14, 5), (256, 21, 5), (64, 28, 6))
ADDEND_MIB = sum(tokens**2 * heads * count * 2 for tokens, heads, count in ATTENTIONS) / 2**20
WHY = {
    "Add": (
        "fold merges the biases of Q, K and V as it merges their matrices: two Adds fewer in each of 16 attentions. "
        "With fold{merge_biases=false} there are 185."
    ),
    "Cast": (
        "Theirs are autocast's. Ours: two around each of the 61 normalisations kept in fp32, the timestep up and its "
        "embedding down, and one between equal types that simplification drops."
    ),
    "size, MiB": (
        f"Their graph stores the addend that the attentions' baddbmm multiplies by zero, as large as the scores: "
        f"{ADDEND_MIB:.1f} MiB. Ours is one zero. The rest of theirs is the graph itself, which is not weights."
    ),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: counts, or MiB with a decimal; (original, simplified) of each side."""

    name: str
    theirs: tuple[float, float]
    ours: tuple[float, float]

    @property
    def equal(self) -> bool:
        return self.theirs == self.ours

    def to_json(self) -> dict[str, Any]:
        why = "" if self.equal else WHY.get(self.name, "unexplained")
        return {"theirs": self.theirs, "ours": self.ours, "equal": self.equal, "why": why}


def build(passes: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Compile the preset with random weights; the bundle, and what the build says of itself."""
    bundle = folder / "figure3.ldmc"
    command = [
        "build",
        "--target",
        "cpu",
        "--random-weights",
        "--passes",
        passes,
        "-o",
        str(bundle),
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ldmc", *command], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    return bundle, json.loads(done.stdout)


def table(bundle: Path) -> list[Row]:
    """The rows, from the reports of the UNet's `onnx` and `fold` stages in `bundle`."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    stats = {}
    for stage in manifest["stages"]:
        report = json.loads((bundle / stage["report"]).read_text())
        if report["component"] == "unet":
            stats[report["stage"].partition("-")[2]] = report["after"]
    original, simplified = stats["onnx"], stats["fold"]
    names = sorted({*PAPER, *original["ops"], *simplified["ops"]})
    rows = [
        Row(name, PAPER.get(name, (0, 0)), (original["ops"].get(name, 0), simplified["ops"].get(name, 0)))
        for name in names
    ]
    sizes = tuple(round(part["bytes"] / 2**20, 1) for part in (original, simplified))
    return [*rows, Row("size, MiB", PAPER_MIB, (sizes[0], sizes[1]))]


def markdown(rows: list[Row]) -> str:
    """The table, with a star at rows that differ, and why they do."""
    lines = [
        "| op | theirs, original | theirs, simplified | ours, `onnx` | ours, `fold` |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        star = "" if row.equal else " *"
        lines.append(f"| {row.name}{star} | " + " | ".join(map(str, (*row.theirs, *row.ours))) + " |")
    lines += ["", "\\* differs:", ""]
    lines += [f"- **{row.name}**: {row.to_json()['why']}" for row in rows if not row.equal]
    return "\n".join(lines)


def main() -> None:
    """Build, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", default=PASSES)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "figure3.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ldmc-bench-") as folder:
        bundle, result = build(options.passes, Path(folder))
        rows = table(bundle)
    print(markdown(rows))
    peaks = {
        stage["stage"]: stage["peak_rss_bytes"] for stage in result["stages"] if stage["component"] == "unet"
    }
    machine = {"platform": platform.platform(), "python": platform.python_version(), "passes": options.passes}
    answer = {
        "machine": machine,
        "unet_peak_rss_bytes": peaks,
        "rows": {row.name: row.to_json() for row in rows},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
