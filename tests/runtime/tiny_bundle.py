"""Makes a whole, tiny bundle in milliseconds: a convolutional 'unet' that uses its timestep, and a 'decoder'.

The weights are external data, and large enough for ONNX Runtime to keep them so in the graph it saves.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ldmc.artifacts.bundle import copy_runtime

LATENT = (3, 8, 8)
WIDTH = 16
SCHEDULER = {
    "type": "ddim", "num_train_timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0195,
    "beta_schedule": "scaled_linear", "trained_betas": None, "clip_sample": False, "clip_sample_range": 1.0,
    "set_alpha_to_one": True, "steps_offset": 0, "prediction_type": "epsilon", "timestep_spacing": "leading",
    "thresholding": False, "rescale_betas_zero_snr": False,
}


def make_bundle(root, batch=1, unet_scale=1.0, weights="checkpoint", runtime=False, scheduler=None, dtype="float32"):
    """Writes a bundle folder at `root` and returns it. unet_scale=inf makes the unet give infinities."""
    root = Path(root)
    rng = np.random.RandomState(7)
    components = {
        "unet": _save(root, "unet", _unet(rng, batch, unet_scale, dtype)),
        "decoder": _save(root, "decoder", _decoder(rng, batch, dtype)),
    }
    if runtime:
        copy_runtime(root)
    manifest = {
        "schema_version": 2, "name": "tiny", "target": "cpu", "components": components,
        "source": {"model": "tiny", "weights": {"kind": weights, "seed": None, "files": []}},
        "requirements": {"python": ">=3.6", "packages": {"numpy": ">=1.13", "onnxruntime": ">=1.10"}},
        "scheduler": dict(SCHEDULER, **(scheduler or {})),
        "files": [_file_entry(root, path) for path in sorted(root.rglob("*")) if path.is_file()],
    }
    write_manifest(root, manifest)
    return root


def read_manifest_json(root):
    """The manifest as plain JSON."""
    return json.loads((Path(root) / "manifest.json").read_text())


def write_manifest(root, manifest):
    """Replaces manifest.json."""
    (Path(root) / "manifest.json").write_text(json.dumps(manifest, indent=1))


def refresh_files(root):
    """Makes the manifest's sizes and hashes those of the files as they are."""
    manifest = read_manifest_json(root)
    manifest["files"] = [_file_entry(Path(root), Path(root) / entry["path"]) for entry in manifest["files"]]
    write_manifest(root, manifest)


def list_files(root):
    """Makes the manifest list every file that lies in the bundle now."""
    manifest = read_manifest_json(root)
    manifest["files"] = [_file_entry(Path(root), path) for path in sorted(Path(root).rglob("*"))
                         if path.is_file() and path.name != "manifest.json"]
    write_manifest(root, manifest)


