"""TensorRT engines, chained on the device: what one part gives the next never leaves it.

    host     input_0  input_1                                  output_0
    device   |______|______| unet.0 |__ hidden, skips __| unet.1 |____|
                               one block of memory, planned once
                               one block of activations, which the parts take turns in

numpy and libcudart, nothing else: no pycuda, no torch. Engines are made by `python3 -m runtime finish`.
"""

import gc
import importlib
import os

import numpy as np

from .. import memory
from ..errors import BundleProblem, first_line
from .engine_gpu import open_gpu
from .shared_memory_plan import Interval, place
from .trt_engine import TensorRTEngine


def check(manifest, parts):
    """See `backends`."""
    for part in parts:
        if part.file not in manifest.listed or not os.path.isfile(manifest.file_path(part.file)):
            message = "engine %s of %s is not built yet" % (part.file, manifest.root)
            raise BundleProblem(message, "on the %s run: python3 -m runtime finish" % manifest.target)
    import_tensorrt(manifest)
    open_gpu(manifest, parts)


def open_part(manifest, part, options, remarks):
    """See `backends`."""
    return open_parts(manifest, [part], part, options, remarks)


def open_parts(manifest, parts, entry, options, remarks):
    """Opens consecutive engine parts as one.

    Args:
        manifest: Manifest. parts: PartEntry of each engine, in running order.
        entry: what has `name`, `inputs` and `outputs` (lists of Tensor): those of the whole run of parts.
        options, remarks: see `backends`.
    Returns: EngineChain.
    Raises: BundleProblem where an engine is not built yet, or TensorRT or CUDA is missing or refuses.
    """
    check(manifest, parts)
    trt = import_tensorrt(manifest)
    chain = EngineChain(open_gpu(manifest, parts), entry)
    try:
        chain.load(trt, manifest, parts)
    except BaseException:
        chain.close()
        raise
    return chain


def module_name(manifest):
    """The Python module that builds and runs the engines of a bundle: `tensorrt`, or `tensorrt_rtx`."""
    is_rtx = manifest.requirement("tensorrt_rtx") or manifest.requirement("tensorrt-rtx")
    return "tensorrt_rtx" if is_rtx else "tensorrt"


def import_tensorrt(manifest):
    """The module `tensorrt` or `tensorrt_rtx`. Raises BundleProblem where it cannot be imported."""
    name = module_name(manifest)
    try:
        return importlib.import_module(name)
    except Exception as problem:  # one that is half installed raises whatever it meets
        fix = "pip install tensorrt_rtx" if name == "tensorrt_rtx" else (
            "on a Jetson: sudo apt install python3-libnvinfer; elsewhere: pip install tensorrt")
        raise BundleProblem("%s needs the Python module %s: %s" % (
            manifest.root, name, first_line(problem)), fix)


class EngineChain(object):
    """Engines that run in order on one stream, over memory that is allocated once."""

    def __init__(self, cuda, entry):
        self._cuda = cuda
        self._entry = entry
        self._engines = []
        self._blocks = []
        self._stream = None
        self._addresses = {}
        self._tensors = {}

    def load(self, trt, manifest, parts):
        """Loads the engines of `parts`, plans and allocates memory, and binds it."""
        for part in parts:
            engine = TensorRTEngine(trt, manifest.listed_path(part.file), part.file)
            self._engines.append(engine)
            _check_names(engine, part)
        self._tensors = self._collect()
        offsets, total_bytes = place(self._intervals())
        base = self._allocate(total_bytes)
        self._addresses = {name: base + offset for name, offset in offsets.items()}
        activation_bytes = max(engine.device_memory_bytes for engine in self._engines)
        activations = self._allocate(activation_bytes) if activation_bytes else None
        self._stream = self._cuda.create_stream()
        for engine in self._engines:
            engine.open_context()
            if activations is not None:
                engine.set_device_memory(activations, activation_bytes)
            engine.bind(self._addresses)

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order. Raises BundleProblem where CUDA or TensorRT fails."""
        kept = []  # a copy on the stream may still read its array after the call returns
        for array, tensor in zip(arrays, self._entry.inputs):
            kept.append(np.ascontiguousarray(array, dtype=self._tensors[tensor.name].dtype))
            self._cuda.to_device(self._addresses[tensor.name], kept[-1], self._stream)
        for engine in self._engines:
            engine.enqueue(self._stream)
        outputs = []
        for tensor in self._entry.outputs:
            held = self._tensors[tensor.name]
            outputs.append(np.empty(held.shape, held.dtype))
            self._cuda.to_host(outputs[-1], self._addresses[tensor.name], self._stream)
        self._cuda.synchronize(self._stream)
        return [np.asarray(array, tensor.dtype) for array, tensor in zip(outputs, self._entry.outputs)]

    def close(self):
        """Drops the engines and their memory."""
        for engine in self._engines:
            engine.close()
        self._engines = []
        gc.collect()
        blocks, self._blocks = self._blocks, []
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                self._cuda.destroy_stream(stream)
        finally:
            for address in blocks:
                self._cuda.free(address)
        memory.give_back_freed()

    def _collect(self):
        """Name -> EngineTensor of everything between host and engines; one name is one tensor everywhere."""
        found = {}
        for engine in self._engines:
            for tensor in engine.tensors:
                known = found.setdefault(tensor.name, tensor)
                if (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
                    message = "engines of %s disagree on a tensor: %s against %s" % (self._entry.name, known, tensor)
                    raise BundleProblem(message, "build the bundle again")
        return found

    def _intervals(self):
        """When each tensor is alive: from the part that gives it to the last that reads it."""
        last = len(self._engines)  # the copies back to the host come after the last part
        first_of, last_of = {}, {}
        for step, engine in enumerate(self._engines):
            for tensor in engine.tensors:
                first_of.setdefault(tensor.name, 0 if tensor.is_input else step)
                last_of[tensor.name] = step
        for tensor in self._entry.outputs:
            last_of[tensor.name] = last
        for tensor in self._entry.inputs:
            if tensor.name not in self._tensors:
                raise BundleProblem("no engine of %s reads %s" % (self._entry.name, tensor), "build the bundle again")
        return [Interval(name, tensor.size_bytes, first_of[name], last_of[name])
                for name, tensor in sorted(self._tensors.items())]

    def _allocate(self, size_bytes):
        address = self._cuda.allocate(size_bytes)
        self._blocks.append(address)
        return address


def _check_names(engine, part):
    """The engine has the manifest's inputs and outputs, and no others."""
    for kind, wanted in (("inputs", part.inputs), ("outputs", part.outputs)):
        found = {tensor.name: tensor for tensor in engine.tensors if tensor.is_input == (kind == "inputs")}
        wrong = [str(tensor) for tensor in wanted
                 if tensor.name not in found or found[tensor.name].shape != tensor.shape]
        if wrong or len(found) != len(wanted):
            shown = ", ".join(str(tensor) for tensor in engine.tensors)
            message = "engine %s has %s; the manifest expects %s %s" % (
                part.file, shown, kind, ", ".join(str(tensor) for tensor in wanted))
            raise BundleProblem(message, "build it again: python3 -m runtime finish --again")
