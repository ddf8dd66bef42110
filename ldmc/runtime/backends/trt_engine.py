"""One TensorRT engine on the device, whatever the version: what differs between the Python APIs is here.

    8.2        bindings by index, execute_async_v2; the memory of a context is given as a PyCapsule
    8.5, 8.6   named tensors, execute_async_v3; create_execution_context_without_device_memory
    10 and on  named tensors; create_execution_context(strategy=USER_MANAGED); 64-bit integers
    RTX        as 10

Names and arguments are those of NVIDIA's bindings, python/src/infer/pyCore.cpp of github.com/NVIDIA/TensorRT at the
releases of 8.2, 8.6 and 10.x. Which way is taken is asked of the module, not of its version number.
"""

import ctypes
import mmap

import numpy as np

from ..errors import BundleProblem

# DataType's names, the same in every version that has them. nptype() is not used: in 8.2 it asks numpy for np.bool.
DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8",
          "INT64": "int64"}


NO_GPU = "there is no NVIDIA GPU here"
# What TensorRT 8 to 10 and TensorRT for RTX write to their log (seen there, or in posted logs), lower case.
REASONS = (
    ("version tag", "it was built by another version of TensorRT"),
    ("not compatible with this version", "it was built by another version of TensorRT"),
    ("incompatible serialization version", "it was built by another version of TensorRT, or is damaged"),
    ("magic tag", "it is no engine, or damaged"),
    ("incompatible device", "it was built on another kind of GPU"),
    ("driver version is insufficient", NO_GPU + ", or no driver for it"),
    ("no cuda-capable device", NO_GPU),
)


class EngineTensor(object):
    """An input or output of an engine: `name`, `is_input`, `shape` (tuple of ints), `dtype` (numpy's name)."""

    def __init__(self, name, is_input, shape, dtype):
        self.name = name
        self.is_input = is_input
        self.shape = shape
        self.dtype = dtype

    @property
    def size_bytes(self):
        """Bytes of its buffer."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def __str__(self):
        return "%s %s%s" % (self.name, self.dtype, list(self.shape))


def logger(trt, lines):
    """A TensorRT logger that appends warnings and errors to `lines` (list of str) and prints nothing."""

    class Log(trt.ILogger):
        """Collects messages; the base must be initialised or the binding crashes."""

        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, msg):
            """Called by TensorRT for every message."""
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                lines.append(msg)

    return Log()


class TensorRTEngine(object):
    """A loaded engine with one execution context, whose activation memory the caller gives.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`. path: the engine's file. name: of the part, for messages.
    Attributes: `tensors` (list of EngineTensor), `device_memory_bytes` (what `set_device_memory` needs).
    Raises: BundleProblem where this TensorRT cannot load it.
    """

    def __init__(self, trt, path, name):
        self.name = name
        self._trt = trt
        self._lines = []
        self._log = logger(trt, self._lines)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._load(path)
        self._context = None
        self._is_named = hasattr(trt.ICudaEngine, "num_io_tensors")
        self.tensors = self._named_tensors() if self._is_named else self._bound_tensors()
        for tensor in self.tensors:
            if any(size < 1 for size in tensor.shape):
                raise BundleProblem("engine %s: %s has no static shape" % (path, tensor), "build the bundle again")
        self.device_memory_bytes = self._memory_bytes()

    def open_context(self):
        """Makes the execution context, without activation memory of its own."""
        strategies = getattr(self._trt, "ExecutionContextAllocationStrategy", None)
        if strategies is not None:
            self._context = self._engine.create_execution_context(strategy=strategies.USER_MANAGED)
        else:
            self._context = self._engine.create_execution_context_without_device_memory()
        if self._context is None:
            raise BundleProblem("engine %s gives no execution context: %s" % (self.name, self._said()))

    def set_device_memory(self, address, size_bytes):
        """Gives the context its activation memory: at least `device_memory_bytes`, aligned to 256 bytes."""
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(address, size_bytes)
            return
        try:
            self._context.device_memory = address
        except TypeError:  # 8.2 binds the C++ setter itself, whose void* is a capsule to Python
            self._context.device_memory = _capsule(address)

    def bind(self, addresses):
        """Tells the context where its tensors are: name -> address."""
        missing = [tensor.name for tensor in self.tensors if tensor.name not in addresses]
        if missing:
            raise BundleProblem("engine %s: no memory was given for %s" % (self.name, ", ".join(missing)))
        if not self._is_named:
            self._bindings = [addresses[tensor.name] for tensor in self.tensors]
            return
        for tensor in self.tensors:
            if not self._context.set_tensor_address(tensor.name, addresses[tensor.name]):
                raise BundleProblem("engine %s refuses an address for %s: %s" % (self.name, tensor.name, self._said()))

    def enqueue(self, stream):
        """Puts one execution on `stream`. Raises BundleProblem where TensorRT refuses."""
        if self._is_named:
            done = self._context.execute_async_v3(stream_handle=stream)
        else:
            done = self._context.execute_async_v2(bindings=self._bindings, stream_handle=stream)
        if not done:
            raise BundleProblem("engine %s failed to run: %s" % (self.name, self._said()))

    def close(self):
        """Drops context, engine and runtime, in this order."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _load(self, path):
        # Mapped, not read: a Nano has no room for an engine of 200 MiB in memory once more.
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is not None:
            return engine
        is_rtx = self._trt.__name__ == "tensorrt_rtx"
        name = "TensorRT %s%s" % ("for RTX " if is_rtx else "", getattr(self._trt, "__version__", "?"))
        again = "build the bundle again with this version" if is_rtx else \
            "build it again on this machine: python3 -m runtime finish --again"
        reason = _reason(self._lines)
        fix = "run it on a machine with one" if reason.startswith(NO_GPU) else again
        raise BundleProblem("engine %s does not load in %s: %s" % (path, name, reason), fix)

    def _bound_tensors(self):
        engine = self._engine
        return [EngineTensor(engine.get_binding_name(index), engine.binding_is_input(index),
                             tuple(engine.get_binding_shape(index)), self._dtype(engine.get_binding_dtype(index)))
                for index in range(engine.num_bindings)]

    def _named_tensors(self):
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = self._trt.TensorIOMode.INPUT
        return [EngineTensor(name, engine.get_tensor_mode(name) == is_input, tuple(engine.get_tensor_shape(name)),
                             self._dtype(engine.get_tensor_dtype(name))) for name in names]

    def _memory_bytes(self):
        if hasattr(self._trt.ICudaEngine, "device_memory_size_v2"):  # from 10.1; the other is deprecated there
            return int(self._engine.device_memory_size_v2)
        return int(self._engine.device_memory_size)

    def _dtype(self, dtype):
        if dtype.name not in DTYPES:
            raise BundleProblem("engine %s has a tensor of type %s, which numpy lacks" % (self.name, dtype.name))
        return DTYPES[dtype.name]

    def _said(self):
        """TensorRT's last error, which its calls do not raise."""
        return self._lines[-1] if self._lines else "it gives no reason"


def _reason(lines):
    """In a few words, why an engine does not load, from what TensorRT wrote to its log."""
    text = " ".join(lines).lower()
    for words, meaning in REASONS:
        if words in text:
            return meaning
    return lines[0] if lines else "it gives no reason"


def _capsule(address):
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return make(address, None, None)