def _unet(rng, batch, scale, dtype):
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.FLOAT16
    weights = [
        _weight(rng, "conv_in", (WIDTH, LATENT[0], 3, 3), dtype),
        _weight(rng, "conv_out", (LATENT[0], WIDTH, 3, 3), dtype),
        numpy_helper.from_array(np.array([0.001], dtype), "rate"),
        numpy_helper.from_array(np.array([scale], dtype), "scale"),
        numpy_helper.from_array(np.array([-1, 1, 1, 1], np.int64), "column"),
    ]
    nodes = [
        helper.make_node("Conv", ["input_0", "conv_in"], ["hidden"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["input_1"], ["time_float"], to=kind),
        helper.make_node("Mul", ["time_float", "rate"], ["time_scaled"]),
        helper.make_node("Reshape", ["time_scaled", "column"], ["time_column"]),
        helper.make_node("Add", ["hidden", "time_column"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["gate"]),
        helper.make_node("Mul", ["shifted", "gate"], ["active"]),
        helper.make_node("Conv", ["active", "conv_out"], ["predicted"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["predicted", "scale"], ["output_0"]),
    ]
    latent = (batch,) + LATENT
    inputs = [helper.make_tensor_value_info("input_0", kind, latent),
              helper.make_tensor_value_info("input_1", TensorProto.INT64, (batch,))]
    return _model(nodes, inputs, [helper.make_tensor_value_info("output_0", kind, latent)], weights)


def _decoder(rng, batch, dtype):
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.FLOAT16
    weights = [_weight(rng, "up", (LATENT[0], WIDTH, 4, 4), dtype), _weight(rng, "out", (3, WIDTH, 3, 3), dtype)]
    nodes = [
        helper.make_node("ConvTranspose", ["input_0", "up"], ["large"], strides=[4, 4]),
        helper.make_node("Conv", ["large", "out"], ["colours"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["colours"], ["output_0"]),
    ]
    picture = (batch, 3, LATENT[1] * 4, LATENT[2] * 4)
    return _model(nodes, [helper.make_tensor_value_info("input_0", kind, (batch,) + LATENT)],
                  [helper.make_tensor_value_info("output_0", kind, picture)], weights)


def _weight(rng, name, shape, dtype):
    values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(values.astype(dtype), name)


def _model(nodes, inputs, outputs, weights):
    # Opset 13 and IR 7: old enough for the ONNX Runtime of Python 3.6.
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def _save(root, name, model):
    folder = root / name
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data",
              size_threshold=256)
    ops = {}
    for node in model.graph.node:
        ops[node.op_type] = ops.get(node.op_type, 0) + 1
    tensors = {
        "inputs": [_tensor(value) for value in model.graph.input],
        "outputs": [_tensor(value) for value in model.graph.output],
    }
    part = dict(tensors, name=name, form="onnx", file="%s/model.onnx" % name)
    return dict(tensors, form="onnx", parts=[part], stats={"nodes": len(model.graph.node), "ops": ops})


def _tensor(value):
    kind = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return {"name": value.name, "dtype": np.dtype(dtype).name, "shape": [size.dim_value for size in kind.shape.dim]}


def _file_entry(root, path):
    content = path.read_bytes()
    relative = path.relative_to(root).as_posix()
    role = "runtime" if relative.startswith("runtime/") else "weights" if relative.endswith(".data") else "graph"
    return {"path": relative, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "role": role}


def cut_unet(root, values):
    """Cuts the unet of a bundle after each of `values` into parts over the same weights file, and returns the folder.

    A value that is read over two cuts, and the inputs, are handed to whoever reads them.
    """
    folder = Path(root) / "unet"
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    nodes = list(model.graph.node)
    ends = [next(k for k, node in enumerate(nodes) if value in node.output) + 1 for value in values]
    known = {v.name: v for v in (*onnx.shape_inference.infer_shapes(model).graph.value_info, *model.graph.input,
                                 *model.graph.output)}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    parts = []
    for number, (start, stop) in enumerate(zip([0, *ends], [*ends, len(nodes)])):
        own = nodes[start:stop]
        made = {name for node in own for name in node.output}
        later = {name for node in nodes[stop:] for name in node.input} | {"output_0"}
        reads = dict.fromkeys(n for node in own for n in node.input if n not in made and n not in weights)
        used = [weights[n] for n in dict.fromkeys(n for node in own for n in node.input) if n in weights]
        gives = [name for node in own for name in node.output if name in later]
        graph = helper.make_graph(own, "part", [known[n] for n in reads], [known[n] for n in gives], used)
        part = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
        (folder / ("%d.onnx" % number)).write_bytes(part.SerializeToString())
        parts.append({"name": "unet.%d" % number, "form": "onnx", "file": "unet/%d.onnx" % number,
                      "inputs": [_tensor(v) for v in graph.input], "outputs": [_tensor(v) for v in graph.output]})
    (folder / "model.onnx").unlink()
    manifest = read_manifest_json(root)
    manifest["components"]["unet"].update(form="onnx-parts", parts=parts)
    write_manifest(root, manifest)
    list_files(root)
    return root
