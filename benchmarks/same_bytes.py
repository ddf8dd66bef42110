"""The guard of a reshape: the same input gives the same bytes, before and after it, on one machine.

    python benchmarks/same_bytes.py record before.json            digits; --full also the 330M model
    ... reshape ...
    python benchmarks/same_bytes.py compare before.json

Builds a fixed set of bundles and plans in a temporary folder. Kept is the SHA-256 of every file of a bundle but its
runtime (which is code) and of each plan's JSON; the manifest counts without its list of files. Figures that a run
measures (seconds, peaks of memory) stand in none of them. The reference outputs that some bundles carry are computed
here, so records of two kinds of CPU differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ["--model", str(ROOT / "examples" / "digits-ldm")]
# name -> arguments of `ldmc build`; engines are left out: their builder need not give the same bytes twice.
BUNDLES = {
    "cpu-fp32": ["--target", "cpu", "--passes", "onnx,fold"],
    "cpu-fp16": ["--target", "cpu", "--passes", "fp16,onnx,fold"],
    "jetson-nano": ["--target", "jetson-nano", "--passes", "fp16,onnx,trt"],
    "rtx-graphs": ["--target", "rtx-3070", "--passes", "fp16,onnx,fold"],
    "torchscript": ["--target", "cpu", "--passes", "torchscript"],
}
PLANS = ("cpu", "android", "jetson-nano", "jetson-orin-nano", "rtx-3070")


def ldmc(arguments: list[str], folder: Path) -> str:
    """What the command prints on stdout; one that fails ends all of it, with what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "ldmc", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"ldmc {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def of_bundle(bundle: Path) -> dict[str, str]:
    """SHA-256 by path in the bundle, as its manifest lists them, and of the manifest itself."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    files = {file["path"]: file["sha256"] for file in manifest.pop("files")}
    hashes = {path: digest for path, digest in files.items() if not path.startswith("runtime/")}
    return {**hashes, "manifest.json": _digest(json.dumps(manifest, sort_keys=True))}


def measure(models: dict[str, list[str]]) -> dict[str, str]:
    """`model/bundle/path` -> SHA-256, for every bundle and plan of every model."""
    hashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="ldmc-same-") as name:
        folder = Path(name)
        for model, arguments in models.items():
            for title, build in BUNDLES.items():
                print(f"{model}: {title}", file=sys.stderr, flush=True)
                ldmc(["build", *build, *arguments, "--no-report", "-o", "x.ldmc"], folder)
                hashes.update((f"{model}/{title}/{path}", d) for path, d in of_bundle(folder / "x.ldmc").items())
                shutil.rmtree(folder / "x.ldmc")
            for target in PLANS:
                print(f"{model}: plan for {target}", file=sys.stderr, flush=True)
                hashes[f"{model}/plan/{target}"] = _digest(
                    ldmc(["plan", "--target", target, *arguments, "--json"], folder)
                )
    return hashes


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Print what differs; gives how much."""
    lines = [f"gone      {path}" for path in sorted(before.keys() - after.keys())]
    lines += [f"new       {path}" for path in sorted(after.keys() - before.keys())]
    lines += [f"different {path}" for path in sorted(before.keys() & after.keys()) if before[path] != after[path]]
    print("\n".join([*lines, f"{len(before)} before, {len(after)} after, {len(lines)} differ"]))
    return len(lines)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Hold two states of this checkout to the same bytes.")
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path, help="the record")
    parser.add_argument("--full", action="store_true", help="record the 330M model too (a quarter of an hour)")
    options = parser.parse_args()
    if options.what == "record":
        models = {"digits": DIGITS, **({"full": ["--random-weights"]} if options.full else {})}
        options.file.write_text(json.dumps(measure(models), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    before = json.loads(options.file.read_text(encoding="utf-8"))
    full = any(path.startswith("full/") for path in before)
    models = {"digits": DIGITS, **({"full": ["--random-weights"]} if full else {})}
    return 1 if compare(before, measure(models)) else 0


if __name__ == "__main__":
    sys.exit(main())
