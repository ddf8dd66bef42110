"""TensorRT 8.2.1's Python API, as much of it as a build and a run need, and nothing that 8.2.1 lacks.

Names, arguments and overloads: python/src/infer/pyCore.cpp, pyGraph.cpp and parsers/pyOnnx.cpp of
github.com/NVIDIA/TensorRT at release/8.2. Classes have no attributes beyond these, as pybind11's have none:
no set_memory_pool_limit, no builder_optimization_level, no named tensors, no STRONGLY_TYPED, no INT64.
"""

import ctypes
import enum
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import trt_core as core  # noqa: E402
from layers import Layer, LayerType, Tensor  # noqa: E402, F401
from trt_core import IHostMemory, ILogger, Logger  # noqa: E402, F401

__version__ = "8.2.1.8"
CUDART = "libcudart.so.10.2"
RULES = core.Rules("8.2", opset=13, ir=7, has_int64=False)


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4


float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32
_TYPES = {"float32": DataType.FLOAT, "float16": DataType.HALF, "int8": DataType.INT8, "int32": DataType.INT32,
          "bool": DataType.BOOL}


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    EXPLICIT_PRECISION = 1


class BuilderFlag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    DEBUG = 2
    GPU_FALLBACK = 3
    STRICT_TYPES = 4
    REFIT = 5
    DISABLE_TIMING_CACHE = 6
    TF32 = 7
    SPARSE_WEIGHTS = 8
    SAFETY_SCOPE = 9


