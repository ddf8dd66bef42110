"""What differs between versions of TensorRT's builder, in one place. A version is never asked for what it lacks.

                 8.2                    8.4+                    10.x               11, and TensorRT for RTX
    network      EXPLICIT_BATCH                                 STRONGLY_TYPED     nothing to say: it is both
    precision    FP16 flag, float32 layers constrained:         the graph's types  the graph's types
                 STRICT_TYPES           PREFER_PRECISION_...
    workspace    max_workspace_size     set_memory_pool_limit
    tactics      set_tactic_sources                                                no cuBLAS, no cuDNN
    cache        timing cache                                                      RTX: none, it asks for a GPU
    writes       a block of memory                                                 a stream

TensorRT for RTX counts its own versions; its API is that of TensorRT 11. It is told the compute capability to build
for, and needs no GPU.

Sources: the Python bindings in NVIDIA/TensorRT (python/src/infer/pyCore.cpp, 7.2, 8.2, 8.5, 10), the API reference of
8.0 to 11.4, the guide "Removed Python APIs" of 11, and tensorrt_rtx 1.7.1 itself.
"""

from ..errors import BundleProblem
from ..versions import release

# Libraries whose tactics can be left out, as the request and TensorRT's TacticSource name them.
LIBRARIES = ("cublas", "cublas_lt", "cudnn")


class Api(object):
    """TensorRT as one version has it.

    Args: trt: the module `tensorrt` or `tensorrt_rtx`.
    Attributes: `trt`; `version` (str); `is_rtx`; `is_strongly_typed`: tensors have the types of the graph, so that
        nothing is to be said about precision.
    """

    def __init__(self, trt):
        self.trt = trt
        self.version = trt.__version__
        self.is_rtx = trt.__name__ == "tensorrt_rtx"
        numbers = release(self.version)[:2]
        self._at_least = lambda *wanted: self.is_rtx or numbers >= wanted
        self.is_strongly_typed = self._at_least(10, 0)

    @property
    def name(self):
        """As people call it, with its version."""
        return "TensorRT %s%s" % ("for RTX " if self.is_rtx else "", self.version)

    def network(self, builder):
        """An empty network, of explicit batch."""
        flag = self.trt.NetworkDefinitionCreationFlag
        if self._at_least(11, 0):
            return builder.create_network(0)
        return builder.create_network(1 << int(flag.STRONGLY_TYPED if self.is_strongly_typed else flag.EXPLICIT_BATCH))

    def config(self, builder, request):
        """The builder's configuration as the request says, less the timing cache.

        Raises: BundleProblem where this TensorRT does not build for the compute capability.
        """
        config = builder.create_builder_config()
        if request.get("workspace_bytes"):
            self._limit_workspace(config, request["workspace_bytes"])
        if request.get("tactic_sources") is not None and not self._at_least(11, 0):
            config.set_tactic_sources(self._tactics(config.get_tactic_sources(), request["tactic_sources"]))
        if request.get("sm"):
            self._set_compute_capability(config, request["sm"])
        if request.get("weightless"):
            for name in ("REFIT", "STRIP_PLAN"):
                config.set_flag(getattr(self.trt.BuilderFlag, name))
        return config

    def keep_types(self, network, config):
        """Have a weakly typed network (8.x) compute as its graph says: half where tensors are, float32 where not.

        The flag FP16 alone lets TensorRT compute any layer in half, those too that the graph has in float32 because
        they overflow. Constraints are preferred, not obeyed: with the latter a build fails where a fused kernel
        has no float32 form. 8.2 knows the preference in Python only by its older name.
        """
        if self.is_strongly_typed or not _has(network, self.trt.float16):
            return
        config.set_flag(self.trt.BuilderFlag.FP16)
        flag = self.trt.BuilderFlag
        config.set_flag(flag.PREFER_PRECISION_CONSTRAINTS if self._at_least(8, 4) else flag.STRICT_TYPES)
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.type != self.trt.LayerType.CONSTANT and set(_dtypes(layer)) == {self.trt.float32}:
                layer.precision = self.trt.float32
                for output in range(layer.num_outputs):
                    layer.set_output_type(output, self.trt.float32)

    def use_timing_cache(self, config, content):
        """Have the builder start from timings measured before.

        Args: content: bytes of a cache, empty for none.
        Returns: whether there will be a cache to keep after the build.
        """
        if self.is_rtx:
            return False
        cache = config.create_timing_cache(content)
        if cache is None or not config.set_timing_cache(cache, False):  # of another GPU or version
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return True

    def build(self, builder, network, config, stream):
        """Builds, and writes the engine to `stream` (binary). Returns: whether it was built; the log says why not."""
        if self._at_least(11, 0):  # not a second copy of the engine in memory
            return builder.build_serialized_network_to_stream(network, config, _writer(self.trt, stream))
        memory = builder.build_serialized_network(network, config)
        if memory is not None:
            stream.write(memory)
        return memory is not None

    def _limit_workspace(self, config, size):
        if self._at_least(8, 4):
            config.set_memory_pool_limit(self.trt.MemoryPoolType.WORKSPACE, size)
        else:
            config.max_workspace_size = size

    def _tactics(self, mask, wanted):
        """TensorRT's own sources as they are, and of the libraries only those that are wanted."""
        for library in LIBRARIES:
            bit = 1 << int(getattr(self.trt.TacticSource, library.upper()))
            mask = mask | bit if library in wanted else mask & ~bit
        return mask

    def _set_compute_capability(self, config, sm):
        capability = getattr(self.trt.ComputeCapability, "SM%s" % sm, None)
        if capability is None:
            raise BundleProblem("%s does not build for compute capability %s" % (self.name, sm))
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)


def _writer(trt, stream):
    """`stream` as TensorRT writes to it. The class is made here because its base is known only now."""

    class Writer(trt.IStreamWriter):
        def __init__(self):
            trt.IStreamWriter.__init__(self)

        def write(self, data):
            return stream.write(data)

    return Writer()


def _has(network, dtype):
    """Whether any tensor of the network is of that type."""
    inputs = [network.get_input(index).dtype for index in range(network.num_inputs)]
    return dtype in inputs or any(
        dtype in _dtypes(network.get_layer(index)) for index in range(network.num_layers))


def _dtypes(layer):
    """Types of the layer's tensors, in and out. An input that is not connected is None."""
    inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    return [tensor.dtype for tensor in inputs + outputs if tensor is not None]
