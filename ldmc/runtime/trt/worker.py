"""One engine in one process, so that its memory is all given back, and that it can be killed without loss.

    python3 -m runtime.trt.worker REQUEST.json            (on the host: python -m ldmc.runtime.trt.worker)

REQUEST   source            ONNX file; its weights may lie beside it
          engine            file to write
          result            JSON file to write
          module            "tensorrt" or "tensorrt_rtx"
          workspace_bytes   most scratch memory of one layer; null leaves it to TensorRT
          tactic_sources    which of "cublas", "cublas_lt", "cudnn" may be tried; null leaves it to TensorRT
          timing_cache      file of timings to start from and to add to; null for none. TensorRT for RTX has none
          sm                compute capability to build for, as "86"; TensorRT for RTX only, else null
          weightless        an engine without weights, to be refitted; TensorRT for RTX only

RESULT    {"ok": true, "tensorrt": "8.2.1.8", "engine_bytes": ..., "layers": ..., "engine_layers": ...,
           "weights_bytes": ..., "activation_bytes": ..., "seconds": ..., "peak_rss_bytes": ...}
          {"ok": false, "error": "one sentence", "log": [last warnings and errors]}

Exit code 0 or 1. A worker that is killed writes no result.
"""

import importlib
import io
import json
import sys

from .. import memory
from ..errors import BundleProblem, first_line
from ..files import write_whole
from .builder import build_engine
from .log import Figures


def main(arguments):
    """Returns the exit code."""
    with io.open(arguments[0], encoding="utf-8") as stream:
        request = json.load(stream)
    figures = Figures()
    try:
        result = dict(build_engine(_module(request["module"]), request, figures), ok=True)
    except BundleProblem as problem:
        result = {"ok": False, "error": problem.message, "log": figures.lines}
    except OSError as problem:
        message = "%s cannot be written: %s" % (request["engine"], problem.strerror or problem)
        result = {"ok": False, "error": message, "log": figures.lines}
    result["peak_rss_bytes"] = memory.peak_rss_bytes()
    write_whole(request["result"], json.dumps(result, indent=1, sort_keys=True))
    return 0 if result["ok"] else 1


def _module(name):
    try:
        return importlib.import_module(name)
    except Exception as problem:  # one that is half installed raises whatever it meets
        raise BundleProblem("%s cannot be imported: %s" % (name, first_line(problem)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