class TacticSource(enum.IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2


class ITimingCache(object):
    __slots__ = ("content",)

    def __init__(self, content):
        self.content = content

    def serialize(self):
        return IHostMemory(self.content)

    def combine(self, input_cache, ignore_mismatch):
        return True

    def reset(self):
        self.content = b""
        return True


class IBuilderConfig(object):
    __slots__ = ("max_workspace_size", "flags", "_sources", "_cache")

    def __init__(self):
        self.max_workspace_size = 0
        self.flags = 0
        self._sources = 0b111
        self._cache = None

    def set_flag(self, flag):
        self.flags |= 1 << int(BuilderFlag(flag))

    def clear_flag(self, flag):
        self.flags &= ~(1 << int(BuilderFlag(flag)))

    def get_flag(self, flag):
        return bool(self.flags >> int(BuilderFlag(flag)) & 1)

    def set_tactic_sources(self, tactic_sources):
        if not isinstance(tactic_sources, int) or tactic_sources >> len(TacticSource):
            return False
        self._sources = int(tactic_sources)
        return True

    def get_tactic_sources(self):
        return self._sources

    def create_timing_cache(self, serialized_timing_cache):
        content = bytes(memoryview(serialized_timing_cache))
        return ITimingCache(content) if not content or content.startswith(b"CACHE 8.2") else None

    def set_timing_cache(self, cache, ignore_mismatch):
        if not isinstance(cache, ITimingCache) or not isinstance(ignore_mismatch, bool):
            raise TypeError("set_timing_cache(): incompatible function arguments")
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class INetworkDefinition(object):
    __slots__ = ("_flags", "_graph", "name")

    def __init__(self, flags):
        self._flags = flags
        self._graph = None
        self.name = ""

    @property
    def num_layers(self):
        return len(self._graph.model.nodes) if self._graph else 0

    @property
    def num_inputs(self):
        return len(self._graph.model.inputs) if self._graph else 0

    @property
    def num_outputs(self):
        return len(self._graph.model.outputs) if self._graph else 0

    @property
    def has_implicit_batch_dimension(self):
        return not self._flags & 1

    def get_layer(self, index):
        return Layer(self._graph.model.nodes[index], self._type)

    def get_input(self, index):
        value = self._graph.model.inputs[index]
        return Tensor(value.name, self._type(value.name), value.shape)

    def get_output(self, index):
        value = self._graph.model.outputs[index]
        return Tensor(value.name, self._type(value.name), value.shape)

    def _type(self, name):
        kind = self._graph.types.get(name)
        return None if kind is None else _TYPES[RULES.element(kind)]


class Builder(object):
    __slots__ = ("logger", "max_batch_size")
    platform_has_fast_fp16, platform_has_fast_int8, platform_has_tf32 = True, False, False

    def __init__(self, logger):
        self.logger = core.usable_logger(logger)
        self.max_batch_size = 1

    def create_network(self, flags=0):
        return INetworkDefinition(int(flags))

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        if not isinstance(network, INetworkDefinition) or not isinstance(config, IBuilderConfig):
            raise TypeError("build_serialized_network(): incompatible function arguments")
        graph = network._graph
        if graph is None:
            self.logger.log(ILogger.ERROR, "4: [network.cpp::validate] Error Code 4: Network has no outputs")
            return None
        has_cudnn = bool(config._sources >> TacticSource.CUDNN & 1)
        if not core.build_or_die(graph, config.max_workspace_size, has_cudnn, self.logger):
            return None
        if config._cache is not None:
            config._cache.content = b"CACHE 8.2 " + b"+" * (config._cache.content.count(b"+") + 1)
        return core.serialize(graph, __version__, core.capability())


class OnnxParser(object):
    __slots__ = ("_network", "_logger", "_errors")

    def __init__(self, network, logger):
        self._network = network
        self._logger = core.usable_logger(logger)
        self._errors = []

    def parse_from_file(self, model):
        if not isinstance(model, str):
            raise TypeError("parse_from_file(): incompatible function arguments")
        if self._network.has_implicit_batch_dimension:
            self._errors = [core.ParserError(-1, "This version of the ONNX parser only supports networks with an "
                                             "explicit batch dimension")]
            return False
        graph = core.Graph(model, RULES)
        self._errors = graph.errors
        if not graph.errors:
            self._network._graph = graph
        return not graph.errors

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors = []


class Runtime(object):
    __slots__ = ("logger",)

    def __init__(self, logger):
        self.logger = core.usable_logger(logger)

    def deserialize_cuda_engine(self, serialized_engine):
        header = core.deserialize(serialized_engine, __version__, core.capability(), self.logger)
        return None if header is None else ICudaEngine(core.Execution(header, CUDART, self.logger))


class ICudaEngine(object):
    __slots__ = ("_execution",)

    def __init__(self, execution):
        self._execution = execution

    @property
    def num_bindings(self):
        return len(self._tensors)

    @property
    def num_layers(self):
        return self._execution.header["layers"]

    @property
    def device_memory_size(self):
        return 4096 + 256 * self.num_layers

    @property
    def has_implicit_batch_dimension(self):
        return False

    def __len__(self):
        return self.num_bindings

    def get_binding_name(self, index):
        return self._tensors[index]["name"]

    def get_binding_index(self, name):
        names = [tensor["name"] for tensor in self._tensors]
        return names.index(name) if name in names else -1

    def binding_is_input(self, index):
        return self._tensor(index)["is_input"]

    def get_binding_shape(self, index):
        return tuple(self._tensor(index)["shape"])

    def get_binding_dtype(self, index):
        return _TYPES[self._tensor(index)["dtype"]]

    def create_execution_context(self):
        raise NotImplementedError("allocates memory of its own: the doubles have none to count it in")

    def create_execution_context_without_device_memory(self):
        return IExecutionContext(self)

    @property
    def _tensors(self):
        return self._execution.header["tensors"]

    def _tensor(self, index):
        return self._tensors[self.get_binding_index(index) if isinstance(index, str) else index]


class IExecutionContext(object):
    __slots__ = ("engine", "_memory")

    def __init__(self, engine):
        self.engine = engine
        self._memory = None

    def _set_device_memory(self, memory):
        # Bound to the C++ setter, whose void* takes a capsule; an int does not convert.
        if type(memory).__name__ != "PyCapsule":
            raise TypeError("(): incompatible function arguments. The following argument types are supported: 1. "
                            "(arg0: tensorrt.tensorrt.IExecutionContext, arg1: capsule) -> None")
        read = ctypes.pythonapi.PyCapsule_GetPointer
        read.restype, read.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        self._memory = read(memory, None)

    device_memory = property(None, _set_device_memory)

    def execute_async_v2(self, bindings, stream_handle, input_consumed=None):
        if not isinstance(bindings, list) or not all(isinstance(address, int) for address in bindings):
            raise TypeError("execute_async_v2(): incompatible function arguments")
        names = [tensor["name"] for tensor in self.engine._tensors]
        if len(bindings) != len(names):
            raise SystemError("segmentation fault: %d bindings for %d tensors" % (len(bindings), len(names)))
        return self.engine._execution.run(
            dict(zip(names, bindings)), stream_handle, self._memory, self.engine.device_memory_size)
