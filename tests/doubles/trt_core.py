"""What the doubles of TensorRT share: reading graphs as its parser does, a memory model of its builder, and engines
that compute through ONNX Runtime over the addresses they are given.

An engine is a header in JSON, which names the ONNX file it was built from, and padding. It loads only in the version
and on the GPU it was built for. The environment steers it:

    TRT_DOUBLE_LIMIT_BYTES     a build that needs more is killed by SIGKILL, as the kernel would
    TRT_DOUBLE_OOM             "error": such a build fails with TensorRT's words instead
    TRT_DOUBLE_SECONDS         how long a build takes
    TRT_DOUBLE_STARTED         a file that gets a line for each build that starts: its graph and workspace
    TRT_DOUBLE_NOISE           the engines' outputs are this factor off
"""

import ctypes
import enum
import hashlib
import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import onnx_wire  # noqa: E402

OPERATORS = Path(__file__).parents[2] / "ldmc" / "targets" / "operators"
CUDNN_BYTES = 4 << 20
MAGIC = b"ENGINE DOUBLE\n"
# ONNX element type -> (numpy's name, the operator table's name)
ELEMENTS = {1: ("float32", "FP32"), 2: ("uint8", "UINT8"), 3: ("int8", "INT8"), 6: ("int32", "INT32"),
            7: ("int64", "INT64"), 9: ("bool", "BOOL"), 10: ("float16", "FP16"), 11: ("float64", "DOUBLE")}
FLOAT, INT64, BOOL, FLOAT16 = 1, 7, 9, 10
GIVES_BOOL = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf")


class Severity(enum.IntEnum):
    """As ILogger.Severity: INFO is larger than WARNING."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger(object):
    """Base of loggers. As with the real binding, a subclass that does not initialise it cannot be used."""

    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self):
        self._is_initialised = True

    def log(self, severity, msg):
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')


class Logger(ILogger):
    """Prints to stdout what is at least as severe as `min_severity`."""

    def __init__(self, min_severity=Severity.WARNING):
        ILogger.__init__(self)
        self.min_severity = min_severity

    def log(self, severity, msg):
        if severity <= self.min_severity:
            sys.stdout.write("[TRT] [%s] %s\n" % (severity.name[0], msg))


def usable_logger(logger):
    """The logger, if it is one."""
    if not isinstance(logger, ILogger):
        raise TypeError("incompatible constructor arguments: logger is %r" % (logger,))
    if not getattr(logger, "_is_initialised", False):
        raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
    return logger


class IHostMemory(bytes):
    """A block of memory with the buffer protocol."""

    @property
    def nbytes(self):
        return len(self)


class ParserError(object):
    """As nvonnxparser::IParserError."""

    __slots__ = ("_node", "_desc")

    def __init__(self, node, desc):
        self._node, self._desc = node, desc

    def code(self):
        return 8

    def desc(self):
        return self._desc

    def node(self):
        return self._node

    def file(self):
        return "ModelImporter.cpp"

    def line(self):
        return 0

    def func(self):
        return "parseGraph"

    def __str__(self):
        return "In node %d (parseGraph): UNSUPPORTED_NODE: %s" % (self._node, self._desc)


class Rules(object):
    """What one version's parser reads: `table` (operators/tensorrt-TABLE.json), `opset` and `ir` at most, and whether
    it has 64-bit integers."""

    def __init__(self, table, opset, ir, has_int64):
        self.operators = json.loads((OPERATORS / ("tensorrt-%s.json" % table)).read_text())["ops"]
        self.opset = opset
        self.ir = ir
        self.has_int64 = has_int64

    def element(self, kind):
        """numpy's name of an ONNX element type as the engine has it."""
        if kind == INT64 and not self.has_int64:
            return "int32"
        if kind == 11:
            return "float32"
        return ELEMENTS[kind][0]


