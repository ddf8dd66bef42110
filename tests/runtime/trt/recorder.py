"""A module `tensorrt` that records what it is told, and has only the names of one version: others raise.

    trt = module("8.2.1.8")          the names of NVIDIA/TensorRT, python/src/infer/pyCore.cpp, at that release
    trt.calls                        [("create_network", 1), ("max_workspace_size", 67108864), ...]
"""

from types import SimpleNamespace

FLAGS = {
    "8.2": "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE",
    "8.5": "FP16 STRICT_TYPES REFIT TF32 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO",
    "8.6": "FP16 REFIT TF32 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS VERSION_COMPATIBLE",
    "10.3": "FP16 BF16 REFIT TF32 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS STRIP_PLAN WEIGHT_STREAMING",
    "11.1": "REFIT TF32 STRIP_PLAN WEIGHT_STREAMING",
}
SOURCES = {
    "8.2": "CUBLAS CUBLAS_LT CUDNN",
    "8.5": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    "8.6": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    "10.3": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    "11.1": "EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
}
NETWORK_FLAGS = {
    "8.2": "EXPLICIT_BATCH EXPLICIT_PRECISION", "8.5": "EXPLICIT_BATCH EXPLICIT_PRECISION", "8.6": "EXPLICIT_BATCH",
    "10.3": "EXPLICIT_BATCH STRONGLY_TYPED", "11.1": "STRONGLY_TYPED",
}
SETTABLE = {"8.2": ("max_workspace_size",), "8.5": ("max_workspace_size",), "8.6": ("max_workspace_size",)}
METHODS = {version: ("set_flag", "set_tactic_sources", "get_tactic_sources", "create_timing_cache", "set_timing_cache",
                     "get_timing_cache") for version in FLAGS}
for _version in ("8.5", "8.6", "10.3", "11.1"):
    METHODS[_version] += ("set_memory_pool_limit",)


class Strict:
    """Names that were given, and no others."""

    def __init__(self, **names):
        self.__dict__.update(names)


def enum(names):
    """Name -> its number, as pybind11's arithmetic enums."""
    return Strict(**{name: number for number, name in enumerate(names.split())})


class Config:
    """IBuilderConfig: records every setting."""

    def __init__(self, version, calls, cache_fits):
        object.__setattr__(self, "_own", (version, calls, cache_fits))

    def __setattr__(self, name, value):
        version, calls, _ = self._own
        if name not in SETTABLE.get(version, ()):
            raise AttributeError("IBuilderConfig of %s has no %s" % (version, name))
        calls.append((name, value))

    def __getattr__(self, name):
        version, calls, cache_fits = self._own
        if name not in METHODS[version]:
            raise AttributeError("IBuilderConfig of %s has no %s" % (version, name))

        def call(*arguments):
            calls.append((name,) + arguments)
            if name == "get_tactic_sources":
                return (1 << len(SOURCES[version].split())) - 1
            if name == "create_timing_cache":
                return "cache of %d" % len(arguments[0])
            if name == "set_timing_cache":
                return cache_fits or arguments[0] == "cache of 0"
            if name == "get_timing_cache":
                return SimpleNamespace(serialize=lambda: b"new timings")
            return True

        return call


class Layer:
    """ILayer with types; what is set is kept."""

    def __init__(self, type_, inputs, outputs):
        self.type = type_
        self._inputs = [dtype and SimpleNamespace(dtype=dtype) for dtype in inputs]
        self._outputs = [SimpleNamespace(dtype=dtype) for dtype in outputs]
        self.num_inputs, self.num_outputs = len(inputs), len(outputs)
        self.precision = None
        self.output_types = {}

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]

    def set_output_type(self, index, dtype):
        self.output_types[index] = dtype


def module(version, layers=(), engine=b"engine", says=(), parse_errors=(), cache_fits=True):
    """The module of `version` ("8.2.1.8"): its network has `layers` after parsing, its builder gives `engine` (None:
    it fails) and says `says`: (severity name, message); its parser fails with `parse_errors`: (node, sentence)."""
    short = ".".join(version.split(".")[:2])
    calls = []
    severity = enum("INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    class ILogger:
        Severity = severity

        def __init__(self):
            pass

    class Builder:
        def __init__(self, log):
            self._log = log

        def create_network(self, flags=0):
            calls.append(("create_network", flags))
            return Strict(num_layers=len(layers), get_layer=lambda index: layers[index], num_inputs=1,
                          get_input=lambda index: SimpleNamespace(dtype="half"))

        def create_builder_config(self):
            return Config(short, calls, cache_fits)

        def _build(self):
            calls.append(("build",))
            for level, message in says:
                self._log.log(getattr(severity, level), message)
            return engine

        if short == "11.1":
            def build_serialized_network_to_stream(self, network, config, writer):
                found = self._build()
                return found is not None and writer.write(found) == len(found)
        else:
            def build_serialized_network(self, network, config):
                return self._build()

    class OnnxParser:
        def __init__(self, network, log):
            self.num_errors = len(parse_errors)

        def parse_from_file(self, path):
            calls.append(("parse_from_file", path))
            return not parse_errors

        def get_error(self, index):
            node, sentence = parse_errors[index]
            return Strict(node=lambda: node, desc=lambda: sentence)

    names = {
        "__name__": "tensorrt", "__version__": version, "calls": calls, "float16": "half", "float32": "float",
        "ILogger": ILogger, "Builder": Builder, "OnnxParser": OnnxParser, "BuilderFlag": enum(FLAGS[short]),
        "TacticSource": enum(SOURCES[short]), "NetworkDefinitionCreationFlag": enum(NETWORK_FLAGS[short]),
        "LayerType": enum("CONVOLUTION CONSTANT ELEMENTWISE"),
    }
    if short != "8.2":
        names["MemoryPoolType"] = enum("WORKSPACE")
    if short == "11.1":
        names["IStreamWriter"] = ILogger
    return Strict(**names)
