"""Tiny bundles with something left to build: a UNet in two parts that share weights and pass two tensors, with a finer
cut of the first, and a decoder. Opset 13 and IR 7, as TensorRT 8.2 reads them.

    unet.0   input_0, input_1 -> skip, hidden        unet.0.0  input_0 -> skip      unet.0.1  skip, input_1 -> hidden
    unet.1   skip, hidden, input_1 -> output_0
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from ldmc.artifacts.bundle import copy_runtime
from ldmc.runtime.schedulers.ddim import DDIM
from tests.runtime.tiny_bundle import LATENT, SCHEDULER

WIDTH = 16
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}
SHAPES = {
    "input_0": (1, *LATENT), "input_1": (1,), "output_0": (1, *LATENT),
    "skip": (1, WIDTH, 8, 8), "hidden": (1, WIDTH, 8, 8),
}
PICTURE = (1, 3, 32, 32)
PARTS = {
    "unet.0": (("input_0", "input_1"), ("skip", "hidden")),
    "unet.1": (("hidden", "input_1", "skip"), ("output_0",)),
    "unet.0.0": (("input_0",), ("skip",)),
    "unet.0.1": (("input_1", "skip"), ("hidden",)),
}
FULL_LADDER = [
    {"workspace_bytes": 8 << 20, "tactic_sources": ["cublas", "cublas_lt", "cudnn"]},
    {"workspace_bytes": 1 << 20, "tactic_sources": ["cublas", "cublas_lt", "cudnn"]},
    {"workspace_bytes": 1 << 20, "tactic_sources": ["cublas", "cublas_lt"]},
]
FALLBACK = {"fallback": "onnxruntime-cuda"}
NANO = {"arch": "aarch64", "l4t": "32.7", "tensorrt": ">=8.2,<8.3", "compute_capability": "5.3"}


def make_pending_bundle(root, dtype="float16", finer=True, fallback=True, embed=False):
    """Writes a bundle for a Nano at `root`, engines pending, with its runtime; returns the folder."""
    root = Path(root)
    weights = _weights()
    unet = {name: _graph(name, *ends, weights, dtype) for name, ends in PARTS.items()}
    _store(root / "unet", {f"{name.removeprefix('unet.')}.onnx": graph for name, graph in unet.items()})
    _store(root / "decoder", {"model.onnx": _decoder(weights, dtype)})
    parts = {name: _part(name, f"unet/{name.removeprefix('unet.')}", *ends, dtype) for name, ends in PARTS.items()}
    decoder = dict(_tensors((("input_0", (1, *LATENT), dtype),), (("output_0", PICTURE, dtype),)))
    decoder_part = dict(decoder, name="decoder", form="engine", file="decoder/model.engine",
                        source="decoder/model.onnx")
    components = {
        "unet": dict(_ends(("input_0", "input_1"), ("output_0",), dtype), form="engine",
                     parts=[parts["unet.0"], parts["unet.1"]]),
        "decoder": dict(decoder, form="engine", parts=[decoder_part]),
    }
    finer_rung = [{"finer": [parts["unet.0.0"], parts["unet.0.1"]]}] if finer else []
    last = [FALLBACK] if fallback else []
    steps = [
        _step("unet", "unet.0", 30_000, [*FULL_LADDER, *finer_rung, *last], False),
        _step("unet", "unet.1", 20_000, [*FULL_LADDER, *last], False),
        _step("decoder", "decoder", 10_000, [*FULL_LADDER, *last], embed),
    ]
    _write_references(root, weights)
    finish = {"device": NANO, "libraries_bytes": 1 << 20, "needed_snr_db": 30.0, "steps": steps,
              "reference": {"unet": "reference/unet.npz", "decoder": "reference/decoder.npz"}}
    return _write_bundle(root, components, finish)


def _write_bundle(root, components, finish):
    """Adds the runtime and the manifest."""
    copy_runtime(root)
    write_manifest(root, {
        "schema_version": 2, "name": "tiny", "target": "jetson-nano", "components": components, "finish": finish,
        "load": "one-at-a-time", "scheduler": SCHEDULER,
        "source": {"model": "tiny", "weights": {"kind": "checkpoint", "seed": None, "files": []}},
        "requirements": {"python": ">=3.6", "packages": {"numpy": ">=1.13", "tensorrt": ">=8.2,<8.3"}},
        "files": [_file(root, path) for path in sorted(root.rglob("*")) if path.is_file()],
    })
    return root


def read_manifest(root):
    """The manifest as plain JSON."""
    return json.loads((Path(root) / "manifest.json").read_text())


def write_manifest(root, manifest):
    """Replaces it."""
    (Path(root) / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def refresh_files(root):
    """Makes the manifest's sizes and hashes those of the files as they are."""
    manifest = read_manifest(root)
    entries = [dict(_file(Path(root), Path(root) / entry["path"]), role=entry["role"]) for entry in manifest["files"]]
    write_manifest(root, dict(manifest, files=entries))