class Graph(object):
    """A graph that was parsed, or why not: `errors` (list of ParserError).

    `path`, `model` (onnx_wire.Model), `types` (name -> element type of every tensor), `weights_bytes`, `is_garbage`:
    whether this version computes nonsense with it and does not say so.
    """

    def __init__(self, path, rules):
        self.path = os.path.abspath(path)
        self.rules = rules
        self.errors = []
        self.is_garbage = False
        if not os.path.isfile(path):
            self.errors.append(ParserError(-1, "Failed to open file: %s" % path))
            return
        self.model = onnx_wire.read_model(path)
        self.types = dict(self.model.types)
        self._check_model()
        for index, node in enumerate(self.model.nodes):
            self._check_node(index, node)
        self.weights_bytes = sum(tensor.size * np.dtype(ELEMENTS[tensor.type][0]).itemsize
                                 for tensor in self.model.initializers.values())

    def _check_model(self):
        model = self.model
        if model.ir_version > self.rules.ir or model.opset > self.rules.opset:
            self._refuse(-1, "opset %d and IR %d; read are %d and %d" % (
                model.opset, model.ir_version, self.rules.opset, self.rules.ir))
        for tensor in model.initializers.values():
            if not tensor.external:
                continue
            unknown = set(tensor.external) - {"location", "offset", "length", "checksum"}
            location = os.path.join(os.path.dirname(self.path), tensor.external["location"])
            end = int(tensor.external.get("offset", 0)) + int(tensor.external.get("length", 0))
            if unknown or not os.path.isfile(location) or os.path.getsize(location) < end:
                self._refuse(-1, "Failed to open file: %s" % location)

    def _check_node(self, index, node):
        entry = self.rules.operators.get(node.operator)
        if entry is None or not entry["supported"]:
            self._refuse(index, "No importer registered for op: %s" % node.operator)
            return
        kinds = [self.types.get(name) for name in node.inputs if name]
        for output in node.outputs:
            self.types.setdefault(output, _result(node, kinds))
        allowed = entry["types"]
        kind = kinds[1] if node.operator == "Where" and len(kinds) > 1 else kinds[0] if kinds else None
        if allowed and kind is not None and not _is_allowed(kind, allowed, self.rules):
            self._refuse(index, "Unsupported type %s for op %s (%s)" % (ELEMENTS[kind][1], node.operator, node.name))
        if self.rules.opset == 13:
            self._fall_into_traps(node)

    def _fall_into_traps(self, node):
        """What 8.2 reads wrong without a word."""
        if node.operator == "InstanceNormalization" and self.types.get(node.inputs[1]) == FLOAT16:
            self.is_garbage = True
        if node.operator == "Constant" and "value" not in node.attributes:
            self.is_garbage = True

    def _refuse(self, index, text):
        self.errors.append(ParserError(index, text))


def _result(node, kinds):
    """The element type of a node's outputs, as far as the doubles need it."""
    if node.operator == "Cast":
        return node.attributes["to"]
    if node.operator in ("Constant", "ConstantOfShape"):
        return node.tensor_types.get("value", FLOAT)
    if node.operator in ("Shape", "ArgMax", "Size"):
        return INT64
    if node.operator in GIVES_BOOL:
        return BOOL
    if node.operator == "Where" and len(kinds) > 1:
        return kinds[1]
    return kinds[0] if kinds else None


def _is_allowed(kind, allowed, rules):
    name = ELEMENTS[kind][1]
    if name in allowed:
        return True
    return name == "DOUBLE" and "FP32" in allowed or name == "INT64" and not rules.has_int64 and "INT32" in allowed \
        or name == "INT64" and "INT32" in allowed


def build_or_die(graph, workspace_bytes, has_cudnn, log):
    """Takes the memory and the time of a build. Returns: whether there was enough (or does not return at all)."""
    _note(graph, workspace_bytes, has_cudnn)
    time.sleep(float(os.environ.get("TRT_DOUBLE_SECONDS", "0")))
    # Two copies of the weights and one that is being tuned, the workspace, and what cuDNN takes.
    needed = 3 * graph.weights_bytes + workspace_bytes + (CUDNN_BYTES if has_cudnn else 0)
    limit = os.environ.get("TRT_DOUBLE_LIMIT_BYTES")
    if limit is None or needed <= int(limit):
        return True
    if os.environ.get("TRT_DOUBLE_OOM") != "error":
        os.kill(os.getpid(), signal.SIGKILL)
    log.log(Severity.ERROR, "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further "
            "information)")
    return False


def _note(graph, workspace_bytes, has_cudnn):
    path = os.environ.get("TRT_DOUBLE_STARTED")
    if path:
        with open(path, "a") as stream:
            stream.write("%s %d %s\n" % (os.path.basename(graph.path), workspace_bytes, "cudnn" if has_cudnn else "-"))


def serialize(graph, version, capability):
    """The engine of a graph, as bytes."""
    header = {
        "version": version, "capability": capability, "source": graph.path, "is_garbage": graph.is_garbage,
        "sha256": hashlib.sha256(io.open(graph.path, "rb").read()).hexdigest(),
        "layers": len(graph.model.nodes),
        "tensors": [
            {"name": value.name, "is_input": is_input, "shape": list(value.shape), "onnx": ELEMENTS[value.type][0],
             "dtype": graph.rules.element(value.type)}
            for is_input, values in ((True, graph.model.inputs), (False, graph.model.outputs)) for value in values],
    }
    content = json.dumps(header, sort_keys=True).encode()
    padding = b"\0" * min(graph.weights_bytes, 1 << 20)
    return IHostMemory(MAGIC + b"%12d" % len(content) + content + padding)


