"""What each kind damages, and the commands that read it.

    manifest     a bundle's manifest.json            inspect, verify --hashes-only, report, diff, run
    records      reports of stages, memory.json ...   report, diff
    checkpoint   the four configurations              the model read and built without weights; plan
    weights      safetensors, pickles, indices        the model read, its weights looked at
    target       a target's TOML file                 targets, doctor, plan
    result       what bench wrote                     compare, report
    check        what verify and build wrote          report
    onnx         a small ONNX file                    diff; and as a bundle's graph: diff, run

A command is a list of words; READ stands for what every command does with a model before it lowers it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from benchmarks.mutations.documents import damaged_bytes, damaged_json, damaged_toml
from benchmarks.mutations.graphs import damaged_graph, seed_graphs
from benchmarks.mutations.weights import damaged_index, damaged_safetensors

READ = "read-model"
_STEM = "diffusion_pytorch_model"
_NO_FILE = 0.02  # share of inputs that are no regular file
_CONFIGS = ("model_index.json", "unet/config.json", "vqvae/config.json", "scheduler/scheduler_config.json")
_PAPER = Path(__file__).resolve().parents[2] / "ldmc" / "compiler" / "levels" / "paper"
Commands = list[list[str]]


class Bench:
    """A folder with a whole model and a whole bundle, some file of which is damaged for one trial at a time.

    model, bundle: the whole ones, which are copied. samples: name -> JSON of results to damage. is_quick: leave out the
    commands that draw or plan, which take seconds where the damage is none that matters.
    """

    def __init__(
        self, folder: Path, model: Path, bundle: Path, samples: dict[str, Any], *, is_quick: bool = False
    ) -> None:
        self.folder, self.is_quick = folder, is_quick
        papers = {f"paper {file.stem}": json.loads(file.read_text()) for file in sorted(_PAPER.glob("*.json"))}
        self.samples = {**samples, **papers}
        self.model, self.bundle, self.whole = folder / "model", folder / "bundle.ldmc", folder / "whole.ldmc"
        shutil.copytree(model, self.model)
        for copy in (self.bundle, self.whole):
            shutil.copytree(bundle, copy)
        self.report = folder / "report.html"
        self._before: dict[Path, bytes | None] = {}
        self._graphs = seed_graphs()

    def put(self, path: Path, content: bytes, rng: random.Random | None = None) -> None:
        """Write a file until `restore`; with `rng`, now and then something that is no regular file."""
        if path not in self._before:
            self._before[path] = path.read_bytes() if path.exists() else None
        if rng is not None and rng.random() < _NO_FILE:
            _remove(path)
            rng.choice((_fifo, _zeros, _folder, _loop, _socket, _gone))(path)
            return
        path.write_bytes(content)

    def restore(self) -> None:
        """Make everything whole again."""
        for path, content in self._before.items():
            _remove(path)
            if content is not None:
                path.write_bytes(content)
        self._before.clear()
        self.report.unlink(missing_ok=True)

    def graph(self, rng: random.Random) -> onnx.ModelProto:
        """One of the small graphs."""
        return rng.choice(self._graphs)

    def refresh(self, path: Path) -> None:
        """Give the manifest the size and the hash of a file of the bundle."""
        file, name = self.bundle / "manifest.json", path.relative_to(self.bundle).as_posix()
        data = json.loads(file.read_bytes())
        if not path.is_file() or path.is_symlink():
            return
        content = path.read_bytes()
        for entry in data["files"]:
            if entry["path"] == name:
                entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self.put(file, json.dumps(data).encode())


def _manifest(rng: random.Random, bench: Bench) -> Commands:
    file = bench.bundle / "manifest.json"
    bench.put(file, damaged_json(rng, json.loads(file.read_bytes())), rng)
    bundle = str(bench.bundle)
    commands = [["inspect", bundle], ["verify", "--hashes-only", bundle], ["inspect", bundle, "--json"]]
    commands.append(rng.choice((_report(bench, bundle), ["diff", str(bench.whole), bundle])))
    return [*commands, _run(bundle)] if rng.random() < 0.3 and not bench.is_quick else commands


def _records(rng: random.Random, bench: Bench) -> Commands:
    files = sorted((bench.bundle / "reports").rglob("*.json"))
    file = rng.choice(files)
    bench.put(file, damaged_json(rng, json.loads(file.read_bytes())), rng)
    bench.refresh(file)
    bundle = str(bench.bundle)
    form = rng.choice(("table", "markdown", "json"))
    if file.parent == bench.bundle / "reports":
        return [_report(bench, bundle)]
    return [_report(bench, bundle), ["diff", f"{bundle}:{file.stem}", str(bench.whole), "--format", form]]


def _checkpoint(rng: random.Random, bench: Bench) -> Commands:
    file = bench.model / rng.choice(_CONFIGS)
    bench.put(file, damaged_json(rng, json.loads(file.read_bytes())), rng)
    plan = ["plan", "--target", "cpu", "--model", str(bench.model)]
    return [[READ, str(bench.model)], *([plan] if rng.random() < 0.25 and not bench.is_quick else [])]


def _weights(rng: random.Random, bench: Bench) -> Commands:
    file = bench.model / rng.choice(("unet", "vqvae")) / f"{_STEM}.safetensors"
    content = file.read_bytes()
    if rng.random() < 0.7:
        bench.put(file, damaged_safetensors(rng, content), rng)
    elif rng.random() < 0.5:
        bench.put(file, content)
        file.unlink()
        bench.put(file.with_suffix(".bin"), damaged_bytes(rng, _pickle()), rng)
    else:
        size = int.from_bytes(content[:8], "little")
        keys = [key for key in json.loads(content[8 : 8 + size]) if key != "__metadata__"]
        bench.put(file, content)
        bench.put(file.with_name("shard.safetensors"), content)
        file.unlink()
        bench.put(file.with_name(f"{_STEM}.safetensors.index.json"), damaged_index(rng, "shard.safetensors", keys), rng)
    return [[READ, str(bench.model)]]


def _pickle() -> bytes:
    import io

    import torch

    stream = io.BytesIO()
    torch.save({"conv_in.weight": torch.zeros(2, 2), "conv_in.bias": torch.zeros(2)}, stream)
    return stream.getvalue()


def _target(rng: random.Random, bench: Bench) -> Commands:
    from ldmc.targets.reader import load_target, target_names

    data = load_target(rng.choice(target_names())).to_json()
    data = {key: value for key, value in data.items() if value is not None}
    if rng.random() < 0.2:
        data["extends"] = rng.choice(("cpu", "own.toml", "missing", "jetson-nano"))
    file = bench.folder / "own.toml"
    bench.put(file, damaged_toml(rng, data), rng)
    commands = [["targets", str(file)], ["targets", str(file), "--json"]]
    if rng.random() < 0.05 and not bench.is_quick:
        commands.append(["plan", "--target", str(file), "--model", str(bench.model)])
    return commands


def _result(rng: random.Random, bench: Bench) -> Commands:
    file = bench.folder / "result.json"
    names = [name for name in bench.samples if name.startswith(("paper", "bench"))]
    bench.put(file, damaged_json(rng, bench.samples[rng.choice(names)]), rng)
    table = bench.folder / "table.md"
    bench.put(table, b"")
    first = ["compare", "paper:android", str(file), "--markdown", str(table)]
    return [first, ["compare", str(file), "--json"], _report(bench, str(file))]


def _check(rng: random.Random, bench: Bench) -> Commands:
    name = rng.choice([name for name in bench.samples if name.startswith(("verify", "build"))])
    file = bench.folder / "check.json"
    bench.put(file, damaged_json(rng, bench.samples[name]), rng)
    return [_report(bench, str(bench.bundle), str(file))]


def _onnx(rng: random.Random, bench: Bench) -> Commands:
    file, other = bench.folder / "damaged.onnx", bench.folder / "other.onnx"
    model = bench.graph(rng)
    content = damaged_graph(rng, model)
    bench.put(file, content, rng)
    bench.put(other, model.SerializeToString())
    form = rng.choice(("table", "markdown", "json"))
    commands = [["diff", str(other), str(file), "--format", form, "--full"]]
    if rng.random() < 0.3:
        graph = bench.bundle / "decoder" / "model.onnx"
        whole = onnx.load(str(graph), load_external_data=False)
        bench.put(graph, damaged_graph(rng, whole) if rng.random() < 0.5 else content)
        bench.refresh(graph)
        commands.append(["diff", str(bench.whole / "decoder" / "model.onnx"), str(graph)])
        commands += [] if bench.is_quick else [_run(str(bench.bundle))]
    return commands


KINDS: dict[str, Callable[[random.Random, Bench], Commands]] = {
    "manifest": _manifest, "records": _records, "checkpoint": _checkpoint, "weights": _weights, "target": _target,
    "result": _result, "check": _check, "onnx": _onnx,
}  # fmt: skip


def _run(bundle: str) -> list[str]:
    return ["run", bundle, "--steps", "1", "-o", str(Path(bundle).with_name("out.png"))]


def _report(bench: Bench, *inputs: str) -> list[str]:
    return ["report", *inputs, "-o", str(bench.report)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is at most 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _gone(_: Path) -> None:
    """No file at all."""