def steps_of(root):
    """part -> step of the manifest as it is now."""
    return {step["part"]: step for step in read_manifest(root)["finish"]["steps"]}


def draw_eagerly(seed, steps):
    """The picture of these weights in fp32: the graphs as they are, one after the other, in ONNX Runtime."""
    weights = _weights()
    sampler = DDIM(SCHEDULER)
    sample = np.random.RandomState(seed).standard_normal(LATENT).astype("float32")[None]
    for t in sampler.timesteps(steps):
        sample = sampler.step(_run_unet(weights, sample, np.array([t], np.int64)), t, sample)
    image = _run(_decoder(weights, "float32"), {"input_0": sample})[0][0]
    return np.rint(np.clip((image + 1) * 127.5, 0, 255)).astype(np.uint8).transpose(1, 2, 0)


def _step(component, part, weights_bytes, ladder, embed):
    return {"component": component, "part": part, "status": "pending", "weights_bytes": weights_bytes,
            "peak_bytes": 3 * weights_bytes + ladder[0]["workspace_bytes"], "embed": embed,
            "ladder": [dict(rung) for rung in ladder]}


def _weights():
    rng = np.random.RandomState(7)
    shapes = {"conv_in": (WIDTH, LATENT[0], 3, 3), "conv_mid": (WIDTH, WIDTH, 3, 3),
              "conv_out": (LATENT[0], WIDTH, 3, 3), "conv_up": (LATENT[0], WIDTH, 4, 4), "conv_last": (3, WIDTH, 3, 3)}
    found = {name: rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    return {**found, "rate": np.array([0.001]), "column": np.array([-1, 1, 1, 1], np.int64)}


def _graph(name, inputs, outputs, weights, dtype):
    """The nodes of a part."""
    kind = KINDS[dtype]
    begin = [
        helper.make_node("Conv", ["input_0", "conv_in"], ["skip"], "conv_in/Conv", pads=[1, 1, 1, 1]),
    ]
    middle = [
        helper.make_node("Cast", ["input_1"], ["time_float"], "time/Cast", to=kind),
        helper.make_node("Mul", ["time_float", "rate"], ["time_scaled"], "time/Mul"),
        helper.make_node("Reshape", ["time_scaled", "column"], ["time_column"], "time/Reshape"),
        helper.make_node("Add", ["skip", "time_column"], ["shifted"], "time/Add"),
        helper.make_node("Conv", ["shifted", "conv_mid"], ["hidden"], "conv_mid/Conv", pads=[1, 1, 1, 1]),
    ]
    end = [
        helper.make_node("Cast", ["input_1"], ["time_float"], "gate/Cast", to=kind),
        helper.make_node("Mul", ["time_float", "rate"], ["time_scaled"], "gate/Mul"),
        helper.make_node("Sigmoid", ["hidden"], ["gate"], "gate/Sigmoid"),
        helper.make_node("Mul", ["hidden", "gate"], ["active"], "gate/Mul_1"),
        helper.make_node("Mul", ["skip", "time_scaled"], ["faded"], "gate/Mul_2"),
        helper.make_node("Add", ["active", "faded"], ["joined"], "gate/Add"),
        helper.make_node("Conv", ["joined", "conv_out"], ["output_0"], "conv_out/Conv", pads=[1, 1, 1, 1]),
    ]
    nodes = {"unet.0": begin + middle, "unet.1": end, "unet.0.0": begin, "unet.0.1": middle}[name]
    return _model(nodes, inputs, outputs, weights, dtype, SHAPES)


def _decoder(weights, dtype):
    nodes = [
        helper.make_node("ConvTranspose", ["input_0", "conv_up"], ["large"], "up/ConvTranspose", strides=[4, 4]),
        helper.make_node("Conv", ["large", "conv_last"], ["colours"], "last/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["colours"], ["output_0"], "last/Tanh"),
    ]
    return _model(nodes, ("input_0",), ("output_0",), weights, dtype, {"input_0": (1, *LATENT), "output_0": PICTURE})


def _model(nodes, inputs, outputs, weights, dtype, shapes):
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(dtype), name)
                    for name, array in weights.items() if name in used]

    def values(names):
        return [helper.make_tensor_value_info(name, KINDS["int64" if name == "input_1" else dtype], shapes[name])
                for name in names]

    graph = helper.make_graph(nodes, "part", values(inputs), values(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def _store(folder, models):
    """Graphs that share one weights file: each tensor is in it once."""
    folder.mkdir(parents=True)
    places, content = {}, b""
    for file, model in models.items():
        for tensor in model.graph.initializer:
            if tensor.name not in places:
                places[tensor.name] = (len(content), len(tensor.raw_data))
                content += tensor.raw_data + b"\0" * (-len(tensor.raw_data) % 64)
            if tensor.name == "column":  # what a parser looks at stays in the graph
                continue
            offset, length = places[tensor.name]
            set_external_data(tensor, "model.onnx.data", offset, length)
            tensor.ClearField("raw_data")
        (folder / file).write_bytes(model.SerializeToString())
    (folder / "model.onnx.data").write_bytes(content)


def _write_references(root, weights):
    """Inputs and the fp32 model's outputs, from graphs that nothing was done to."""
    (root / "reference").mkdir()
    rng = np.random.RandomState(3)
    latents = rng.standard_normal((3, 1, *LATENT)).astype("float16")
    times = np.array([[981], [501], [1]], np.int64)
    unet = [_run_unet(weights, latent.astype("float32"), time) for latent, time in zip(latents, times)]
    decoded = [_run(_decoder(weights, "float32"), {"input_0": x.astype("float32")})[0] for x in latents]
    np.savez(root / "reference" / "unet.npz", in_0=latents, in_1=times, out_0=np.stack(unet))
    np.savez(root / "reference" / "decoder.npz", in_0=latents, out_0=np.stack(decoded))


def _run_unet(weights, latent, time):
    """Both parts, in fp32."""
    skip, hidden = _run(_graph("unet.0", *PARTS["unet.0"], weights, "float32"), {"input_0": latent, "input_1": time})
    feeds = {"skip": skip, "hidden": hidden, "input_1": time}
    return _run(_graph("unet.1", *PARTS["unet.1"], weights, "float32"), feeds)[0]


def _run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def _part(name, stem, inputs, outputs, dtype):
    return dict(_ends(inputs, outputs, dtype), name=name, form="engine", file=f"{stem}.engine", source=f"{stem}.onnx")


def _ends(inputs, outputs, dtype):
    def entries(names):
        return tuple((name, SHAPES[name], "int64" if name == "input_1" else dtype) for name in names)

    return _tensors(entries(inputs), entries(outputs))


def _tensors(inputs, outputs):
    return {side: [{"name": name, "dtype": dtype, "shape": list(shape)} for name, shape, dtype in entries]
            for side, entries in (("inputs", inputs), ("outputs", outputs))}


def _file(root, path):
    content = path.read_bytes()
    relative = path.relative_to(root).as_posix()
    role = "runtime" if relative.startswith("runtime/") else "weights" if relative.endswith(".data") else "graph"
    return {"path": relative, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "role": role}