def deserialize(content, version, capability, log):
    """The header of an engine; None, with TensorRT's words in the log, where it is of another version or GPU."""
    content = bytes(memoryview(content))
    if not content.startswith(MAGIC):
        log.log(Severity.ERROR, "1: [stdArchiveReader.cpp::StdArchiveReader::32] Error Code 1: Serialization "
                "(Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match)")
        return _give_up(log)
    start = len(MAGIC) + 12
    size = int(content[len(MAGIC):start])
    header = json.loads(content[start:start + size].decode())
    if header["version"] != version:
        log.log(Severity.ERROR, "1: [stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization "
                "(Serialization assertion stdVersionRead == serializationVersion failed.Version tag does not match. "
                "Note: Current Version: 205, Serialized Engine Version: 213)")
        return _give_up(log)
    if header["capability"] != capability:
        log.log(Severity.ERROR, "6: The engine plan file is generated on an incompatible device, expecting compute %s "
                "got compute %s, please rebuild." % (capability, header["capability"]))
        return _give_up(log)
    return header


def _give_up(log):
    log.log(Severity.ERROR, "4: [runtime.cpp::deserializeCudaEngine::50] Error Code 4: Internal Error (Engine "
            "deserialization failed.)")


class Execution(object):
    """Runs an engine's graph over device addresses, and checks each as the GPU would."""

    def __init__(self, header, library, log):
        import onnxruntime
        self.header = header
        self._log = log
        self._cudart = ctypes.CDLL(library)
        self._cudart.doubleOwns.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._cudart.doubleHasStream.argtypes = (ctypes.c_void_p,)
        content = io.open(header["source"], "rb").read()
        assert hashlib.sha256(content).hexdigest() == header["sha256"], "the graph changed after the build"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(header["source"], options, providers=["CPUExecutionProvider"])

    def run(self, addresses, stream, activations, activation_bytes):
        """Whether it ran. addresses: by name. activations: address of the context's own memory, or None."""
        if not self._cudart.doubleHasStream(stream):
            return self._fail("the stream is invalid")
        if activation_bytes and activations is None:
            return self._fail("Device memory of the context is not set")
        if activation_bytes and (activations % 256 or not self._cudart.doubleOwns(activations, activation_bytes)):
            return self._fail("Device memory of the context is not of %d aligned bytes" % activation_bytes)
        for tensor in self.header["tensors"]:
            address = addresses[tensor["name"]]
            if address % 256 or not self._cudart.doubleOwns(address, _bytes(tensor)):
                return self._fail("an illegal memory access was encountered: %s" % tensor["name"])
        if activation_bytes:  # layers write here as they run, over whatever else is kept there
            ctypes.memset(activations, 0xAB, activation_bytes)
        self._compute(addresses)
        return True

    def _compute(self, addresses):
        feeds = {}
        for tensor in self.header["tensors"]:
            if tensor["is_input"]:
                feeds[tensor["name"]] = _view(tensor, addresses).astype(tensor["onnx"])
        outputs = [tensor for tensor in self.header["tensors"] if not tensor["is_input"]]
        found = self._session.run([tensor["name"] for tensor in outputs], feeds)
        for tensor, array in zip(outputs, found):
            if self.header["is_garbage"]:
                array = np.arange(array.size).reshape(array.shape) % 97
            noise = os.environ.get("TRT_DOUBLE_NOISE")
            if noise:
                array = array * float(noise)
            _view(tensor, addresses)[...] = array.astype(tensor["dtype"])

    def _fail(self, text):
        self._log.log(Severity.ERROR, "1: [genericReformat.cu::execute] Error Code 1: Cuda Runtime (%s)" % text)
        return False


def _bytes(tensor):
    return int(np.prod(tensor["shape"], dtype=np.int64)) * np.dtype(tensor["dtype"]).itemsize


def _view(tensor, addresses):
    """The tensor in device memory, as an array."""
    memory = (ctypes.c_char * _bytes(tensor)).from_address(addresses[tensor["name"]])
    return np.frombuffer(memory, tensor["dtype"]).reshape(tensor["shape"])


def capability():
    """Of the GPU that the libcudart double shows."""
    text = os.environ.get("CUDART_DOUBLE_CAPABILITY", "53")
    return "%s.%s" % (text[:-1], text[-1])
