"""What the engines' libraries say of this machine; runs in a child process, so that they never load in the parent."""

import importlib
import json
import platform
import sys

from ..errors import first_line
from ..onnx_runtime import import_onnxruntime


def probe(module):
    """Asks the TensorRT module, CUDA, numpy and ONNX Runtime for what `machine` checks.

    Returns: dict of `python`, `numpy`, `tensorrt`, `cuda`, `compute_capability`, `onnxruntime_providers`; what is not
        there is empty, and `problems` (name -> sentence) says why.
    """
    found = {"python": platform.python_version(), "problems": {}}
    for name, ask in (("numpy", lambda: _version("numpy")), ("tensorrt", lambda: _version(module)),
                      ("cuda", lambda: _cuda().version),
                      ("compute_capability", lambda: _cuda().compute_capability()),
                      ("onnxruntime_providers", _providers)):
        try:
            found[name] = ask()
        except Exception as problem:  # whatever a library does when it is half installed
            found[name] = ""
            found["problems"][name] = first_line(problem)
    return found


def _version(name):
    return importlib.import_module(name).__version__


def _cuda():
    from ..cuda import Cuda
    return Cuda()


def _providers():
    return import_onnxruntime().get_available_providers()


def main(arguments):
    """`MODULE RESULT`: writes what `probe` finds to the file RESULT."""
    module, result = arguments
    found = probe(module)
    with open(result, "w") as stream:
        json.dump(found, stream)
    sys.stdout.flush()
    return 0
