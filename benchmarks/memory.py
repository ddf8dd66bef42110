"""Predicted against measured memory: the table of the README, as markdown, and results/memory.json.

    python benchmarks/memory.py                the full model, digits, TensorRT for RTX if it is installed: about 10 min
    python benchmarks/memory.py --quick        digits only

ONNX Runtime is measured here, each figure in a fresh process. TensorRT for RTX reports its own. PyTorch's eager rows
are the reference project's medians on its two GPUs, which no one can measure here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldmc.compiler.budget.eager import eager_run
from ldmc.compiler.budget.engines import plan_component, private_bytes, rtx_builder_bytes
from ldmc.compiler.budget.graphs import Lowered, lower_request, part_graphs
from ldmc.compiler.budget.planner import plan
from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.spec import parse_pipeline
from ldmc.passes.base import Context
from ldmc.passes.engines import worker
from ldmc.targets.reader import load_target
from ldmc.targets.target import MIB

ROOT = Path(__file__).resolve().parent.parent
DIGITS = str(ROOT / "examples" / "digits-ldm")
# Of the whole pipeline: 274,056,163 in the UNet, 55,322,782 in the VQ model, whose encoder drawing does not use.
PIPELINE_PARAMETERS = 329_378_945
# Medians of the reference project's CSVs: MB as nvidia-smi and tegrastats say it, which is MiB; less the value before
# the model is loaded.
PAPER_MIB = {("rtx-3070", 4): 2028, ("rtx-3070", 2): 1189, ("jetson-nano", 4): 2456, ("jetson-nano", 2): 1262}
BOUNDS = {"peak": 0.15, "private": 0.15, "weights": 0.02, "activations": 0.25, "builder": 0.15}


@dataclass(frozen=True)
class Row:
    """One figure, predicted and measured, in bytes. bound: how far apart they may be, as a share of the measured."""

    model: str
    engine: str
    what: str
    kind: str
    predicted_bytes: int
    measured_bytes: int

    @property
    def error(self) -> float:
        return self.predicted_bytes / self.measured_bytes - 1

    @property
    def bound(self) -> float:
        return BOUNDS[self.kind]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "error": self.error, "bound": self.bound}

    def __str__(self) -> str:
        sizes = f"{self.predicted_bytes / MIB:.1f} | {self.measured_bytes / MIB:.1f}"
        return f"| {self.model} | {self.engine} | {self.what}, {self.kind} | {sizes} | {self.error:+.1%} |"


def onnxruntime_rows(title: str, model: str | None, passes: str, folder: Path) -> Iterator[Row]:
    """Build for the cpu target, and run each component and the picture in a process of its own."""
    bundle = folder / "cpu.ldmc"
    arguments = [
        "build",
        "--target",
        "cpu",
        "--passes",
        passes,
        "--random-weights",
        "-o",
        str(bundle),
        "--force",
    ]
    _ldmc([*arguments, *(["--model", model] if model else [])])
    target = load_target("cpu")
    lowered = lower_request(ModelRequest(model), passes, target)
    predicted = plan(target, {component.name: component.parts for component in lowered})
    engine = "ONNX Runtime"
    runs = {component.name: component.run for component in predicted.components} | {"picture": predicted.run}
    for component in predicted.components:
        probe(bundle, component.name)
    for what, run in runs.items():
        measured = probe(bundle, what)
        yield Row(title, engine, what, "peak", run.peak_bytes, measured["peak_rss_bytes"])
        yield Row(title, engine, what, "private", private_bytes(run), measured["peak_private_bytes"])


def probe(bundle: Path, what: str) -> dict[str, int]:
    """Marks of one run in a process of its own; the first run of a bundle optimises its graphs, and takes more."""
    marks: dict[str, int] = json.loads(
        _run([sys.executable, str(ROOT / "benchmarks" / "memory_probe.py"), str(bundle), what])
    )
    return marks


def rtx_rows(title: str, model: str | None, passes: str, folder: Path) -> Iterator[Row]:
    """Build engines here, and compare with what their builder reports."""
    target = load_target("rtx-3070")
    request = ModelRequest(model, random_seed=0)
    program = read_program(open_model(request, print), request)
    for component in program.components:
        for placed in parse_pipeline(passes):
            component = placed.pass_.run(component, Context(target))
        predicted = plan_component(component.name, passes, part_graphs(component), target)
        place = folder / f"{passes.replace(',', '-')}-{component.name}"
        place.mkdir()
        report = worker.build(component, place, {"module": "tensorrt_rtx", "sm": "86"}).report
        activations = predicted.timeline.peak_bytes + predicted.run.workspace_bytes
        engine, name = "TensorRT for RTX", component.name
        yield Row(title, engine, name, "weights", predicted.weights_bytes, report["weights_bytes"])
        yield Row(title, engine, name, "activations", activations, report["activation_bytes"])
        builder = rtx_builder_bytes(predicted.weights_bytes)
        yield Row(title, engine, name, "builder", builder, report["peak_rss_bytes"])


def eager_rows() -> Iterator[Row]:
    """The reference project's first two rows on both of its GPUs."""
    lowered: tuple[Lowered, ...] = lower_request(ModelRequest(), "onnx,fold", load_target("cpu"))
    graphs = [component.whole for component in lowered]
    for (name, float_bytes), paper_mib in PAPER_MIB.items():
        run = eager_run(graphs, PIPELINE_PARAMETERS, float_bytes, load_target(name))
        title = f"ldm-celebahq-256, fp{8 * float_bytes}"
        yield Row(
            title, f"PyTorch eager, {name}", "the paper's median", "peak", run.peak_bytes, paper_mib * MIB
        )


def rows(*, quick: bool) -> Iterator[Row]:
    """All of them, as they are measured."""
    has_rtx = importlib.util.find_spec("tensorrt_rtx") is not None
    with tempfile.TemporaryDirectory(prefix="ldmc-bench-") as name:
        folder = Path(name)
        yield from onnxruntime_rows("digits, fp32", DIGITS, "onnx,fold", folder)
        yield from onnxruntime_rows("digits, fp32, 3 parts", DIGITS, "onnx,fold,partition{parts=3}", folder)
        if quick:
            return
        yield from onnxruntime_rows("ldm-celebahq-256, fp32", None, "onnx,fold", folder)
        parts = "onnx,fold,partition{parts=3}"
        yield from onnxruntime_rows("ldm-celebahq-256, fp32, 3 parts", None, parts, folder)
        for title, passes in (("fp16", "fp16,onnx,fold"), ("fp32", "onnx,fold")) if has_rtx else ():
            yield from rtx_rows(f"ldm-celebahq-256, {title}", None, passes, folder)
    yield from eager_rows()


def _ldmc(arguments: list[str]) -> None:
    _run([sys.executable, "-m", "ldmc", *arguments])


def _run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    return done.stdout


def main() -> None:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="digits only")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "memory.json")
    options = parser.parse_args()
    print("| model | engine | what | predicted MiB | measured MiB | error |\n|---|---|---|---:|---:|---:|")
    found = []
    for row in rows(quick=options.quick):
        found.append(row)
        print(row, flush=True)
    beyond = [row for row in found if abs(row.error) > row.bound]
    print(f"\n{len(found)} figures, {len(beyond)} beyond their bounds", flush=True)
    if options.quick:
        return
    machine = {"platform": platform.platform(), "python": platform.python_version()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "bounds": BOUNDS, "rows": [row.to_json() for row in found]}
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
