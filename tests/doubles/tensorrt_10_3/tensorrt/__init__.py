"""TensorRT 10.3's Python API, as much of it as a build and a run need, and nothing that 10.3 lacks.

Names, arguments and overloads: python/src/infer/pyCore.cpp, pyGraph.cpp and parsers/pyOnnx.cpp of
github.com/NVIDIA/TensorRT at release/10. Gone since 8: bindings, execute_async_v2, max_workspace_size, STRICT_TYPES,
implicit batch. New: 64-bit integers, STRONGLY_TYPED, memory pools, named tensors, allocation strategies.
"""

import enum
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import trt_core as core  # noqa: E402
from layers import Layer, LayerType, Tensor  # noqa: E402, F401
from trt_core import IHostMemory, ILogger, Logger  # noqa: E402, F401

__version__ = "10.3.0"
CUDART = "libcudart.so.12"
RULES = core.Rules("10.3", opset=20, ir=10, has_int64=True)


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9


float32, float16, int8, int32, int64 = (
    DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32, DataType.INT64)
_TYPES = {"float32": DataType.FLOAT, "float16": DataType.HALF, "int8": DataType.INT8, "int32": DataType.INT32,
          "int64": DataType.INT64, "bool": DataType.BOOL, "uint8": DataType.UINT8}


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class BuilderFlag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    DEBUG = 2
    GPU_FALLBACK = 3
    REFIT = 4
    DISABLE_TIMING_CACHE = 5
    TF32 = 6
    SPARSE_WEIGHTS = 7
    SAFETY_SCOPE = 8
    OBEY_PRECISION_CONSTRAINTS = 9
    PREFER_PRECISION_CONSTRAINTS = 10
    STRIP_PLAN = 19


class TacticSource(enum.IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    DLA_LOCAL_DRAM = 2
    DLA_GLOBAL_DRAM = 3
    TACTIC_DRAM = 4
    TACTIC_SHARED_MEMORY = 5


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


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
    __slots__ = ("flags", "builder_optimization_level", "_pools", "_sources", "_cache")

    def __init__(self):
        self.flags = 0
        self.builder_optimization_level = 3
        self._pools = {MemoryPoolType.WORKSPACE: 0}
        self._sources = 0b11000
        self._cache = None

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[MemoryPoolType(pool)] = int(pool_size)

    def get_memory_pool_limit(self, pool):
        return self._pools[MemoryPoolType(pool)]

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
        return ITimingCache(content) if not content or content.startswith(b"CACHE 10.3") else None

    def set_timing_cache(self, cache, ignore_mismatch):
        if not isinstance(cache, ITimingCache) or not isinstance(ignore_mismatch, bool):
            raise TypeError("set_timing_cache(): incompatible function arguments")
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class INetworkDefinition(object):
    __slots__ = ("_is_typed", "_graph", "name")

    def __init__(self, flags):
        self._is_typed = bool(flags >> NetworkDefinitionCreationFlag.STRONGLY_TYPED & 1)
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
    __slots__ = ("logger", "max_threads")
    platform_has_fast_fp16, platform_has_fast_int8, platform_has_tf32 = True, True, True

    def __init__(self, logger):
        self.logger = core.usable_logger(logger)
        self.max_threads = 1

    def create_network(self, flags=0):
        return INetworkDefinition(int(flags))

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        if not isinstance(network, INetworkDefinition) or not isinstance(config, IBuilderConfig):
            raise TypeError("build_serialized_network(): incompatible function arguments")
        graph = network._graph
        if graph is None:
            self.logger.log(ILogger.ERROR, "[network.cpp::validate] Error Code 4: Network has no outputs")
            return None
        if network._is_typed and config.flags & (1 << BuilderFlag.FP16 | 1 << BuilderFlag.INT8):
            self.logger.log(ILogger.ERROR, "Error Code 4: precision flags are not allowed in a strongly typed network")
            return None
        has_cudnn = bool(config._sources >> TacticSource.CUDNN & 1)
        if not core.build_or_die(graph, config._pools[MemoryPoolType.WORKSPACE], has_cudnn, self.logger):
            return None
        if config._cache is not None:
            config._cache.content = b"CACHE 10.3 " + b"+" * (config._cache.content.count(b"+") + 1)
        return core.serialize(graph, __version__, core.capability())


class OnnxParser(object):
    __slots__ = ("_network", "_errors")

    def __init__(self, network, logger):
        core.usable_logger(logger)
        self._network = network
        self._errors = []

    def parse_from_file(self, model):
        if not isinstance(model, str):
            raise TypeError("parse_from_file(): incompatible function arguments")
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
    __slots__ = ("logger", "max_threads")

    def __init__(self, logger):
        self.logger = core.usable_logger(logger)
        self.max_threads = 1

    def deserialize_cuda_engine(self, serialized_engine):
        header = core.deserialize(serialized_engine, __version__, core.capability(), self.logger)
        return None if header is None else ICudaEngine(core.Execution(header, CUDART, self.logger))


class ICudaEngine(object):
    __slots__ = ("_execution",)

    def __init__(self, execution):
        self._execution = execution

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    @property
    def num_layers(self):
        return self._execution.header["layers"]

    @property
    def device_memory_size_v2(self):
        return 4096 + 256 * self.num_layers

    def get_tensor_name(self, index):
        return self._tensors[index]["name"]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if self._tensor(name)["is_input"] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self._tensor(name)["shape"])

    def get_tensor_dtype(self, name):
        return _TYPES[self._tensor(name)["dtype"]]

    def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
        if strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
            raise NotImplementedError("allocates memory of its own: the doubles have none to count it in")
        return IExecutionContext(self)

    @property
    def _tensors(self):
        return self._execution.header["tensors"]

    def _tensor(self, name):
        return next(tensor for tensor in self._tensors if tensor["name"] == name)


class IExecutionContext(object):
    __slots__ = ("engine", "_memory", "_addresses")

    def __init__(self, engine):
        self.engine = engine
        self._memory = None
        self._addresses = {}

    def _set_device_memory(self, memory):
        if not isinstance(memory, int):
            raise TypeError("(): incompatible function arguments: device_memory takes an int")
        self._memory = memory

    device_memory = property(None, _set_device_memory)

    def set_tensor_address(self, name, memory):
        if not isinstance(memory, int):
            raise TypeError("set_tensor_address(): incompatible function arguments")
        if name not in [tensor["name"] for tensor in self.engine._tensors]:
            return False
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle):
        if len(self._addresses) != self.engine.num_io_tensors:
            return False
        return self.engine._execution.run(
            self._addresses, stream_handle, self._memory, self.engine.device_memory_size_v2)
