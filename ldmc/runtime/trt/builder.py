"""Builds one engine: ONNX file -> engine file, through TensorRT's Python API.

    parse from the file (TensorRT reads the weights itself) -> configure -> build -> write beside, rename

The parser lives until the engine is built: the network's weights are in its memory.
"""

import io
import os
import time

from .. import memory
from ..errors import BundleProblem
from ..files import replacing
from .api import Api
from .log import logger


def build_engine(trt, request, figures):
    """Builds the engine that `request` asks for; see `worker` for its keys.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        request: dict.
        figures: log.Figures, which gets what TensorRT says.
    Returns: dict: `tensorrt` (version), `engine_bytes`, `layers` (of the network, constants left out), `engine_layers`
        (of the engine, where several became one), `weights_bytes`, `activation_bytes` (None where this TensorRT does
        not say), `seconds`.
    Raises: BundleProblem where the file cannot be parsed or the engine not be built; OSError where it cannot be
        written.
    """
    start = time.perf_counter()
    api = Api(trt)
    log = logger(trt, figures)
    builder = trt.Builder(log)
    network = api.network(builder)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(request["source"]):
        raise BundleProblem(_parser_complaint(api, parser, request["source"], figures))
    config = api.config(builder, request)
    api.keep_types(network, config)
    cache = None if api.is_rtx else request.get("timing_cache")
    if cache:
        api.use_timing_cache(config, _content(cache))
    layers = network.num_layers
    memory.give_back_freed()  # what parsing left: on a Nano the GPU takes from the same memory
    with replacing(request["engine"]) as stream:
        if not api.build(builder, network, config, stream):
            raise BundleProblem(_build_complaint(api, request["source"], figures))
    if cache:
        with replacing(cache) as stream:
            stream.write(config.get_timing_cache().serialize())
    return {
        "tensorrt": api.version,
        "engine_bytes": os.path.getsize(request["engine"]),
        "layers": figures.values.get("layers", layers),
        "engine_layers": figures.values.get("engine_layers"),
        "weights_bytes": figures.values.get("weights_bytes"),
        "activation_bytes": figures.values.get("activation_bytes"),
        "seconds": time.perf_counter() - start,
    }


def _parser_complaint(api, parser, source, figures):
    """One sentence with the node."""
    if not parser.num_errors:
        return "%s cannot read %s" % (api.name, source)
    error = parser.get_error(0)
    node = figures.node or ("node %d" % error.node() if error.node() >= 0 else "its head")
    more = " (and %d more)" % (parser.num_errors - 1) if parser.num_errors > 1 else ""
    return "%s cannot read %s at %s: %s%s" % (api.name, source, node, _one_line(error.desc()), more)


def _build_complaint(api, source, figures):
    """One sentence with TensorRT's own first error."""
    said = ": %s" % _one_line(figures.errors[0]) if figures.errors else ""
    return "%s cannot build %s%s" % (api.name, os.path.basename(source), said)


def _content(path):
    """Bytes of a file; none where there is none yet."""
    if not os.path.exists(path):
        return b""
    with io.open(path, "rb") as stream:
        return stream.read()


def _one_line(text):
    return " ".join(text.split())
